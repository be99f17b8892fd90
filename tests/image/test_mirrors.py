"""Mirrors and policy: where an image comes from changes nothing about what it has to be."""

from __future__ import annotations

import json

import pytest
from tests.simulators.memory_registry import MemoryRegistry

from enclave_cc.core.errors import RefusedError
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.registries.configuration import Registries
from enclave_cc.formats.signatures.policy import SignaturePolicy
from enclave_cc.image.cache import BlobCache, CacheThenRegistry
from enclave_cc.image.keys.layer_key import KeyRing
from enclave_cc.image.layers.opening import open_layer
from enclave_cc.tenant.push import push_image
from enclave_cc.tenant.signing.sign import sign_image
from enclave_cc.transport.registry.mirrored import MirroredRegistry, MirrorHealth

KEY_URI = "kbs:///default/cosign/1"
CONFIG = b"""
[[registry]]
prefix = "registry.example"
[[registry.mirror]]
location = "lax.example/cache"
"""
SIGNED = {"type": "sigstoreSigned", "keyPath": KEY_URI}
ANYTHING = {"type": "insecureAcceptAnything"}


def mirrored(registry):
    return MirroredRegistry(
        Registries.parse(CONFIG, strict=True), registry, quick=registry, health=MirrorHealth()
    )


def policy(**scopes):
    named = {name: [requirement] for name, requirement in scopes.items()}
    return SignaturePolicy.parse(
        json.dumps({"default": [{"type": "reject"}], "transports": {"docker": named}}).encode()
    )


def push_to_mirror(world, layout):
    """Put an image where only the mirror has it."""
    return push_image(layout, Reference.parse("lax.example/cache/team/app:1"), world.registry)


def test_a_mirror_does_not_move_an_image_into_its_own_laxer_scope(world):
    push_to_mirror(world, world.encrypted)
    scopes = policy(**{"registry.example": SIGNED, "lax.example": ANYTHING})
    with pytest.raises(RefusedError) as caught:
        world.verify(registry=mirrored(world.registry), policy=scopes)
    assert caught.value.code == "signature-missing"


def test_a_mirror_that_the_policy_rejects_may_bring_what_the_policy_accepts(world):
    sign_image(
        world.encrypted,
        world.encrypted.find(),
        repository="registry.example/team/app",
        private_key_pem=world.private_key,
    )
    push_to_mirror(world, world.encrypted)
    scopes = policy(**{"registry.example": SIGNED, "lax.example": {"type": "reject"}})
    image = world.verify(registry=mirrored(world.registry), policy=scopes)
    assert image.reference == world.reference


def test_a_signature_under_the_mirrors_name_is_none_for_the_image(world):
    sign_image(
        world.encrypted,
        world.encrypted.find(),
        repository="lax.example/cache/team/app",
        private_key_pem=world.private_key,
    )
    push_to_mirror(world, world.encrypted)
    with pytest.raises(RefusedError) as caught:
        world.verify(registry=mirrored(world.registry), policy=policy(**{"registry.example": SIGNED}))
    assert caught.value.code == "signature-identity-refused"


class LyingMirror(MemoryRegistry):
    """Serves wrong blobs under the mirror's name and right ones under the image's own."""

    def __init__(self, honest):
        super().__init__()
        self.blobs, self.manifests = honest.blobs, honest.manifests

    def blob(self, reference, descriptor_digest, *, offset=0):
        if reference.registry == "lax.example":
            self.calls.append(("lie", descriptor_digest))
            return iter([bytes(len(self.blobs[descriptor_digest]))])
        return super().blob(reference, descriptor_digest, offset=offset)


def test_a_cache_and_a_mirror_that_lie_cost_a_retry_each_and_never_the_pull(world, tmp_path):
    world.publish()
    image = world.verify()
    registry = LyingMirror(world.registry)
    for layer in image.layers:
        path = tmp_path / "cache" / "sha256" / layer.descriptor.digest.hex
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(layer.descriptor.size))
    source = CacheThenRegistry(BlobCache(tmp_path / "cache"), mirrored(registry))
    for layer, tar in zip(image.layers, world.tars, strict=True):
        assert b"".join(open_layer(layer, source=source, keys=KeyRing(world.resources))) == tar
    # The first lie was enough.
    assert len([call for call, _ in registry.calls if call == "lie"]) == 1


@pytest.mark.parametrize("lie", [b"", b"lie", bytes(100_000)], ids=["nothing", "short", "too much"])
def test_a_mirror_that_lies_about_the_configuration_does_not_end_the_pull(world, lie):
    world.publish()
    push_to_mirror(world, world.encrypted)

    class Mirror(LyingMirror):
        def blob(self, reference, descriptor_digest, *, offset=0):
            if reference.registry == "lax.example":
                self.calls.append(("lie", descriptor_digest))
                return iter([lie] if lie else [])
            return super().blob(reference, descriptor_digest, offset=offset)

    registry = Mirror(world.registry)
    accepted = policy(**{"registry.example": ANYTHING})
    assert world.verify(registry=mirrored(registry), policy=accepted).reference == world.reference
    assert "lie" in [call for call, _ in registry.calls]
