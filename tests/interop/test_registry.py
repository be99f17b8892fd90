"""Our client against a registry made by others, with a password."""

from __future__ import annotations

import hashlib
import json
import os

import pytest
from tests.interop.programs import running_debian_registry

from enclave_cc.core.errors import InvalidInputError
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.registries.credentials import Credentials
from enclave_cc.transport.registry.client import RegistryClient

# bcrypt of "secret"
HTPASSWD = "alice:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    with running_debian_registry(tmp_path_factory.mktemp("registry"), htpasswd=HTPASSWD) as address:
        yield address


@pytest.fixture
def client(host):
    client = RegistryClient(insecure_http=[host], credentials=lambda _: Credentials("alice", "secret"))
    yield client
    client.close()


def _push(client, reference, data):
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    chunks = (data[start : start + 300_000] for start in range(0, len(data), 300_000))
    client.upload_stream(reference, chunks, digest=lambda: digest, size=len(data))
    return digest


@pytest.mark.parametrize("size", [0, 1000, 8 << 20, (20 << 20) + 1])
def test_what_was_pushed_in_pieces_comes_back_whole_and_from_the_middle(client, host, size):
    reference, data = Reference.parse(f"{host}/team/app:1"), os.urandom(size)
    digest = _push(client, reference, data)
    assert client.has_blob(reference, digest)
    assert b"".join(client.blob(reference, digest)) == data
    middle = size // 2
    assert b"".join(client.blob(reference, digest, offset=middle)) == data[middle:]


def test_a_blob_is_mounted_from_another_repository(client, host):
    digest = _push(client, Reference.parse(f"{host}/team/base:1"), os.urandom(1000))
    derived = Reference.parse(f"{host}/team/derived:1")
    assert client.mount_blob(derived, digest, source="team/base")
    assert client.has_blob(derived, digest)


def test_it_keeps_no_referrers_itself_so_the_tag_stands_in(client, host):
    reference = Reference.parse(f"{host}/team/signed:1")
    config = _push(client, reference, b"{}")
    descriptor = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": 2}
    manifest = {"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": descriptor, "layers": []}
    body = json.dumps(manifest).encode()
    digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
    assert not client.put_manifest(reference, "1", body, MANIFEST_TYPE)
    assert json.loads(client.referrers(reference, digest=digest).body)["manifests"] == []
    index_type = "application/vnd.oci.image.index.v1+json"
    entry = {"mediaType": MANIFEST_TYPE, "digest": digest, "size": len(body)}
    index = json.dumps({"schemaVersion": 2, "mediaType": index_type, "manifests": [entry]}).encode()
    client.put_manifest(reference, digest.replace(":", "-"), index, index_type)
    assert client.referrers(reference, digest=digest).body == index


@pytest.mark.parametrize("credentials", [None, Credentials("alice", "wrong")])
def test_a_stranger_is_denied(host, credentials):
    client = RegistryClient(insecure_http=[host], credentials=lambda _: credentials)
    with pytest.raises(InvalidInputError) as caught:
        client.manifest(Reference.parse(f"{host}/team/app:1"), digest_or_tag="1")
    assert caught.value.code == "registry-access-denied"
    client.close()
