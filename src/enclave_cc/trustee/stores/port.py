"""
What the broker asks of storage: bytes under names, and one chain that only grows.

Every write is atomic and durable when the call returns. Implementations are safe to call from
several threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


class Namespace(StrEnum):
    """The kinds of things that are kept; the names are those of existing key brokers."""

    POLICY = "kbs"
    RESOURCE = "repository"
    ATTESTATION_POLICY = "attestation_service_policy"
    REFERENCE_VALUE = "reference_value"


@dataclass(frozen=True, slots=True)
class ChainHead:
    """How long the chain is and the digest of its last entry."""

    length: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class ChainEntry:
    """One entry: its place, whom it belongs to, its text, and the digest that commits to all before it."""

    sequence: int
    request_id: str
    record: bytes
    digest: bytes


class Store(Protocol):
    """Bytes under names and one append-only chain."""

    def transaction(self) -> AbstractContextManager[None]:
        """Make all changes of a ``with`` block together, or none of them."""

    def get(self, namespace: Namespace, key: str) -> bytes | None:
        """Return a value, None when there is none."""

    def put(self, namespace: Namespace, key: str, value: bytes) -> None:
        """Set a value, whether or not there was one."""

    def delete(self, namespace: Namespace, key: str) -> bool:
        """Remove a value; tell whether there was one."""

    def keys(self, namespace: Namespace) -> tuple[str, ...]:
        """List the names in order."""

    def append(self, request_id: str, link: Callable[[ChainHead], tuple[bytes, bytes]]) -> ChainEntry:
        """Let ``link`` make record and digest from the head, and append them in the same transaction."""

    def head(self) -> ChainHead:
        """Return the end of the chain."""

    def entries(self, *, request_id: str | None = None, after: int = 0, limit: int) -> Iterator[ChainEntry]:
        """Iterate over entries in order, of one request or of all."""

    def close(self) -> None:
        """Release the storage."""
