"""
Cosign's own form of an encrypted private key: scrypt over the password, secretbox over a PKCS #8 key.

The file is PEM around JSON; older ones say COSIGN where newer ones say SIGSTORE.
"""

from __future__ import annotations

import base64
import os
import re
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from enclave_cc.core import strict_json
from enclave_cc.formats.oci.edge import decode_base64, read_object
from enclave_cc.tenant.signing import secretbox

if TYPE_CHECKING:
    from enclave_cc.core.fields import Fields

_PEM: Final = re.compile(
    rb"\s*-----BEGIN ENCRYPTED (SIGSTORE|COSIGN) PRIVATE KEY-----\s(.*?)"
    rb"-----END ENCRYPTED \1 PRIVATE KEY-----\s*",
    re.DOTALL,
)
_LINE_CHARS: Final = 64
_MAX_BYTES: Final = 64 << 10
_SALT_BYTES: Final = 32
# What cosign writes: 64 MiB of memory. Twice that is accepted, a file that asks for gigabytes is not.
_N, _R, _P = 1 << 16, 8, 1
_MAX_N: Final = 1 << 17
_KDF, _CIPHER = "scrypt", "nacl/secretbox"


def is_cosign_key(data: bytes) -> bool:
    """Tell whether a file holds an encrypted key of cosign's form."""
    return _PEM.fullmatch(data) is not None


def open_cosign_key(data: bytes, password: bytes) -> bytes:
    """Return the PKCS #8 key as DER; raise ``ValueError`` for a malformed file or another password."""
    match = _PEM.fullmatch(data)
    if match is None or len(data) > _MAX_BYTES:
        raise ValueError("not an encrypted key of cosign's form")
    body = decode_base64(b"".join(match[2].split()).decode("ascii"), "key")
    fields = read_object(body, "key", max_bytes=_MAX_BYTES)
    kdf, cipher = fields.object("kdf"), fields.object("cipher")
    if (kdf.text("name"), cipher.text("name")) != (_KDF, _CIPHER):
        raise fields.error("kdf", "or the cipher is unknown")
    key = _derive(kdf, password)
    nonce = decode_base64(cipher.text("nonce"), "nonce")
    return secretbox.unseal(decode_base64(fields.text("ciphertext"), "ciphertext"), key=key, nonce=nonce)


def seal_cosign_key(pkcs8: bytes, password: bytes) -> bytes:
    """Write a PKCS #8 key (DER) as cosign does."""
    salt, nonce = os.urandom(_SALT_BYTES), os.urandom(secretbox.NONCE_BYTES)
    key = Scrypt(salt=salt, length=secretbox.KEY_BYTES, n=_N, r=_R, p=_P).derive(password)
    document = {
        "kdf": {"name": _KDF, "params": {"N": _N, "r": _R, "p": _P}, "salt": _text(salt)},
        "cipher": {"name": _CIPHER, "nonce": _text(nonce)},
        "ciphertext": _text(secretbox.seal(pkcs8, key=key, nonce=nonce)),
    }
    body = _text(strict_json.canonical(document))
    lines = [body[start : start + _LINE_CHARS] for start in range(0, len(body), _LINE_CHARS)]
    name = "ENCRYPTED SIGSTORE PRIVATE KEY"
    return "\n".join((f"-----BEGIN {name}-----", *lines, f"-----END {name}-----", "")).encode("ascii")


def _derive(kdf: Fields, password: bytes) -> bytes:
    params = kdf.object("params")
    n, r, p = params.integer("N"), params.integer("r"), params.integer("p")
    if not (1 < n <= _MAX_N and n & (n - 1) == 0 and (r, p) == (_R, _P)):
        raise params.error("N", "or its neighbours are not what cosign writes")
    salt = decode_base64(kdf.text("salt"), "salt")
    return Scrypt(salt=salt, length=secretbox.KEY_BYTES, n=n, r=r, p=p).derive(password)


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
