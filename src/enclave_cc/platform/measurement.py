"""Measures a bundle directory: reads `bundle.json` and every path below `rootfs`.

The measurement is taken of files on a disk that root can change at any time; the simulated platform says
so openly. What this module promises: the digest covers every name, link, executable bit and byte it saw,
and nothing that it cannot express (devices, sockets, pipes, names that are not UTF-8) is let through in
silence.
"""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enclave_cc.core import strict_json
from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.core.fields import FieldError, Fields
from enclave_cc.formats.sgx.measurement import BundleEntry, EntryKind, bundle_base

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from concurrent.futures import Future
    from pathlib import Path

    FileKey = tuple[int, int, int, int, int]

_MAX_SETTINGS_BYTES: Final = 64 << 10
# The agent's bundle has about two thousand paths; a whole Python installation 34,000.
_MAX_ENTRIES: Final = 200_000
_MAX_CACHED_FILES: Final = 200_000
_READ_BYTES: Final = 1 << 20
_THREADS: Final = 4
# Product ids of the two kinds of bundles; they become ISVPRODID.
_PRODUCT_IDS: Final[Mapping[str, int]] = {"agent": 1, "boot": 2}


@dataclass(frozen=True, slots=True)
class BundleMeasurement:
    """What a bundle contributes to an identity."""

    base: bytes
    product_id: int


class MeasurementCache:
    """Digests of unchanged files, by (device, inode, size, mtime, ctime). Bounded; safe between threads."""

    def __init__(self) -> None:
        self._digests: dict[FileKey, str] = {}
        self._lock = threading.Lock()

    def get(self, key: FileKey) -> str | None:
        """Digest of a file that has not changed since."""
        with self._lock:
            return self._digests.get(key)

    def put(self, key: FileKey, digest: str) -> None:
        """Remember a digest; when full, everything is forgotten rather than kept without bound."""
        with self._lock:
            if len(self._digests) >= _MAX_CACHED_FILES:
                self._digests.clear()
            self._digests[key] = digest


def measure_bundle(bundle: Path, cache: MeasurementCache | None = None) -> BundleMeasurement:
    """Measure a bundle; InvalidInputError `bundle-unmeasurable` names the path in its detail."""
    settings = _read_settings(bundle / "bundle.json")
    entries: list[BundleEntry] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        hashing: list[Future[BundleEntry]] = []
        for path, name in _walk(bundle / "rootfs"):
            entry = _entry_without_reading(path, name, cache)
            if entry is None:
                hashing.append(pool.submit(_file_entry, path, name, cache))
            else:
                entries.append(entry)
        entries += [future.result() for future in hashing]
    base = bundle_base(settings, entries)
    return BundleMeasurement(base, _PRODUCT_IDS[str(settings["kind"])])


def _read_settings(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            value = strict_json.loads(file.read(_MAX_SETTINGS_BYTES + 1), max_bytes=_MAX_SETTINGS_BYTES)
        fields = Fields(value, "bundle.json")
        kind = fields.text("kind")
        if _PRODUCT_IDS.get(kind) != fields.integer("product_id"):
            raise fields.error("kind", "is unknown or does not fit product_id")
    except (OSError, FieldError, strict_json.InvalidJsonError) as error:
        raise _unmeasurable(str(path), str(error)) from error
    return {name: fields.raw(name) for name in fields.names()}


def _walk(root: Path) -> Iterator[tuple[str, str]]:
    """Yield the real path and the name below `root` of everything in it."""
    pending = [(str(root), "")]
    count = 0
    while pending:
        directory, prefix = pending.pop()
        try:
            with os.scandir(directory) as listing:
                children = list(listing)
        except OSError as error:
            raise _unmeasurable(directory, str(error)) from error
        for child in children:
            count += 1
            if count > _MAX_ENTRIES:
                raise _unmeasurable(directory, "too many paths")
            name = f"{prefix}{child.name}"
            yield child.path, name
            if child.is_dir(follow_symlinks=False):
                pending.append((child.path, f"{name}/"))


def _entry_without_reading(path: str, name: str, cache: MeasurementCache | None) -> BundleEntry | None:
    """Entry of everything but files, and of files whose digest is known; None for a file to be read."""
    try:
        _require_utf8(name)
        status = os.lstat(path)
        if stat.S_ISDIR(status.st_mode):
            return BundleEntry(name, EntryKind.DIRECTORY, 0, "")
        if stat.S_ISLNK(status.st_mode):
            target = os.readlink(path)  # noqa: PTH115 - paths stay texts in this module
            _require_utf8(target)
            return BundleEntry(name, EntryKind.LINK, 0, target)
        if stat.S_ISREG(status.st_mode):
            digest = cache.get(_key(status)) if cache else None
            return None if digest is None else _regular(name, status, digest)
    except (OSError, UnicodeEncodeError) as error:
        raise _unmeasurable(name, str(error)) from error
    raise _unmeasurable(name, "neither file, directory nor symbolic link")


def _file_entry(path: str, name: str, cache: MeasurementCache | None) -> BundleEntry:
    try:
        status, digest = _hash(path, name)
    except OSError as error:
        raise _unmeasurable(name, str(error)) from error
    if cache:
        cache.put(_key(status), digest)
    return _regular(name, status, digest)


def _hash(path: str, name: str) -> tuple[os.stat_result, str]:
    """Hash a file through one descriptor, so that its status and its bytes belong to the same file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123 - a descriptor, not a path
        before = os.fstat(descriptor)
        hasher = hashlib.sha256()
        if stat.S_ISREG(before.st_mode):
            while chunk := file.read(_READ_BYTES):
                hasher.update(chunk)
        if not stat.S_ISREG(before.st_mode) or _key(os.fstat(descriptor)) != _key(before):
            raise _unmeasurable(name, "changed while it was measured")
    return before, hasher.hexdigest()


def _regular(name: str, status: os.stat_result, digest: str) -> BundleEntry:
    kind = EntryKind.EXECUTABLE if status.st_mode & stat.S_IXUSR else EntryKind.FILE
    return BundleEntry(name, kind, status.st_size, digest)


def _key(status: os.stat_result) -> FileKey:
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _require_utf8(name: str) -> None:
    """Names that are not UTF-8 arrive with surrogates and fail to encode."""
    name.encode("utf-8")


def _unmeasurable(where: str, reason: str) -> InvalidInputError:
    return InvalidInputError(
        "bundle-unmeasurable",
        "a bundle cannot be measured",
        stage=Stage.MEASURE,
        detail=f"{where!r}: {reason}",
    )
