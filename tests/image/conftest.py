from __future__ import annotations

import dataclasses
import json
import os

import pytest
from tests.simulators.memory_registry import MemoryRegistry, MemoryResources

from enclave_cc.core.secret import Secret
from enclave_cc.formats.oci.manifest import Manifest
from enclave_cc.formats.oci.media_types import Compression
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.ocicrypt.wrapping import BrokerKey
from enclave_cc.formats.signatures.policy import SignaturePolicy
from enclave_cc.image.pull import verify_image
from enclave_cc.tenant.building.image import LayerInput, ProcessDescription, build_image
from enclave_cc.tenant.building.layers import LayerBuilder
from enclave_cc.tenant.encryption.layouts import encrypt_image
from enclave_cc.tenant.places.image_layout import ImageLayout
from enclave_cc.tenant.push import push_image
from enclave_cc.tenant.signing.sign import generate_signing_key, sign_image

KEY_URI = "kbs:///default/cosign/1"
KID = "kbs:///default/key/1"


class World:
    """A tenant, a registry and a broker; each test bends one of them."""

    def __init__(self, directory):
        self.reference = Reference.parse("registry.example/team/app:1")
        self.registry = MemoryRegistry()
        self.kek = Secret.random(32)
        self.private_key, public_key = generate_signing_key()
        self.resources = MemoryResources({KEY_URI: public_key, KID: bytes(self.kek.reveal())})
        self.tars = [
            LayerBuilder().file("bin/app", b"#!/bin/sh\n", mode=0o755).file("big", os.urandom(300_000)).tar(),
            LayerBuilder().whiteout("bin/app").directory("srv", uid=5).tar(),
        ]
        self.plain = ImageLayout.create(directory / "plain")
        self.encrypted = ImageLayout.create(directory / "encrypted")
        layers = [LayerInput(self.tars[0], Compression.ZSTD), LayerInput(self.tars[1], Compression.GZIP)]
        build_image(self.plain, layers, ProcessDescription(entrypoint=("/bin/app",), env=("A=b",)))
        encrypt_image(self.plain, self.encrypted, [BrokerKey(self.kek, KID)])

    def publish(self, *, encrypted=True, signed_for="registry.example/team/app", key=None):
        layout = self.encrypted if encrypted else self.plain
        if signed_for:
            sign_image(layout, layout.find(), repository=signed_for, private_key_pem=key or self.private_key)
        return push_image(layout, self.reference, self.registry).digest

    def verify(self, **options):
        settings = {
            "manifest_digest": None,
            "registry": self.registry,
            "resources": self.resources,
            "policy": self.policy(),
            "require_encrypted": True,
        }
        return verify_image(self.reference, **{**settings, **options})

    def policy(self, **members):
        changed = {"type": "sigstoreSigned", "keyPath": KEY_URI, **members}
        requirement = {name: value for name, value in changed.items() if value is not None}
        return SignaturePolicy.parse(json.dumps({"default": [requirement]}).encode())

    def republish(self, change):
        """Replace the manifest under the tag by a changed one, unsigned."""
        body = self.registry.manifests[self.reference.name, "1"].body
        changed = change(Manifest.parse(body))
        data = changed if isinstance(changed, bytes) else changed.to_bytes()
        self.registry.put_manifest(self.reference, "1", data, "")

    def replace_layer(self, number, **members):
        def change(manifest):
            layers = list(manifest.layers)
            layers[number] = dataclasses.replace(layers[number], **members)
            return dataclasses.replace(manifest, layers=tuple(layers))

        self.republish(change)


ANYTHING = SignaturePolicy.insecure_accept_anything()


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)
