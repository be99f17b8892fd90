"""
The snapshotter's memory: SQLite, so that a kill at any instant leaves the state before or after a change.

Directories are made before their record is written and removed after it is gone; a directory
without a record is rubbish, and ``orphans`` finds it.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from enclave_cc.node.daemon.snapshot_record import REFERENCE_LABEL, Kind, SnapshotRecord

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS snapshots (
    name TEXT PRIMARY KEY,
    number INTEGER NOT NULL UNIQUE,
    parent TEXT NOT NULL,
    kind INTEGER NOT NULL,
    guest INTEGER NOT NULL,
    created_ns INTEGER NOT NULL,
    updated_ns INTEGER NOT NULL,
    labels TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS snapshots_by_parent ON snapshots (parent);
CREATE TABLE IF NOT EXISTS numbers (id INTEGER PRIMARY KEY AUTOINCREMENT) STRICT;
"""
_COLUMNS: Final = "name, number, parent, kind, guest, created_ns, updated_ns, labels"
_BUSY_S: Final = 10.0


class SnapshotStore:
    """Records by name; every method is one transaction unless it runs inside ``transaction``."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._database = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._database.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make several changes together, or none of them."""
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                # A transaction ends with its block, whatever ended that.
                # SQLite has ended the transaction by itself where the disk is full or fails.
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    def fresh_number(self) -> int:
        """Draw a directory number that was never used before, and never will be again."""
        with self._lock:
            number = self._database.execute("INSERT INTO numbers DEFAULT VALUES").lastrowid
        if number is None:
            raise sqlite3.DatabaseError("no number was assigned")
        return number

    def get(self, name: str) -> SnapshotRecord | None:
        """Find a record."""
        return next(self._select("name = ?", name), None)

    def all(self) -> list[SnapshotRecord]:
        """Return every record, oldest first."""
        return list(self._select("true"))

    def has_children(self, name: str) -> bool:
        """Tell whether other snapshots are based on this one."""
        return next(self._select("parent = ?", name), None) is not None

    def committed(self, parent: str, reference: str) -> SnapshotRecord | None:
        """Find the committed snapshot that carries a reference on top of a parent."""
        for record in self._select("kind = ? AND parent = ?", int(Kind.COMMITTED), parent):
            if record.labels.get(REFERENCE_LABEL) == reference:
                return record
        return None

    def chain(self, name: str) -> list[SnapshotRecord]:
        """Return a snapshot and everything below it, topmost first."""
        records = []
        while name and (record := self.get(name)) is not None:
            records.append(record)
            name = record.parent
        return records

    def put(self, record: SnapshotRecord) -> None:
        """Write a record, replacing one of the same name."""
        values = (
            record.name,
            record.number,
            record.parent,
            int(record.kind),
            int(record.guest),
            record.created_ns,
            record.updated_ns,
            json.dumps(record.labels, sort_keys=True),
        )
        with self._lock:
            self._database.execute(
                f"INSERT OR REPLACE INTO snapshots ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - a constant
                values,
            )

    def remove(self, name: str) -> None:
        """Forget a record."""
        with self._lock:
            self._database.execute("DELETE FROM snapshots WHERE name = ?", (name,))

    def numbers(self) -> set[int]:
        """Return the directory numbers in use."""
        return {record.number for record in self.all()}

    def _select(self, condition: str, *values: str | int) -> Iterator[SnapshotRecord]:
        query = f"SELECT {_COLUMNS} FROM snapshots WHERE {condition} ORDER BY number"  # noqa: S608 - only constants
        with self._lock:
            rows = self._database.execute(query, values).fetchall()
        for name, number, parent, kind, guest, created_ns, updated_ns, labels in rows:
            yield SnapshotRecord(
                name, number, parent, Kind(kind), bool(guest), created_ns, updated_ns, json.loads(labels)
            )
