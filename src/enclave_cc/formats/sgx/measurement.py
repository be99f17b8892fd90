"""MRENCLAVE of the simulated platform: a digest of what a bundle loads, computed without touching a file.

A release's base (interpreter, libraries, program, arguments) and the owner's initdata go in separately, so
that anyone can print the measurement that a release plus an initdata file will have. Reading files is
`platform.measurement`.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from enclave_cc.core import strict_json
from enclave_cc.formats.framing import lp

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_DOMAIN = b"enclave-cc simulated MRENCLAVE v1\0"


class EntryKind(StrEnum):
    """What a path of a bundle is; the letter enters the measurement."""

    FILE = "f"
    EXECUTABLE = "x"
    LINK = "l"
    DIRECTORY = "d"


class BundleEntry(NamedTuple):
    """One path below a bundle's rootfs; `content` is a file's SHA-256 (hex), a link's target, or empty."""

    path: str
    kind: EntryKind
    size: int
    content: str


def bundle_base(settings: Mapping[str, object], entries: Iterable[BundleEntry]) -> bytes:
    """SHA-256 over the canonical JSON of `settings` (bundle.json) and the entries, sorted by path."""
    listing = [[entry.path, entry.kind.value, entry.size, entry.content] for entry in sorted(entries)]
    return hashlib.sha256(strict_json.canonical({"settings": dict(settings), "entries": listing})).digest()


def mr_enclave(base: bytes, initdata_digest: bytes) -> bytes:
    """Measurement of a bundle started under an owner's initdata (empty digest: none)."""
    return hashlib.sha256(_DOMAIN + lp(base, initdata_digest)).digest()
