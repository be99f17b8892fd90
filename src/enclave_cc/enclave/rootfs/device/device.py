"""
The virtual device: all blobs of a sealed image, one after the other, opened on the fly.

Ciphertext is copied into private memory before it is checked, because the host can change the files
at any time; no byte leaves before the tag of its whole chunk was verified. The first chunk that is
not the one that was sealed poisons the device: from then on nothing is returned at all, and whoever
holds the workload is told once, from a thread of its own.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.enclave.rootfs.device.sources import FileSource, open_blob
from enclave_cc.formats.sealed.chunks import CHUNK_BYTES, STRIDE_BYTES, ChunkOpener, ChunkRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from enclave_cc.enclave.rootfs.device.sources import ChunkSource
    from enclave_cc.formats.sealed.manifest import Manifest

# Chunks that were wanted in part: directories and small files are read in pieces of a few KiB.
_CACHED_CHUNKS: Final = 16
_SCRATCH_CHUNKS: Final = 17
_EXPECTED: Final = "chunks as they were sealed"
_REMEDY: Final = "the host's copy was changed or its disk is failing: start the pod anew, on another node"


class DeviceRefusedError(Exception):
    """No byte may be returned: the device is poisoned."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One blob on the device; ``region`` says which one to the owner."""

    source: ChunkSource
    opener: ChunkOpener
    chunks: int
    region: str = ""

    def copy_into(self, index: int, sealed: memoryview) -> None:
        """Copy sealed chunks from ``index`` on; raise ``ChunkRefusedError`` if they cannot all be read."""
        try:
            count = self.source.read_into(index * STRIDE_BYTES, sealed)
        except OSError as error:
            raise ChunkRefusedError(f"{self.region}: chunk {index} or later: {error.strerror}") from error
        if count != len(sealed):
            missing = index + count // STRIDE_BYTES
            raise ChunkRefusedError(f"{self.region}: chunk {missing} is cut off")

    def open_into(self, index: int, sealed: memoryview, plaintext: memoryview) -> None:
        """Open one chunk; raise ``ChunkRefusedError``, which names the region."""
        try:
            self.opener.open_into(index, sealed, plaintext)
        except ChunkRefusedError as error:
            raise ChunkRefusedError(f"{self.region}: {error}") from error


class VirtualDevice:
    """Read-only bytes at offsets below ``size``; each thread reads through a reader of its own."""

    def __init__(self, segments: Sequence[Segment], *, on_poison: Callable[[Finding], None]) -> None:
        self._segments = [segment for segment in segments if segment.chunks]
        self._on_poison = on_poison
        self._lock = threading.Lock()
        self.poisoned = False
        # Why, once it is poisoned.
        self.findings: tuple[Finding, ...] = ()
        self._cache: OrderedDict[int, memoryview] = OrderedDict()
        self._cleanup = ExitStack()
        self.size = sum(segment.chunks for segment in self._segments) * CHUNK_BYTES

    @classmethod
    def of_directory(
        cls, directory: Path, manifest: Manifest, *, on_poison: Callable[[Finding], None]
    ) -> Self:
        """Open every blob that a manifest names; refuse missing ones and those of another length."""
        with ExitStack() as files:
            segments = []
            for number, blob in enumerate(manifest.blobs):
                # The manifest's order: the tree's metadata first, then the layers from the lowest.
                region = f"layer {number}" if number else "metadata"
                fd = open_blob(directory / blob.name, blob.chunks * STRIDE_BYTES, region)
                files.callback(os.close, fd)
                segments.append(Segment(FileSource(fd), ChunkOpener(blob.key), blob.chunks, region))
            device = cls(segments, on_poison=on_poison)
            device._cleanup = files.pop_all()
            return device

    def reader(self) -> DeviceReader:
        """Return a reader with buffers of its own, for one thread."""
        return DeviceReader(self)

    def locate(self, chunk: int) -> tuple[Segment, int, int]:
        """Return a chunk's segment, its index there, and how many chunks that segment has from it on."""
        for segment in self._segments:
            if chunk < segment.chunks:
                return segment, chunk, segment.chunks - chunk
            chunk -= segment.chunks
        raise IndexError("beyond the end of the device")

    def cached(self, chunk: int) -> memoryview | None:
        """Return an opened chunk, if it was wanted a moment ago."""
        with self._lock:
            plaintext = self._cache.get(chunk)
            if plaintext is not None:
                self._cache.move_to_end(chunk)
            return plaintext

    def keep(self, chunk: int, plaintext: memoryview) -> None:
        """Remember an opened chunk for a moment."""
        with self._lock:
            self._cache[chunk] = plaintext
            if len(self._cache) > _CACHED_CHUNKS:
                self._cache.popitem(last=False)

    def check(self) -> None:
        """Raise ``DeviceRefusedError`` once the device is poisoned."""
        if self.poisoned:
            raise DeviceRefusedError

    def poison(self, reason: str, *, expected: str = _EXPECTED) -> None:
        """Return nothing from now on; tell the owner of the workload, the first time."""
        finding = Finding(
            "rootfs.chunk",
            Outcome.FAILED,
            expected=expected,
            actual=reason,
            remedy=_REMEDY,
        )
        with self._lock:
            if self.poisoned:
                return
            self.poisoned = True
            self.findings = (finding,)
            self._cache.clear()
        # Not from this thread: the reader waits for its answer, and so may whoever is told.
        thread = threading.Thread(target=self._on_poison, args=(finding,), name="poisoned", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # The host can see to it that there are no more threads; the owner must hear of it all the same.
            self._on_poison(finding)

    def close(self) -> None:
        """Close the blobs and forget their keys; no reader may be at work."""
        self._segments.clear()
        self._cache.clear()
        self._cleanup.close()


class DeviceReader:
    """
    Reads the device for one thread.

    ``opened_in_part`` is the chunk that the last read had to open for a part of it only, or None.
    """

    def __init__(self, device: VirtualDevice) -> None:
        self._device = device
        self.opened_in_part: int | None = None
        self._scratch = memoryview(bytearray(_SCRATCH_CHUNKS * STRIDE_BYTES))

    def read_into(self, offset: int, out: memoryview) -> int:
        """
        Fill ``out`` from ``offset`` on; return how many bytes the device had.

        Raise ``DeviceRefusedError`` if a chunk is not the one that was sealed; ``out`` is void then.
        """
        device = self._device
        self.opened_in_part = None
        device.check()
        out = out[: max(0, min(len(out), device.size - offset))]
        try:
            done = 0
            while done < len(out):
                done += self._step(offset + done, out[done:])
        except ChunkRefusedError as error:
            device.poison(str(error))
            raise DeviceRefusedError from error
        # Another thread may have met a bad chunk meanwhile.
        device.check()
        return len(out)

    def _step(self, position: int, out: memoryview) -> int:
        chunk, skipped = divmod(position, CHUNK_BYTES)
        if skipped or len(out) < CHUNK_BYTES:
            part = self._whole(chunk)[skipped : skipped + len(out)]
            out[: len(part)] = part
            return len(part)
        return self._run(chunk, out)

    def _whole(self, chunk: int) -> memoryview:
        plaintext = self._device.cached(chunk)
        if plaintext is None:
            plaintext = memoryview(bytearray(CHUNK_BYTES))
            self._run(chunk, plaintext)
            self._device.keep(chunk, plaintext)
            self.opened_in_part = chunk
        return plaintext

    def _run(self, chunk: int, out: memoryview) -> int:
        """Open as many whole chunks as fit, straight into the answer."""
        segment, index, available = self._device.locate(chunk)
        count = min(available, len(out) // CHUNK_BYTES, _SCRATCH_CHUNKS)
        sealed = self._scratch[: count * STRIDE_BYTES]
        segment.copy_into(index, sealed)
        for step in range(count):
            segment.open_into(
                index + step,
                sealed[step * STRIDE_BYTES : (step + 1) * STRIDE_BYTES],
                out[step * CHUNK_BYTES : (step + 1) * CHUNK_BYTES],
            )
        return count * CHUNK_BYTES
