"""The owner's private signing keys: which kinds and files there are, and how each kind signs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.formats.signatures.public_key import PublicKey
from enclave_cc.tenant.signing.cosign_key_file import is_cosign_key, open_cosign_key, seal_cosign_key

if TYPE_CHECKING:
    from collections.abc import Callable

_PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey
_MAX_BYTES: Final = 64 << 10
_ENCRYPTED: Final = b"ENCRYPTED"


def no_password() -> bytes:
    """Refuse to give a password: for callers whose keys have none."""
    raise _bad_key("it is encrypted, and there is no password")


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key and its public half: P-256, P-384, Ed25519, or RSA from 2048 bits."""

    _private: _PrivateKey
    public: PublicKey

    @classmethod
    def load(cls, data: bytes, password: Callable[[], bytes] = no_password) -> Self:
        """
        Read a key file; raise ``InvalidInputError`` (signing-key-invalid).

        PEM with PKCS #8 (plain or encrypted), SEC 1 or PKCS #1, or cosign's encrypted form. The password
        is asked for only where one is needed.
        """
        try:
            return cls.of(_read(data, password))
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise _bad_key(str(error)) from error

    @classmethod
    def of(cls, key: object) -> Self:
        """Take a key of a known kind; raise ``ValueError`` for another."""
        if not isinstance(key, _PrivateKey):
            raise ValueError(f"{type(key).__name__} does not sign")  # noqa: TRY004  # one error for what a file may hold
        return cls(key, PublicKey.of(key.public_key()))

    @classmethod
    def generate(cls) -> Self:
        """Make a P-256 key, as cosign does."""
        return cls.of(ec.generate_private_key(ec.SECP256R1()))

    def sign(self, message: bytes) -> bytes:
        """Sign as cosign does: ECDSA (DER) and RSA (PKCS #1 v1.5) with SHA-256 whatever their size."""
        match self._private:
            case ed25519.Ed25519PrivateKey() as key:
                return key.sign(message)
            case rsa.RSAPrivateKey() as key:
                return key.sign(message, padding.PKCS1v15(), hashes.SHA256())
            case _ as key:
                return key.sign(message, ec.ECDSA(hashes.SHA256()))

    def to_pem(self, password: bytes | None = None) -> bytes:
        """Write the key: in cosign's encrypted form with a password, as plain PKCS #8 without."""
        plain = serialization.NoEncryption()
        form = serialization.PrivateFormat.PKCS8
        if password is None:
            return self._private.private_bytes(serialization.Encoding.PEM, form, plain)
        return seal_cosign_key(self._private.private_bytes(serialization.Encoding.DER, form, plain), password)


def generate_signing_key() -> tuple[bytes, bytes]:
    """Make a P-256 key pair; return the private key (PKCS #8) and the public one, both PEM."""
    key = SigningKey.generate()
    return key.to_pem(), key.public.to_pem()


def _read(data: bytes, password: Callable[[], bytes]) -> object:
    if len(data) > _MAX_BYTES:
        raise ValueError("longer than any key")
    if is_cosign_key(data):
        return serialization.load_der_private_key(open_cosign_key(data, password()), password=None)
    secret = password() if _ENCRYPTED in data else None
    return serialization.load_pem_private_key(data, password=secret)


def _bad_key(detail: str) -> InvalidInputError:
    return InvalidInputError(
        "signing-key-invalid", "the signing key cannot be used", stage=Stage.CONFIG, detail=detail
    )
