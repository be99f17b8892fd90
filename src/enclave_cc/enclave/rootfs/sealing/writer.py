"""
Turn the layers of an image into a sealed image, in one pass.

Each layer's tar stream is sealed as it is, several at a time if the caller has threads for it; the merged
tree, which points into the layers, becomes one more blob; the manifest with all keys comes last and appears
under its name at once. Whatever fails removes every file. Plaintext never reaches the directory.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from enclave_cc.core.errors import RefusedError, Stage
from enclave_cc.core.secret import Secret
from enclave_cc.enclave.rootfs.sealing.directory import SealedDirectory, explained
from enclave_cc.enclave.rootfs.sealing.merge import GivenUpError, TreeMerger
from enclave_cc.enclave.rootfs.sealing.stored_layer import stored_entries
from enclave_cc.formats.sealed.chunks import CHUNK_BYTES, MAX_CHUNKS, Octets
from enclave_cc.formats.sealed.erofs import ImageTooLargeError, write_metadata
from enclave_cc.formats.sealed.manifest import (
    MAX_BLOBS,
    NONCE_BYTES,
    Binding,
    Manifest,
    SealedBlob,
    seal_manifest,
)
from enclave_cc.formats.sealed.tree import LayerError, PathEscapesError, Tree, TreeTooLargeError
from enclave_cc.formats.tar.entry import TarError
from enclave_cc.formats.tar.scanner import TarScanner
from enclave_cc.image.checks import Checks
from enclave_cc.image.limits import DEFAULT_LIMITS, Meter, require_at_most

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from enclave_cc.enclave.rootfs.sealing.blob import BlobWriter
    from enclave_cc.formats.tar.entry import TarEntry
    from enclave_cc.image.limits import Limits

__all__ = ["Binding", "SealedImage", "SealedImageWriter"]


@dataclass(frozen=True, slots=True)
class SealedImage:
    """What must be released together with the key, so that no other image can take this one's place."""

    manifest_sha256: bytes


class SealedImageWriter:
    """
    Write one sealed image: its layers, then ``finish()``.

    ``directory`` is created if it does not exist. The key stays the caller's. After an error, or after
    ``abort()``, nothing is left, a directory that we created included, and the writer is of no more use.
    """

    def __init__(
        self, directory: Path, *, fdk: Secret, binding: Binding, limits: Limits = DEFAULT_LIMITS
    ) -> None:
        self._fdk = fdk
        self._binding = binding
        self._limits = limits
        self._entries = Meter(
            "image.limit.entries",
            "the image has more entries than the limit",
            limit=limits.entries,
            stage=Stage.UNPACK,
        )
        self._tree = Tree()
        self._merger = TreeMerger(self._tree)
        self._blobs: dict[int, SealedBlob] = {}
        self._chunks_left = MAX_CHUNKS
        self.directory = SealedDirectory(directory)

    def add_layer(self, chunks: Iterable[Octets]) -> None:
        """Seal one layer on top of those that were added before; errors as those of ``fill_place``."""
        self.fill_place(self.reserve_place(), chunks)

    def reserve_place(self) -> int:
        """Return the place of the next layer, from the lowest upwards."""
        self._require_open()
        with self._removing_on_error():
            place = self._merger.reserve()
            if place >= MAX_BLOBS - 1:
                raise TreeTooLargeError("the image has too many layers")
        return place

    def fill_place(self, place: int, chunks: Iterable[Octets]) -> int:
        """
        Seal one layer's uncompressed tar stream, given in pieces of any size, while others fill theirs.

        Returns how many bytes it has. A piece is not used after the next one was asked for. Raise
        ``RefusedError`` if the stream is no layer, ``UnavailableError`` if the disk is, ``GivenUpError`` if
        the image was given up meanwhile; errors of the iterable itself pass through.
        """
        self._require_open()
        with self._removing_on_error():
            with self._new_blob() as blob:
                size = self._seal_layer(place, blob, chunks)
                with explained():
                    sealed = blob.finish()
            self._keep(place, sealed)
            self._merger.finish(place, sealed.chunks)
        return size

    def reuse_place(self, place: int, blob: SealedBlob) -> None:
        """
        Put a layer in its place that was sealed before and lies in our directory; its key becomes ours.

        Raise ``RefusedError`` (sealed-chunk-refused, sealed-blob-truncated) if the host changed it,
        ``GivenUpError`` if the image was given up meanwhile.
        """
        self._require_open()
        with ExitStack() as unless_kept, self._removing_on_error():
            unless_kept.callback(blob.key.wipe)
            with self.directory.while_open():
                # What another layer's failure removed was not changed by the host.
                opened = self.directory.open_blob(blob.name, blob.chunks)
            with os.fdopen(opened, "rb", buffering=0) as file:
                for entries in stored_entries(file.fileno(), blob):
                    self._require_affordable(entries)
                    self._merger.add(place, entries)
            self._count(blob.chunks)
            unless_kept.pop_all()
            self._keep(place, blob)
            self._merger.finish(place, blob.chunks)

    def copy_of(self, place: int) -> SealedBlob:
        """Return how the blob in a filled place is opened; the key is a copy, and the caller's."""
        with self.directory.while_open():
            blob = self._blobs[place]
            return SealedBlob(blob.name, blob.chunks, Secret(blob.key.reveal()))

    def finish(self) -> SealedImage:
        """Write the tree and the manifest; the image exists when this returns, and not before."""
        self._require_open()
        with self._removing_on_error():
            data_bytes = self._merger.complete() * CHUNK_BYTES
            with explained(), self._new_blob() as blob:
                blob.write(write_metadata(self._tree.root, data_bytes=data_bytes, align_bytes=CHUNK_BYTES))
                metadata = blob.finish()
            manifest = Manifest((metadata, *(self._blobs[place] for place in sorted(self._blobs))))
            sealed = seal_manifest(
                manifest, fdk=self._fdk, binding=self._binding, nonce=os.urandom(NONCE_BYTES)
            )
            manifest.wipe()
            self.directory.publish(sealed)
        self.directory.close()
        return SealedImage(hashlib.sha256(sealed).digest())

    def abort(self) -> None:
        """Remove every file and forget all keys; harmless after ``finish()`` or another ``abort()``."""
        self._merger.give_up()
        if self.directory.remove_all():
            for blob in self._blobs.values():
                blob.key.wipe()

    def _seal_layer(self, place: int, blob: BlobWriter, chunks: Iterable[Octets]) -> int:
        """Let a stream go by: scan it, write it sealed, count it."""
        scanner = TarScanner()
        counted = size = 0
        for piece in chunks:
            entries = list(scanner.feed(piece))
            if entries:
                self._require_affordable(entries)
                self._merger.add(place, entries)
            with explained():
                blob.write(piece)
            size += len(piece)
            self._count(blob.chunks - counted)
            counted = blob.chunks
        scanner.close()
        return size

    def _keep(self, place: int, sealed: SealedBlob) -> None:
        with ExitStack() as unless_kept:
            unless_kept.callback(sealed.key.wipe)
            with self.directory.while_open():
                self._blobs[place] = sealed
            unless_kept.pop_all()

    def _require_affordable(self, entries: list[TarEntry]) -> None:
        self._entries.count(len(entries))
        longest = max([len(entry.path) for entry in entries])
        if longest > self._limits.path_bytes:
            require_at_most(
                Checks(),
                "image.limit.path-bytes",
                "a path in a layer is longer than the limit",
                limit=self._limits.path_bytes,
                actual=longest,
                stage=Stage.UNPACK,
            )

    def _count(self, chunks: int) -> None:
        with self.directory.while_open():
            self._chunks_left -= chunks
            if self._chunks_left <= 0:
                raise TreeTooLargeError("the layers are too large")

    @contextmanager
    def _new_blob(self) -> Iterator[BlobWriter]:
        blob = self.directory.new_blob()
        with ExitStack() as unless_finished:
            unless_finished.callback(blob.abandon)
            yield blob
            unless_finished.pop_all()

    @contextmanager
    def _removing_on_error(self) -> Iterator[None]:
        with ExitStack() as on_error:
            on_error.callback(self.abort)
            try:
                yield
            except PathEscapesError as error:
                raise _refused("tar-path-escapes", "a path in a layer leaves the root", error) from error
            except (TreeTooLargeError, ImageTooLargeError) as error:
                raise _refused("tar-too-large", "an image is too large to be sealed", error) from error
            except (TarError, LayerError) as error:
                raise _refused("tar-invalid", "a layer is not a valid archive", error) from error
            on_error.pop_all()

    def _require_open(self) -> None:
        if self.directory.is_open:
            return
        if self._merger.given_up:
            # Another layer's failure may be quicker here than with whoever asks for the next place.
            raise GivenUpError
        raise RuntimeError("the sealed image is finished")


def _refused(code: str, summary: str, error: ValueError) -> RefusedError:
    return RefusedError(code, summary, stage=Stage.UNPACK, detail=str(error))
