"""
The entries of a layer that was sealed before, read back from its blob.

The blob lies with the host, but its key is ours and sealed this one stream, so every chunk is what the
scanner saw when the layer was opened and its diff id checked, or is refused. Contents of files are not
even read: most of a layer is passed over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enclave_cc.core.errors import RefusedError, Stage
from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.enclave.rootfs.device.sources import FileSource
from enclave_cc.formats.sealed.chunks import CHUNK_BYTES, STRIDE_BYTES, ChunkOpener, ChunkRefusedError
from enclave_cc.formats.tar.scanner import TarScanner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enclave_cc.formats.sealed.manifest import SealedBlob
    from enclave_cc.formats.tar.entry import TarEntry


def stored_entries(fd: int, blob: SealedBlob) -> Iterator[list[TarEntry]]:
    """Yield the entries in order, some at a time; raise ``RefusedError`` (sealed-chunk-refused)."""
    scanner, chunks = TarScanner(), _Chunks(fd, blob)
    position, size = 0, blob.chunks * CHUNK_BYTES
    while position < size:
        idle = min(scanner.idle_bytes, size - position)
        scanner.skip(idle)
        position += idle
        if position == size:
            break
        index, begin = divmod(position, CHUNK_BYTES)
        entries = list(scanner.feed(chunks.opened(index)[begin:]))
        position += CHUNK_BYTES - begin
        if entries:
            yield entries
    scanner.close()


class _Chunks:
    """One chunk at a time, in buffers that are used again."""

    def __init__(self, fd: int, blob: SealedBlob) -> None:
        self._source = FileSource(fd)
        self._opener = ChunkOpener(blob.key)
        self._sealed = memoryview(bytearray(STRIDE_BYTES))
        self._plain = memoryview(bytearray(CHUNK_BYTES))

    def opened(self, index: int) -> memoryview:
        try:
            if self._source.read_into(index * STRIDE_BYTES, self._sealed) == STRIDE_BYTES:
                self._opener.open_into(index, self._sealed, self._plain)
                return self._plain
        except (ChunkRefusedError, OSError) as error:
            raise _refused(str(error)) from error
        raise _refused(f"chunk {index} is cut off")


def _refused(reason: str) -> RefusedError:
    finding = Finding(
        "rootfs.chunk",
        Outcome.FAILED,
        expected="chunks as they were sealed",
        actual=f"a layer that another container shares: {reason}",
    )
    return RefusedError(
        "sealed-chunk-refused",
        "a part of a sealed image is not what was sealed",
        stage=Stage.SEAL,
        findings=(finding,),
    )
