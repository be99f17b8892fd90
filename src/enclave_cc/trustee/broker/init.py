"""Makes everything that a new broker needs: keys, a certificate, an administrator's token, settings."""

from __future__ import annotations

import ipaddress
import json
import os
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from enclave_cc.trustee.appraisal.collateral import URL_SCHEMES

if TYPE_CHECKING:
    from collections.abc import Sequence

_VALIDITY: Final = timedelta(days=825)
# Clocks of nodes are a little behind now and then.
_BACKDATING: Final = timedelta(minutes=5)
_ADMIN_TOKEN_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class BrokerFiles:
    """Where ``init_broker`` put things; ``tls_ca`` and ``token_public_key`` belong into initdata."""

    config: Path
    tls_ca: Path
    token_public_key: Path
    admin_token: Path
    url: str


def init_broker(
    directory: Path,
    host: str,
    port: int,
    names: Sequence[str],
    *,
    insecure_simulation_root: Path | None = None,
    insecure_simulation_collateral: str = "",
) -> BrokerFiles:
    """
    Fill a new directory; raise ``FileExistsError`` rather than replace a key.

    ``names`` are the host names and addresses that clients will use. Simulated evidence is accepted
    only when its root and the source of its collateral (file or URL) are given.
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    tls_key, token_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    certificate = _certificate(tls_key, [*names] or [host])
    files = BrokerFiles(
        config=directory / "broker.toml",
        tls_ca=directory / "tls.crt",
        token_public_key=directory / "token.pub",
        admin_token=directory / "admin.token",
        url=f"https://{_in_url((names or [host])[0])}:{port}",
    )
    _write(directory / "tls.key", _private_pem(tls_key))
    _write(files.tls_ca, certificate.public_bytes(Encoding.PEM))
    _write(directory / "token.key", _private_pem(token_key))
    spki = token_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    _write(files.token_public_key, spki)
    _write(files.admin_token, secrets.token_urlsafe(_ADMIN_TOKEN_BYTES).encode())
    simulation = _simulation(insecure_simulation_root, insecure_simulation_collateral)
    _write(files.config, (_SETTINGS.format(listen=_toml(f"{_in_url(host)}:{port}")) + simulation).encode())
    return files


_SETTINGS: Final = """listen = {listen}
tls_cert = "tls.crt"
tls_key = "tls.key"
store = "broker.sqlite"
admin_token = "admin.token"
token_key = "token.key"
"""


def _simulation(root: Path | None, collateral: str) -> str:
    if root is None:
        return ""
    # Settings read relative paths from beside their file; here they are meant from where the caller is.
    source = collateral if collateral.startswith(URL_SCHEMES) else str(Path(collateral).resolve())
    return (
        "\n[simulation]\n"
        "# Evidence of this platform proves nothing about protection.\n"
        "insecure_accept_simulation = true\n"
        f"root = {_toml(str(root.resolve()))}\n"
        f"collateral = {_toml(source)}\n"
    )


def _certificate(key: ec.EllipticCurvePrivateKey, names: Sequence[str]) -> x509.Certificate:
    """Make a self-signed server certificate, which clients pin as their only CA."""
    now = datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "enclave-cc broker")])
    usage = x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - _BACKDATING).not_valid_after(now + _VALIDITY)
    for extension, critical in (
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (usage, True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
        (x509.SubjectAlternativeName([_general_name(item) for item in names]), False),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), False),
    ):
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(key, SHA256())


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _toml(text: str) -> str:
    """Write a TOML text; JSON's escapes are a subset of TOML's."""
    return json.dumps(text)


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _write(path: Path, data: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
