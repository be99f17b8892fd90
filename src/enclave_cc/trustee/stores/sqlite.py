"""
The store in one SQLite file.

With a write-ahead log and full synchronisation a killed process or a lost machine leaves the
last finished write and nothing half done. The file holds secrets and is created for its owner only.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from contextlib import contextmanager
from importlib import resources
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import InternalError, InvalidInputError, Stage, UnavailableError
from enclave_cc.trustee.stores.port import ChainEntry, ChainHead, Namespace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# Another process may hold the write lock while it migrates; no single write takes this long.
_BUSY_TIMEOUT_S: Final = 5.0
_GENESIS: Final = bytes(32)
_PAGE_ROWS: Final = 256


class SqliteStore:
    """Implements ``Store``; one connection, guarded by a lock."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._connection = _connect(path)
        try:
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = FULL")
            self._migrate()
        except sqlite3.DatabaseError as error:
            self._connection.close()
            raise _unusable(error) from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make all changes of a ``with`` block together, or none of them."""
        with self._writing():
            yield

    def get(self, namespace: Namespace, key: str) -> bytes | None:
        """Return a value, None when there is none."""
        with self._reading() as connection:
            row = connection.execute(
                "SELECT value FROM item WHERE namespace = ? AND key = ?", (namespace, key)
            ).fetchone()
        return None if row is None else bytes(row[0])

    def put(self, namespace: Namespace, key: str, value: bytes) -> None:
        """Set a value, whether or not there was one."""
        with self._writing() as connection:
            connection.execute(
                "INSERT INTO item (namespace, key, value) VALUES (?, ?, ?)"
                " ON CONFLICT (namespace, key) DO UPDATE SET value = excluded.value",
                (namespace, key, value),
            )

    def delete(self, namespace: Namespace, key: str) -> bool:
        """Remove a value; tell whether there was one."""
        with self._writing() as connection:
            cursor = connection.execute("DELETE FROM item WHERE namespace = ? AND key = ?", (namespace, key))
            return cursor.rowcount > 0

    def keys(self, namespace: Namespace) -> tuple[str, ...]:
        """List the names in order."""
        with self._reading() as connection:
            rows = connection.execute("SELECT key FROM item WHERE namespace = ? ORDER BY key", (namespace,))
            return tuple(row[0] for row in rows)

    def append(self, request_id: str, link: Callable[[ChainHead], tuple[bytes, bytes]]) -> ChainEntry:
        """Let ``link`` make record and digest from the head, and append them in the same transaction."""
        with self._writing() as connection:
            head = _head(connection)
            record, digest = link(head)
            entry = ChainEntry(head.length + 1, request_id, record, digest)
            connection.execute(
                "INSERT INTO chain (sequence, request_id, record, digest) VALUES (?, ?, ?, ?)",
                (entry.sequence, request_id, record, digest),
            )
            return entry

    def head(self) -> ChainHead:
        """Return the end of the chain."""
        with self._reading() as connection:
            return _head(connection)

    def entries(self, *, request_id: str | None = None, after: int = 0, limit: int) -> Iterator[ChainEntry]:
        """Iterate over entries in order; reads page by page, so that memory does not grow with the log."""
        remaining = limit
        while remaining > 0:
            page = self._page(request_id, after, min(remaining, _PAGE_ROWS))
            yield from page
            if len(page) < min(remaining, _PAGE_ROWS):
                return
            remaining -= len(page)
            after = page[-1].sequence

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _page(self, request_id: str | None, after: int, limit: int) -> list[ChainEntry]:
        with self._reading() as connection:
            rows = connection.execute(
                "SELECT sequence, request_id, record, digest FROM chain"
                " WHERE sequence > ? AND (? IS NULL OR request_id = ?) ORDER BY sequence LIMIT ?",
                (after, request_id, request_id, limit),
            ).fetchall()
        return [ChainEntry(row[0], row[1], bytes(row[2]), bytes(row[3])) for row in rows]

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                yield self._connection
            except sqlite3.Error as error:
                raise _storage_failure(error) from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """Run the body in one transaction, or as a part of the one that this thread is in."""
        with self._reading() as connection:
            part_of_another = connection.in_transaction
            if part_of_another:
                yield connection
                return
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                # SQLite has ended the transaction by itself where the disk is full or fails.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def _migrate(self) -> None:
        done = int(self._connection.execute("PRAGMA user_version").fetchone()[0])
        migrations = _migrations()
        if done > len(migrations):
            raise sqlite3.DatabaseError("the store was written by a newer version")
        for number, script in enumerate(migrations[done:], start=done + 1):
            self._connection.executescript(
                f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;"
            )


def _connect(path: Path) -> sqlite3.Connection:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
        return sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    except (OSError, sqlite3.Error) as error:
        raise _unusable(error) from error


def _unusable(error: Exception) -> InvalidInputError:
    return InvalidInputError(
        "store-unusable", "the broker's store cannot be opened", stage=Stage.STORE, detail=str(error)
    )


def _head(connection: sqlite3.Connection) -> ChainHead:
    row = connection.execute("SELECT sequence, digest FROM chain ORDER BY sequence DESC LIMIT 1").fetchone()
    return ChainHead(0, _GENESIS) if row is None else ChainHead(row[0], bytes(row[1]))


def _migrations() -> list[str]:
    folder = resources.files("enclave_cc.trustee.stores.migrations")
    names = sorted(file.name for file in folder.iterdir() if file.name.endswith(".sql"))
    return [folder.joinpath(name).read_text(encoding="utf-8") for name in names]


def _storage_failure(error: sqlite3.Error) -> Exception:
    """Tell a store that is busy or full from one that is used wrongly."""
    if isinstance(error, sqlite3.OperationalError):
        return UnavailableError(
            "store-unavailable", "the broker's store did not take part", stage=Stage.STORE, detail=str(error)
        )
    return InternalError("internal", "the broker's store was misused", stage=Stage.STORE, detail=str(error))
