"""
The layer cipher AES_256_CTR_HMAC_SHA256 and the two option documents that go with it.

The blob is ``AES-256-CTR(compressed tar)`` and nothing else; HMAC-SHA-256 under the same key
covers the ciphertext. The HMAC stands in the *public* options on the descriptor; key, nonce and
the digest of the compressed tar stand in the *private* options, which travel wrapped (see
``annotation_packet``). Decrypting and authenticating are separate objects on purpose: the caller
decides when the whole ciphertext has been authenticated, and nothing here hides that step.
"""

from __future__ import annotations

import base64
import hmac as constant_time
import os
from dataclasses import dataclass
from typing import Final, Self

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hmac import HMAC

from enclave_cc.core import strict_json
from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import Stage
from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.core.secret import Secret
from enclave_cc.formats.oci.edge import decode_base64, foreign, read_object

CIPHER: Final = "AES_256_CTR_HMAC_SHA256"
PUBLIC_OPTIONS_ANNOTATION: Final = "org.opencontainers.image.enc.pubopts"

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 16
HMAC_BYTES: Final = 32
# Both documents hold a handful of short members.
MAX_OPTIONS_BYTES: Final = 4096

Chunk = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class PublicOptions:
    """What stands readable beside the ciphertext."""

    hmac: bytes
    nonce: bytes = b""

    @classmethod
    def parse(cls, annotation: str) -> Self:
        """Read the annotation; raise ``InvalidInputError`` (layer-encryption-invalid) otherwise."""
        with foreign(
            "layer-encryption-invalid", "a layer's encryption options are malformed", stage=Stage.DECRYPT
        ):
            if len(annotation) > 2 * MAX_OPTIONS_BYTES:
                raise ValueError("pubopts: too long")
            data = decode_base64(annotation, "pubopts")
            fields = read_object(data, "pubopts", max_bytes=MAX_OPTIONS_BYTES)
            if fields.text("cipher") != CIPHER:
                raise fields.error("cipher", "is not known here")
            nonce = fields.object("cipheroptions").text("nonce", default="")
            return cls(
                hmac=_exactly(decode_base64(fields.text("hmac"), "pubopts.hmac"), HMAC_BYTES, "hmac"),
                nonce=_exactly(decode_base64(nonce, "pubopts.nonce"), NONCE_BYTES, "nonce") if nonce else b"",
            )

    def encode(self) -> str:
        """Write the annotation."""
        members = {"cipher": CIPHER, "hmac": _base64(self.hmac), "cipheroptions": {}}
        return _base64(strict_json.canonical(members))


@dataclass(frozen=True, slots=True)
class PrivateOptions:
    """What only the holder of the wrapping key may read; ``digest`` is that of the compressed tar."""

    symkey: Secret
    nonce: bytes
    digest: Digest

    @classmethod
    def fresh(cls, digest: Digest) -> Self:
        """Draw key and nonce for one layer; a key never serves a second stream."""
        return cls(Secret.random(KEY_BYTES), os.urandom(NONCE_BYTES), digest)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """
        Read the unwrapped document; raise ``InvalidInputError`` (layer-encryption-invalid) otherwise.

        Every member is required: a nonce that anybody but the wrapper chose would decrypt to noise
        under a valid HMAC.
        """
        with foreign(
            "layer-encryption-invalid", "a layer's encryption options are malformed", stage=Stage.DECRYPT
        ):
            fields = read_object(data, "options", max_bytes=MAX_OPTIONS_BYTES)
            symkey = decode_base64(fields.text("symkey"), "options.symkey")
            nonce = decode_base64(fields.object("cipheroptions").text("nonce"), "options.nonce")
            return cls(
                symkey=Secret(_exactly(symkey, KEY_BYTES, "symkey")),
                nonce=_exactly(nonce, NONCE_BYTES, "nonce"),
                digest=Digest.parse(fields.text("digest")),
            )

    def encode(self) -> bytes:
        """Write the document to be wrapped; ocicrypt's format wants the key as text inside it."""
        return strict_json.canonical(
            {
                "symkey": _base64(self.symkey.reveal()),
                "digest": str(self.digest),
                "cipheroptions": {"nonce": _base64(self.nonce)},
            }
        )


class LayerEncryptor:
    """Encrypts one layer, chunk by chunk, and authenticates what it made."""

    def __init__(self, options: PrivateOptions) -> None:
        self._cipher = Cipher(algorithms.AES(options.symkey.reveal()), modes.CTR(options.nonce)).encryptor()
        self._hmac = HMAC(options.symkey.reveal(), hashes.SHA256())
        self._buffer = bytearray()

    def update(self, chunk: Chunk) -> bytes:
        """
        Encrypt the next chunk; the result has the same length and is the caller's.

        Into a buffer first: only so does the cipher let other threads run meanwhile.
        """
        if len(self._buffer) < len(chunk):
            self._buffer = bytearray(len(chunk))
        buffer = memoryview(self._buffer)
        ciphertext = bytes(buffer[: self._cipher.update_into(chunk, buffer)])
        self._hmac.update(ciphertext)
        return ciphertext

    def finish(self) -> PublicOptions:
        """Close the stream and return what goes onto the descriptor."""
        self._cipher.finalize()
        return PublicOptions(hmac=self._hmac.finalize())


class LayerAuthenticator:
    """Runs over the whole ciphertext and says whether the key's holder made it."""

    def __init__(self, options: PrivateOptions) -> None:
        self._hmac = HMAC(options.symkey.reveal(), hashes.SHA256())

    def update(self, chunk: Chunk) -> None:
        """Take the next chunk of ciphertext."""
        self._hmac.update(chunk)

    def finding(self, rule: str, public: PublicOptions) -> Finding:
        """Compare with the HMAC on the descriptor, after the last chunk, once."""
        actual = self._hmac.finalize()
        outcome = Outcome.PASSED if constant_time.compare_digest(actual, public.hmac) else Outcome.FAILED
        return Finding(rule, outcome, public.hmac.hex(), actual.hex())


class LayerDecryptor:
    """Decrypts one layer, chunk by chunk; it knows nothing about authenticity."""

    def __init__(self, options: PrivateOptions) -> None:
        self._cipher = Cipher(algorithms.AES(options.symkey.reveal()), modes.CTR(options.nonce)).decryptor()
        self._buffer = bytearray()

    def update(self, chunk: Chunk) -> memoryview:
        """
        Decrypt the next chunk; the result has the same length and is valid until the next call.

        One buffer serves all chunks: only so does the cipher let other threads run meanwhile.
        """
        if len(self._buffer) < len(chunk):
            self._buffer = bytearray(len(chunk))
        plain = memoryview(self._buffer)
        return plain[: self._cipher.update_into(chunk, plain)]


def _exactly(value: bytes, size_bytes: int, name: str) -> bytes:
    if len(value) != size_bytes:
        raise ValueError(f"{name}: is not {size_bytes} bytes long")
    return value


def _base64(data: Chunk) -> str:
    return base64.b64encode(data).decode("ascii")
