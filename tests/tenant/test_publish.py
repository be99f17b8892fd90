"""From the tenant's directory through a registry on loopback into the enclave's pipeline."""

import json
import os
import random

import pytest
from tests.simulators.memory_registry import MemoryResources
from tests.simulators.registry import running_registry

from enclave_cc.core.secret import Secret
from enclave_cc.formats.oci.media_types import Compression
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.ocicrypt.wrapping import BrokerKey
from enclave_cc.formats.registries.credentials import Credentials
from enclave_cc.formats.signatures.policy import SignaturePolicy
from enclave_cc.image.cache import BlobCache, CacheThenRegistry
from enclave_cc.image.keys.layer_key import KeyRing
from enclave_cc.image.pull import open_layer, verify_image
from enclave_cc.tenant.building.image import LayerInput, ProcessDescription, build_image
from enclave_cc.tenant.building.layers import LayerBuilder
from enclave_cc.tenant.encryption.layouts import encrypt_image
from enclave_cc.tenant.inspect import inspect
from enclave_cc.tenant.places.image_layout import ImageLayout
from enclave_cc.tenant.places.registry import RegistryReader
from enclave_cc.tenant.push import push_image
from enclave_cc.tenant.signing.sign import generate_signing_key, sign_image
from enclave_cc.transport.registry.client import RegistryClient

KID = "kbs:///default/key/1"
KEY_URI = "kbs:///default/cosign/1"


@pytest.mark.parametrize("auth", ["", "bearer"])
def test_what_the_tenant_publishes_is_accepted_and_opens(tmp_path, auth):
    with running_registry() as simulator:
        simulator.auth = auth
        client = RegistryClient(
            insecure_http=[simulator.host], credentials=lambda _: Credentials("alice", "secret")
        )
        reference = Reference.parse(f"{simulator.host}/team/app:1")
        kek, (private, public) = Secret.random(32), generate_signing_key()
        tars = [
            LayerBuilder().file("big", random.Random(1).randbytes(2_000_000) + bytes(2_000_000)).tar(),
            LayerBuilder().whiteout("big").tar(),
            LayerBuilder().file("again", os.urandom(10)).tar(),
        ]
        compressions = (Compression.GZIP, Compression.ZSTD, Compression.NONE)
        layers = [LayerInput(tar, how) for tar, how in zip(tars, compressions, strict=True)]
        plain, encrypted = ImageLayout.create(tmp_path / "p"), ImageLayout.create(tmp_path / "e")
        build_image(plain, layers, ProcessDescription(("/bin/app",)))
        manifest = encrypt_image(plain, encrypted, [BrokerKey(kek, KID)])
        sign_image(encrypted, manifest, repository=reference.name, private_key_pem=private)
        pushed = push_image(encrypted, reference, client)
        assert pushed.digest == manifest.digest
        assert len(pushed.signatures) == 1

        report = inspect(RegistryReader(client, reference), reference)
        assert (report.encrypted, len(report.images[0].signatures)) == (True, 1)

        resources = MemoryResources({KID: bytes(kek.reveal()), KEY_URI: public})
        policy = {"default": [{"type": "sigstoreSigned", "keyPath": KEY_URI}]}
        image = verify_image(
            reference,
            manifest_digest=manifest.digest,
            registry=client,
            resources=resources,
            policy=SignaturePolicy.parse(json.dumps(policy).encode()),
            require_encrypted=True,
        )
        source = CacheThenRegistry(BlobCache(tmp_path / "no-cache"), client)
        opened = [
            b"".join(map(bytes, open_layer(layer, source=source, keys=KeyRing(resources))))
            for layer in image.layers
        ]
        assert opened == tars
        client.close()


def test_pushing_again_uploads_nothing(tmp_path):
    with running_registry() as simulator:
        client = RegistryClient(insecure_http=[simulator.host])
        reference = Reference.parse(f"{simulator.host}/team/app:1")
        layout = ImageLayout.create(tmp_path / "p")
        build_image(layout, [LayerInput(b"")], ProcessDescription())
        push_image(layout, reference, client)
        simulator.requests.clear()
        push_image(layout, reference, client)
        assert simulator.paths("POST") == []
        client.close()
