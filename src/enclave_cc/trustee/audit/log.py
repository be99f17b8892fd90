"""Writes what the broker decided, and why, and reads it back by request."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from enclave_cc.core.strict_json import canonical
from enclave_cc.trustee.audit import chain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from datetime import datetime

    from enclave_cc.core.findings import Finding
    from enclave_cc.core.request_id import RequestId
    from enclave_cc.trustee.stores.port import ChainEntry, ChainHead, Store

# One pod start leaves about twenty entries; a request id with more than this is not one pod's.
MAX_ENTRIES_PER_REQUEST: Final = 1000
# What one call of the administration interface returns at most.
MAX_LISTED_ENTRIES: Final = 1000
_ALL: Final = 1 << 62


class Event(StrEnum):
    """What happened; the words are part of the public interface."""

    CHALLENGE = "challenge"
    APPRAISAL = "appraisal"
    RELEASE = "release"
    REFUSAL = "refusal"
    FINDINGS = "findings"
    ADMINISTRATION = "administration"


@dataclass(frozen=True, slots=True)
class AuditLog:
    """The log in a store; ``now`` is the clock."""

    store: Store
    now: Callable[[], datetime]

    def record(
        self,
        event: Event,
        request_id: RequestId,
        *,
        fields: Mapping[str, str] | None = None,
        findings: Iterable[Finding] = (),
    ) -> None:
        """Append one entry; when this returns, it is on the disk."""
        body = {
            "event": str(event),
            "request_id": str(request_id),
            "time": self.now().isoformat(timespec="milliseconds"),
            "fields": {name: _printable(value) for name, value in (fields or {}).items()},
            "findings": [
                {name: _printable(value) for name, value in finding.to_json().items()} for finding in findings
            ],
        }

        def link(head: ChainHead) -> tuple[bytes, bytes]:
            record = canonical({**body, "sequence": head.length + 1})
            return record, chain.link(head.digest, record)

        self.store.append(request_id, link)

    def together(self) -> AbstractContextManager[None]:
        """Open a transaction: a change and the entry about it come true together, or neither does."""
        return self.store.transaction()

    def of_request(self, request_id: RequestId) -> tuple[dict[str, object], ...]:
        """Return the entries of one request in order."""
        entries = self.store.entries(request_id=request_id, limit=MAX_ENTRIES_PER_REQUEST)
        return tuple(_parsed(entries))

    def listing(self, *, after: int = 0) -> tuple[dict[str, object], ...]:
        """Return a page of all entries after a sequence number."""
        return tuple(_parsed(self.store.entries(after=after, limit=MAX_LISTED_ENTRIES)))

    def verify_chain(self) -> tuple[int, bytes]:
        """Check every digest; return length and head, raise ``RefusedError`` when an entry was altered."""
        return chain.verify(self.store.entries(limit=_ALL))


def _parsed(entries: Iterable[ChainEntry]) -> Iterator[dict[str, object]]:
    for entry in entries:
        yield {**json.loads(entry.record), "digest": entry.digest.hex()}


def _printable(text: str) -> str:
    """Replace lone surrogates: a stranger's text must not keep an entry out of the log."""
    return text.encode("utf-8", "replace").decode("utf-8")
