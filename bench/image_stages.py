"""Where a pull's time goes: every stage in one thread, by its processor time, on the same bytes."""

from __future__ import annotations

import hashlib
import os
import time
import tracemalloc
from collections import Counter
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final

from enclave_cc.core.digest import Digest
from enclave_cc.core.secret import Secret
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.ocicrypt.layer_cipher import LayerAuthenticator, LayerDecryptor, PrivateOptions
from enclave_cc.formats.sealed.chunks import CHUNK_BYTES, ChunkSealer
from enclave_cc.formats.sealed.erofs import write_metadata
from enclave_cc.formats.sealed.tree import Tree
from enclave_cc.formats.tar.scanner import TarScanner
from enclave_cc.image.layers.inflate import Inflater, inflate
from enclave_cc.image.layers.ring import PIECE_BYTES
from enclave_cc.transport.registry.client import RegistryClient

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from enclave_cc.formats.oci.media_types import Compression

_READ_BYTES: Final = 256 << 10


def stages(
    image: str, blobs: tuple[Path, ...], compression: Compression, directory: Path
) -> dict[str, float]:
    """Take an image through all stages, one after the other; return processor seconds by stage."""
    run = _Run(compression, directory / "stages")
    run.fetch(image, blobs)
    for blob in blobs:
        run.layer(blob)
    with run.timed("tree as EROFS"):
        write_metadata(run.tree.root, data_bytes=run.base, align_bytes=CHUNK_BYTES)
    run.target.unlink()
    return dict(run.spent)


def bytes_per_entry(blobs: tuple[Path, ...], compression: Compression) -> float:
    """Merge an image and write its metadata; return the memory that this takes, by the layers' entries."""
    tracemalloc.start()
    try:
        tree, base, entries = Tree(), 0, 0
        for blob in blobs:
            tree.begin_layer(base)
            scanner = TarScanner()
            for piece in inflate(iter([blob.read_bytes()]), compression):
                base += len(piece)
                for entry in scanner.feed(piece):
                    tree.add(entry)
                    entries += 1
            base += -base % CHUNK_BYTES
        del piece, entry
        # The buffers above are gone; what counts is the tree and what the writer adds.
        tracemalloc.reset_peak()
        write_metadata(tree.root, data_bytes=base, align_bytes=CHUNK_BYTES)
        return tracemalloc.get_traced_memory()[1] / entries
    finally:
        tracemalloc.stop()


class _Run:
    def __init__(self, compression: Compression, target: Path) -> None:
        self.target = target
        self.spent: Counter[str] = Counter()
        self.tree = Tree()
        self.base = 0
        self._compression = compression
        self._buffer = memoryview(bytearray(PIECE_BYTES))

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        begun = time.thread_time()
        yield
        self.spent[stage] += time.thread_time() - begun

    def fetch(self, image: str, blobs: tuple[Path, ...]) -> None:
        reference = Reference.parse(image)
        with closing(RegistryClient(insecure_http=[reference.registry])) as client, self.timed("fetch"):
            for blob in blobs:
                for _ in client.blob(reference, f"sha256:{blob.name}"):
                    continue

    def layer(self, blob: Path) -> None:
        """Take one layer; its plain blob serves as ciphertext too, because noise costs the same."""
        inflater = Inflater(self._checked(blob), self._compression)
        scanner, sealer, digest = TarScanner(), ChunkSealer(Secret.random()), hashlib.sha256()
        self.tree.begin_layer(self.base)
        with self.target.open("wb", buffering=0) as out:
            while size := self._inflate(inflater):
                piece = self._buffer[:size]
                with self.timed("diff id"):
                    digest.update(piece)
                with self.timed("scan"):
                    entries = list(scanner.feed(piece))
                with self.timed("merge"):
                    for entry in entries:
                        self.tree.add(entry)
                self._seal(sealer, piece, out.fileno())
        sealer.finish()
        self.base += sealer.chunks * CHUNK_BYTES

    def _inflate(self, inflater: Inflater) -> int:
        """Time the decompressor without what its source spends on the bytes that it asks for."""
        before = self.spent.copy()
        begun = time.thread_time()
        size = inflater.readinto(self._buffer)
        taken = time.thread_time() - begun
        self.spent["inflate"] += taken - (self.spent - before).total()
        return size

    def _seal(self, sealer: ChunkSealer, piece: memoryview, out: int) -> None:
        sealed = sealer.feed(piece)
        while True:
            with self.timed("seal"):
                batch = next(sealed, None)
            if batch is None:
                return
            with self.timed("write"):
                os.write(out, batch)

    def _checked(self, blob: Path) -> Iterator[memoryview]:
        options = PrivateOptions.fresh(Digest.of(b""))
        authenticator, decryptor = LayerAuthenticator(options), LayerDecryptor(options)
        digest, plain_digest = hashlib.sha256(), hashlib.sha256()
        with blob.open("rb", buffering=0) as stream:
            while chunk := stream.read(_READ_BYTES):
                with self.timed("digest"):
                    digest.update(chunk)
                with self.timed("HMAC"):
                    authenticator.update(chunk)
                with self.timed("decrypt"):
                    decryptor.update(chunk)
                with self.timed("digest of the plain layer"):
                    plain_digest.update(chunk)
                yield memoryview(chunk)
