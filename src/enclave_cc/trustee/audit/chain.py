"""
The chain that makes the audit log tamper-evident: each digest commits to everything before it.

Rewriting, dropping or reordering an entry breaks every digest after it. Cutting the end off
does not show in the chain itself; whoever cares keeps the head that ``verify`` returns.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import RefusedError, Stage
from enclave_cc.core.findings import Finding, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable

    from enclave_cc.trustee.stores.port import ChainEntry

GENESIS: Final = bytes(32)
_DOMAIN: Final = b"enclave-cc audit v1\0"


def link(previous: bytes, record: bytes) -> bytes:
    """Return the digest of an entry."""
    return hashlib.sha256(_DOMAIN + previous + record).digest()


def verify(entries: Iterable[ChainEntry]) -> tuple[int, bytes]:
    """Walk the whole chain; return its length and head, raise ``RefusedError`` at the first broken entry."""
    length, head = 0, GENESIS
    for entry in entries:
        length += 1
        expected = link(head, entry.record)
        if entry.sequence != length or not hmac.compare_digest(expected, entry.digest):
            raise _broken(length, expected.hex(), entry.digest.hex())
        head = entry.digest
    return length, head


def _broken(sequence: int, expected: str, actual: str) -> RefusedError:
    finding = Finding(f"audit.entry.{sequence}", Outcome.FAILED, expected, actual)
    return RefusedError(
        "audit-chain-broken",
        "the audit log was altered",
        stage=Stage.STORE,
        detail=f"entry {sequence}",
        findings=(finding,),
    )
