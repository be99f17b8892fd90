"""Key exchange, key schedule and the sealed frames.

X25519, HKDF-SHA256 (extract with the transcript as salt), and per direction and stage one
ChaCha20-Poly1305 key with a counting nonce. A frame's associated data holds the transcript and its number:
frames cannot be moved, dropped or replayed.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from enclave_cc.core.secret import Secret
from enclave_cc.core.secret_memory import overwrite
from enclave_cc.formats.framing import lp
from enclave_cc.formats.local_attestation.port import refused

_NONCE_BYTES: Final = 12
_KEY_BYTES: Final = 32
_TAG_BYTES: Final = 16
# A session carries a handful of frames; far below any limit of the cipher.
_MAX_FRAMES: Final = 64


class Box:
    """Seals or opens the frames of one direction in one stage, in order."""

    def __init__(self, key: Secret, iv: bytes, transcript: bytes) -> None:
        self._cipher = ChaCha20Poly1305(key.reveal())
        self._iv = int.from_bytes(iv, "big")
        self._transcript = transcript
        self._number = 0

    def seal(self, plaintext: bytes | memoryview | bytearray) -> bytes:
        """Seal the next frame."""
        nonce, associated = self._next()
        return self._cipher.encrypt(nonce, plaintext, associated)

    def open(self, frame: bytes) -> bytearray:
        """Open the next frame into a buffer that the caller can wipe; RefusedError for any other."""
        nonce, associated = self._next()
        if len(frame) < _TAG_BYTES:
            raise refused("frame: too short")
        plaintext = bytearray(len(frame) - _TAG_BYTES)
        try:
            self._cipher.decrypt_into(nonce, frame, associated, plaintext)
        except InvalidTag as error:
            raise refused("frame: not the peer's next frame") from error
        return plaintext

    def _next(self) -> tuple[bytes, bytes]:
        if self._number >= _MAX_FRAMES:
            raise refused("frame: too many in one session")
        nonce = (self._iv ^ self._number).to_bytes(_NONCE_BYTES, "big")
        associated = lp(self._transcript, self._number.to_bytes(8, "big"))
        self._number += 1
        return nonce, associated


@dataclass(frozen=True, slots=True)
class Boxes:
    """Both directions of one stage."""

    from_app: Box
    from_agent: Box


def agree(private: X25519PrivateKey, peer_share: bytes, transcript: bytes) -> Secret:
    """HKDF-Extract of the shared point; RefusedError for a low-order share.

    `cryptography` refuses an all-zero shared point (RFC 7748, section 6.1), which is what every low-order
    share gives.
    """
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(peer_share))
    except ValueError as error:
        raise refused("share: a low-order point") from error
    extracted = hmac.digest(transcript, shared, hashlib.sha256)
    secret = Secret(extracted)
    overwrite(shared)
    overwrite(extracted)
    return secret


def boxes(secret: Secret, stage: bytes, transcript: bytes) -> Boxes:
    """Boxes of one stage under the transcript so far."""
    return Boxes(_box(secret, stage, b"app", transcript), _box(secret, stage, b"agent", transcript))


def _box(secret: Secret, stage: bytes, sender: bytes, transcript: bytes) -> Box:
    buffer = bytearray(_KEY_BYTES + _NONCE_BYTES)
    info = lp(b"enclave-cc local attestation 3 key", stage, sender, transcript)
    HKDFExpand(hashes.SHA256(), len(buffer), info).derive_into(secret.reveal(), buffer)
    key = Secret.absorb(memoryview(buffer)[:_KEY_BYTES])
    box = Box(key, bytes(buffer[_KEY_BYTES:]), transcript)
    key.wipe()
    return box
