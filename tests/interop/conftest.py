"""Keys in files as other tools want them, and a plain image."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from enclave_cc.formats.ocicrypt.jwe_item import JweRecipient
from enclave_cc.formats.ocicrypt.pkcs7_item import CertificateRecipient
from enclave_cc.formats.ocicrypt.private_key import parse_private_key
from enclave_cc.image.keys.layer_key import KeyRing
from enclave_cc.image.keys.schemes import NamedKey

if TYPE_CHECKING:
    from pathlib import Path

SCHEMES = ["jwe-rsa", "jwe-p256", "jwe-p384", "jwe-p521", "pkcs7"]


@dataclass
class Owner:
    """A recipient as ours, as skopeo's `--encryption-key`, and the files for `--decryption-key`."""

    recipient: object
    encryption_key: str
    private_key: Path
    decryption_keys: list[Path]

    def ring(self):
        return KeyRing(
            private_keys=[NamedKey("owner", lambda: parse_private_key(self.private_key.read_bytes()))]
        )


def _certificate(key):
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "owner.example")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now, now + dt.timedelta(days=1)
    )
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM)


@pytest.fixture(params=SCHEMES)
def owner(request, tmp_path):
    return _owner(request.param, tmp_path / "owner")


@pytest.fixture
def other_owner(tmp_path):
    return _owner("jwe-rsa", tmp_path / "other")


@pytest.fixture
def make_owner(tmp_path):
    return lambda scheme, name: _owner(scheme, tmp_path / name)


def _owner(scheme, directory):
    directory.mkdir()
    curves = {"jwe-p256": ec.SECP256R1, "jwe-p384": ec.SECP384R1, "jwe-p521": ec.SECP521R1}
    curve = curves.get(scheme)
    key = ec.generate_private_key(curve()) if curve else rsa.generate_private_key(65537, 2048)
    private_key, public = directory / "owner.key", directory / "owner.pub"
    private_key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    if scheme == "pkcs7":
        public.write_bytes(_certificate(key))
        recipient = CertificateRecipient.parse(public.read_bytes())
        return Owner(recipient, f"pkcs7:{public}", private_key, [private_key, public])
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return Owner(JweRecipient.parse(public.read_bytes()), f"jwe:{public}", private_key, [private_key])
