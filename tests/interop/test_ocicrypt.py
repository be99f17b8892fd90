"""
ocicrypt itself, the library below skopeo, containerd and podman, in a current version.

It opens what we encrypt, we open what it encrypts, and it wraps and unwraps through our key provider, which
Debian's skopeo is too old for.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.interop.programs import program

from enclave_cc.core.digest import Digest
from enclave_cc.core.secret import Secret
from enclave_cc.formats.oci.descriptor import Descriptor
from enclave_cc.formats.ocicrypt.annotation_packet import KEYS_ANNOTATION
from enclave_cc.formats.ocicrypt.layer_cipher import (
    PUBLIC_OPTIONS_ANNOTATION,
    LayerAuthenticator,
    LayerDecryptor,
    LayerEncryptor,
    PrivateOptions,
)
from enclave_cc.formats.ocicrypt.wrapping import BrokerKey, wrapped_annotations
from enclave_cc.image.checks import Checks
from enclave_cc.tenant.keyproviders.grpc_client import GrpcProvider
from enclave_cc.tenant.keyproviders.provider import NamedProvider
from enclave_cc.tenant.keys.decryption_keys import open_key_ring

KID = "kbs:///team/keys/app"
PLAIN = b"a layer" * 10_000
PROVIDER = """
import json, sys
request = json.load(sys.stdin)
if request["op"] == "keywrap":
    print(json.dumps({"keywrapresults": {"annotation": request["keywrapparams"]["optsdata"]}}))
else:
    print(json.dumps({"keyunwrapresults": {"optsdata": request["keyunwrapparams"]["annotation"]}}))
"""


def ocicrypt(operation, source, target, *names, annotations=None, config=None):
    environment = {**os.environ, **({"OCICRYPT_KEYPROVIDER_CONFIG": str(config)} if config else {})}
    done = subprocess.run(
        [program("ocicrypt-layer"), operation, source, target, *map(str, names)],
        input=json.dumps(annotations),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if operation == "encrypt" else target.read_bytes()


def encrypt(recipients):
    """Encrypt a layer as our tools do."""
    options = PrivateOptions.fresh(Digest.of(PLAIN))
    encryptor = LayerEncryptor(options)
    sealed = encryptor.update(PLAIN)
    public = {PUBLIC_OPTIONS_ANNOTATION: encryptor.finish().encode()}
    return sealed, {**public, **wrapped_annotations(options, recipients)}


def decrypt(sealed, annotations, keys):
    """Open a layer as our agent does."""
    key = keys.unwrap(Descriptor("t", Digest.of(sealed), len(sealed), annotations), Checks())
    authenticator = LayerAuthenticator(key.private)
    authenticator.update(sealed)
    assert str(authenticator.finding("hmac", key.public).outcome) == "passed"
    plain = LayerDecryptor(key.private).update(sealed)
    key.private.digest.verify(plain)
    return plain


@pytest.fixture
def plain(tmp_path):
    (tmp_path / "plain").write_bytes(PLAIN)
    return tmp_path / "plain"


def test_ocicrypt_opens_what_we_encrypt(tmp_path, owner):
    sealed, annotations = encrypt([owner.recipient])
    (tmp_path / "sealed").write_bytes(sealed)
    keys = owner.decryption_keys
    assert ocicrypt("decrypt", tmp_path / "sealed", tmp_path / "out", *keys, annotations=annotations) == PLAIN


def test_we_open_what_ocicrypt_encrypts(tmp_path, plain, owner):
    annotations = ocicrypt("encrypt", plain, tmp_path / "sealed", owner.encryption_key)
    assert decrypt((tmp_path / "sealed").read_bytes(), annotations, owner.ring()) == PLAIN


def test_we_open_what_ocicrypt_encrypts_for_several(tmp_path, plain, owner, other_owner):
    names = [other_owner.encryption_key, owner.encryption_key]
    annotations = ocicrypt("encrypt", plain, tmp_path / "sealed", *names)
    sealed = (tmp_path / "sealed").read_bytes()
    for one in (owner, other_owner):
        assert decrypt(sealed, annotations, one.ring()) == PLAIN


def test_we_open_envelopes_of_ocicrypt_for_several_certificates(tmp_path, plain, make_owner):
    owners = [make_owner("pkcs7", name) for name in "abc"]
    names = [one.encryption_key for one in owners]
    annotations = ocicrypt("encrypt", plain, tmp_path / "sealed", *names)
    for one in owners:
        assert decrypt((tmp_path / "sealed").read_bytes(), annotations, one.ring()) == PLAIN


@pytest.fixture
def served(tmp_path):
    """Our key provider as a person starts it, the configuration for ocicrypt, and what it said."""
    (tmp_path / "image.key").write_bytes(bytes(range(32)))
    command = [Path(sys.executable).parent / "enclave-cc", "image", "keyprovider", "serve"]
    command += ["--listen", "127.0.0.1:0", "--key", f"{KID}={tmp_path}/image.key"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        ready = process.stderr.readline()
        address = re.search(r"ready at (\S+),", ready).group(1)
        config = tmp_path / "ocicrypt.conf"
        config.write_text(json.dumps({"key-providers": {"attestation-agent": {"grpc": address}}}))
        yield config, address, process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_ocicrypt_wraps_through_our_key_provider_and_agents_open_it(tmp_path, plain, served):
    config, _, _ = served
    name = f"provider:attestation-agent:keypath={tmp_path}/image.key::keyid={KID}::algorithm=A256GCM"
    annotations = ocicrypt("encrypt", plain, tmp_path / "sealed", name, config=config)
    assert KEYS_ANNOTATION in annotations
    ring = open_key_ring([f"{KID}={tmp_path}/image.key"])
    assert decrypt((tmp_path / "sealed").read_bytes(), annotations, ring) == PLAIN


def test_ocicrypt_unwraps_what_we_encrypt_through_our_key_provider(tmp_path, served):
    config, address, process = served
    provider = NamedProvider("attestation-agent", f"keyid={KID}", GrpcProvider(address))
    recipients = [BrokerKey(Secret(bytes(range(32))), KID), provider]
    for recipient in recipients:
        sealed, annotations = encrypt([recipient])
        (tmp_path / "sealed").write_bytes(sealed)
        names = ["provider:attestation-agent"]
        opened = ocicrypt(
            "decrypt", tmp_path / "sealed", tmp_path / "out", *names, annotations=annotations, config=config
        )
        assert opened == PLAIN
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 0
    said = process.stderr.read().splitlines()
    assert said == [f"UnWrapKey done with {KID}", f"WrapKey done with {KID}", f"UnWrapKey done with {KID}"]


def test_programs_as_key_providers_are_spoken_to_as_ocicrypt_speaks(tmp_path, plain):
    config = tmp_path / "ocicrypt.conf"
    command = {"cmd": {"path": sys.executable, "args": ["-c", PROVIDER]}}
    config.write_text(json.dumps({"key-providers": {"plain": command}}))
    annotations = ocicrypt("encrypt", plain, tmp_path / "sealed", "provider:plain:x=y", config=config)
    ring = open_key_ring(["provider:plain"], keyprovider_config=config)
    assert decrypt((tmp_path / "sealed").read_bytes(), annotations, ring) == PLAIN
