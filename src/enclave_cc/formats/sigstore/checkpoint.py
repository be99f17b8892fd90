"""Signed checkpoints of a log (C2SP signed-note and tlog-checkpoint): a tree's size and root, signed."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enclave_cc.formats.signatures.public_key import PublicKey

_MAX_CHARS: Final = 16 << 10
_MAX_SIGNATURES: Final = 16
_MARK: Final = "\N{EM DASH} "
_KEY_HASH_BYTES: Final = 4
_LINES: Final = 3
_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree at one moment."""

    origin: str
    size: int
    root_hash: bytes


def verify(note: str, key: PublicKey, *, log_id: bytes) -> Checkpoint:
    """
    Read a checkpoint that a log signed; raise ``ValueError`` otherwise.

    The text ends with an empty line; after it stand signatures, of which one has to be the log's. Others
    (witnesses) are not looked at. Keys are known by the first bytes of the log's id: Rekor 1 signs under a
    shorter name than its origin line has.
    """
    if len(note) > _MAX_CHARS:
        raise ValueError("a checkpoint that is too long")
    text, separator, signatures = note.partition("\n\n")
    if not separator:
        raise ValueError("a checkpoint without a signature")
    origin, *rest = text.split("\n")
    signed = (text + "\n").encode("utf-8")
    if not any(
        hint == log_id[:_KEY_HASH_BYTES] and key.has_signed(signed, signature)
        for hint, signature in _signatures(signatures)
    ):
        raise ValueError("the checkpoint is not signed by the log")
    if not origin or len(rest) < _LINES - 1 or not _SIZE.fullmatch(rest[0]):
        raise ValueError("a malformed checkpoint")
    return Checkpoint(origin, int(rest[0]), _base64(rest[1]))


def _signatures(text: str) -> Iterator[tuple[bytes, bytes]]:
    for line in text.splitlines()[:_MAX_SIGNATURES]:
        value = line.rpartition(" ")[2]
        if not line.startswith(_MARK):
            raise ValueError("a malformed signature line in a checkpoint")
        raw = _base64(value)
        yield raw[:_KEY_HASH_BYTES], raw[_KEY_HASH_BYTES:]


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("a checkpoint with broken base64") from error
