"""
A snapshotter that unpacks nothing of the guest's images, and works as plain overlay for the host's own.

containerd asks for a place to unpack each layer. For a guest's layer the answer is that the
result exists already, so containerd fetches no layer (containerd ``pkg/unpack``; the record must be
found through ``List`` with the same reference, parent and kind). A container on top gets an
empty directory: its real root file system exists only inside its enclave.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from enclave_cc.node.daemon.snapshot_failure import (
    AlreadyExistsError,
    InvalidArgumentError,
    NotFoundError,
    PreconditionError,
)
from enclave_cc.node.daemon.snapshot_record import REFERENCE_LABEL, Kind, SnapshotRecord

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from enclave_cc.node.daemon.snapshot_policy import SnapshotPolicy
    from enclave_cc.node.daemon.snapshot_store import SnapshotStore

# The kernel ignores unknown options of bind mounts, so containerd's own temporary mounts work too.
GUEST_OPTION: Final = "enclave-cc.guest-pull"
_LABELS_PATH: Final = "labels"
_FILE_BLOCK_BYTES: Final = 512


class Snapshotter:
    """The operations of containerd's Snapshots service on one root directory."""

    def __init__(
        self,
        root: Path,
        store: SnapshotStore,
        policy: SnapshotPolicy,
        *,
        prefetch: Callable[[dict[str, str]], None],
        seed: Callable[[dict[str, str], Path], None],
    ) -> None:
        self._snapshots = root / "snapshots"
        self._snapshots.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._store = store
        self._policy = policy
        self._prefetch = prefetch
        self._seed = seed
        self.cleanup()

    def prepare(self, key: str, parent: str, labels: dict[str, str]) -> list[dict[str, object]]:
        """Make a writable snapshot, or raise ``AlreadyExistsError`` for a layer of the guest."""
        below = self._parents(parent)
        if self._policy.is_guest_layer(labels):
            self._adopt_guest_layer(key, parent, labels)
        if REFERENCE_LABEL in labels and _is_guest(below):
            raise PreconditionError("a host image shares its lower layers with a guest image")
        return self._make(key, parent, Kind.ACTIVE, labels, below)

    def view(self, key: str, parent: str, labels: dict[str, str]) -> list[dict[str, object]]:
        """Make a read-only snapshot."""
        return self._make(key, parent, Kind.VIEW, labels, self._parents(parent))

    def mounts(self, key: str) -> list[dict[str, object]]:
        """Tell again how to mount an active snapshot or a view."""
        record = self.stat(key)
        if record.kind is Kind.COMMITTED:
            raise PreconditionError(f"snapshot {key}: is committed")
        return self._mounts(record, self._store.chain(record.parent))

    def commit(self, name: str, key: str, labels: dict[str, str]) -> None:
        """Turn an active snapshot into one that others can be based on."""
        with self._store.transaction():
            record = self.stat(key)
            if record.kind is not Kind.ACTIVE:
                raise PreconditionError(f"snapshot {key}: is not active")
            if self._store.get(name) is not None:
                raise AlreadyExistsError(f"snapshot {name}: already exists")
            self._store.remove(key)
            self._store.put(
                replace(
                    record, name=name, kind=Kind.COMMITTED, labels=dict(labels), updated_ns=time.time_ns()
                )
            )

    def remove(self, key: str) -> None:
        """Forget a snapshot that nothing is based on, and free its space."""
        with self._store.transaction():
            record = self.stat(key)
            if self._store.has_children(key):
                raise PreconditionError(f"snapshot {key}: has children")
            self._store.remove(key)
        shutil.rmtree(self._directory(record.number), ignore_errors=True)

    def stat(self, key: str) -> SnapshotRecord:
        """Find a snapshot; raise ``NotFoundError``."""
        record = self._store.get(key)
        if record is None:
            raise NotFoundError(f"snapshot {key}: not found")
        return record

    def update(self, key: str, labels: dict[str, str], paths: list[str]) -> SnapshotRecord:
        """Change labels: all of them, or those that the field mask names."""
        with self._store.transaction():
            record = self.stat(key)
            changed = dict(labels) if not paths else dict(record.labels)
            for path in paths:
                _update_labels(changed, labels, path)
            record = replace(record, labels=changed, updated_ns=time.time_ns())
            self._store.put(record)
        return record

    def records(self) -> list[SnapshotRecord]:
        """Return all snapshots; containerd applies its filters itself."""
        return self._store.all()

    def usage(self, key: str) -> tuple[int, int]:
        """Return bytes and files of the snapshot's own directory."""
        size = files = 0
        for path in (self._directory(self.stat(key).number) / "fs").rglob("*"):
            try:
                size += path.lstat().st_blocks * _FILE_BLOCK_BYTES
            except FileNotFoundError:
                continue
            files += 1
        return size, files

    def cleanup(self) -> None:
        """Remove directories that belong to no snapshot: left by a crash between two steps."""
        with self._store.transaction():
            known = self._store.numbers()
            orphans = [path for path in self._snapshots.iterdir() if _number(path.name) not in known]
            for path in orphans:
                shutil.rmtree(path, ignore_errors=True)

    def _adopt_guest_layer(self, key: str, parent: str, labels: dict[str, str]) -> None:
        reference = labels[REFERENCE_LABEL]
        with self._store.transaction():
            if self._store.committed(parent, reference) is None:
                self._add(key, parent, Kind.COMMITTED, labels, guest=True)
        self._prefetch(labels)
        raise AlreadyExistsError(f"target snapshot {reference}: already exists")

    def _make(
        self, key: str, parent: str, kind: Kind, labels: dict[str, str], below: list[SnapshotRecord]
    ) -> list[dict[str, object]]:
        with self._store.transaction():
            record = self._add(key, parent, kind, labels, guest=False)
        if _is_guest(below) and kind is Kind.ACTIVE:
            self._seed(below[0].labels, self._directory(record.number) / "fs")
        return self._mounts(record, below)

    def _add(
        self, key: str, parent: str, kind: Kind, labels: dict[str, str], *, guest: bool
    ) -> SnapshotRecord:
        if not key:
            raise InvalidArgumentError("a snapshot needs a key")
        if self._store.get(key) is not None:
            raise AlreadyExistsError(f"snapshot {key}: already exists")
        number = self._store.fresh_number()
        directory = self._directory(number)
        # A number is drawn again when its transaction failed; what lies there then belongs to nobody.
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(mode=0o711)
        (directory / "fs").mkdir(mode=0o755)
        (directory / "work").mkdir(mode=0o711)
        now = time.time_ns()
        record = SnapshotRecord(key, number, parent, kind, guest, now, now, dict(labels))
        self._store.put(record)
        return record

    def _parents(self, parent: str) -> list[SnapshotRecord]:
        if not parent:
            return []
        if self.stat(parent).kind is not Kind.COMMITTED:
            raise InvalidArgumentError(f"parent {parent}: is not committed")
        return self._store.chain(parent)

    def _mounts(self, record: SnapshotRecord, below: list[SnapshotRecord]) -> list[dict[str, object]]:
        own = self._directory(record.number)
        access = "ro" if record.kind is Kind.VIEW else "rw"
        if _is_guest(below):
            return [_mount("bind", str(own / "fs"), "rbind", access, GUEST_OPTION)]
        if not below:
            return [_mount("bind", str(own / "fs"), "rbind", access)]
        layers = [str(self._directory(parent.number) / "fs") for parent in below]
        if record.kind is Kind.VIEW and len(layers) == 1:
            return [_mount("bind", layers[0], "rbind", "ro")]
        lower = f"lowerdir={':'.join(layers)}"
        if record.kind is Kind.VIEW:
            return [_mount("overlay", "overlay", lower)]
        return [
            _mount(
                "overlay", "overlay", "index=off", f"workdir={own / 'work'}", f"upperdir={own / 'fs'}", lower
            )
        ]

    def _directory(self, number: int) -> Path:
        return self._snapshots / str(number)


def _is_guest(chain: list[SnapshotRecord]) -> bool:
    return any(record.guest for record in chain)


def _mount(type_: str, source: str, *options: str) -> dict[str, object]:
    return {"type": type_, "source": source, "options": list(options)}


def _number(name: str) -> int:
    return int(name) if name.isdecimal() else -1


def _update_labels(changed: dict[str, str], labels: dict[str, str], path: str) -> None:
    if path == _LABELS_PATH:
        changed.clear()
        changed.update(labels)
    elif path.startswith(f"{_LABELS_PATH}."):
        name = path.removeprefix(f"{_LABELS_PATH}.")
        if labels.get(name):
            changed[name] = labels[name]
        else:
            changed.pop(name, None)
    else:
        raise InvalidArgumentError(f"{path} cannot be updated")
