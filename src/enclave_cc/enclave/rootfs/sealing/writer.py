"""
Turn the layers of an image into a sealed image, in one pass.

Each layer's tar stream is sealed as it is, several at a time if the caller has threads for it; the merged
tree, which points into the layers, becomes one more blob; the manifest with all keys comes last and appears
under its name at once. Whatever fails removes every file. Plaintext never reaches the directory.
"""

from __future__ import annotations

import hashlib
import os
import threading
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import RefusedError, Stage, UnavailableError
from enclave_cc.enclave.rootfs.sealing.blob import BlobWriter, create, random_name, write_all
from enclave_cc.enclave.rootfs.sealing.merge import GivenUpError, TreeMerger
from enclave_cc.formats.sealed.chunks import CHUNK_BYTES, MAX_CHUNKS, Octets
from enclave_cc.formats.sealed.erofs import ImageTooLargeError, write_metadata
from enclave_cc.formats.sealed.manifest import (
    MANIFEST_NAME,
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

    from enclave_cc.core.secret import Secret
    from enclave_cc.formats.tar.entry import TarEntry
    from enclave_cc.image.limits import Limits

__all__ = ["Binding", "SealedImage", "SealedImageWriter"]

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


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
        self._lock = threading.Lock()
        self._blobs: dict[int, SealedBlob] = {}
        self._chunks_left = MAX_CHUNKS
        self._names: list[str] = []
        self._created: Path | None = None
        with _explained():
            with suppress(FileExistsError):
                directory.mkdir(mode=0o700)
                self._created = directory
            self._directory_fd = os.open(directory, _DIRECTORY)

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

    def fill_place(self, place: int, chunks: Iterable[Octets]) -> None:
        """
        Seal one layer's uncompressed tar stream, given in pieces of any size, while others fill theirs.

        A piece is not used after the next one was asked for. Raise ``RefusedError`` if the stream is no
        layer, ``UnavailableError`` if the disk is, ``GivenUpError`` if the image was given up meanwhile;
        errors of the iterable itself pass through.
        """
        self._require_open()
        with self._removing_on_error():
            with self._new_blob() as blob:
                self._seal_layer(place, blob, chunks)
                with _explained():
                    sealed = blob.finish()
            self._keep(place, sealed)
            self._merger.finish(place, sealed.chunks)

    def finish(self) -> SealedImage:
        """Write the tree and the manifest; the image exists when this returns, and not before."""
        self._require_open()
        with self._removing_on_error():
            data_bytes = self._merger.complete() * CHUNK_BYTES
            with _explained(), self._new_blob() as blob:
                blob.write(write_metadata(self._tree.root, data_bytes=data_bytes, align_bytes=CHUNK_BYTES))
                metadata = blob.finish()
            manifest = Manifest((metadata, *(self._blobs[place] for place in sorted(self._blobs))))
            sealed = seal_manifest(
                manifest, fdk=self._fdk, binding=self._binding, nonce=os.urandom(NONCE_BYTES)
            )
            manifest.wipe()
            with _explained():
                self._publish(sealed)
        self._close()
        return SealedImage(hashlib.sha256(sealed).digest())

    def abort(self) -> None:
        """Remove every file and forget all keys; harmless after ``finish()`` or another ``abort()``."""
        self._merger.give_up()
        with self._lock:
            if self._directory_fd < 0:
                return
            for blob in self._blobs.values():
                blob.key.wipe()
            for name in self._names:
                with suppress(OSError):
                    os.unlink(name, dir_fd=self._directory_fd)
            self._close()
        if self._created is not None:
            with suppress(OSError):
                self._created.rmdir()

    def _seal_layer(self, place: int, blob: BlobWriter, chunks: Iterable[Octets]) -> None:
        """Let a stream go by: scan it, write it sealed, count it."""
        scanner = TarScanner()
        counted = 0
        for piece in chunks:
            entries = list(scanner.feed(piece))
            if entries:
                self._require_affordable(entries)
                self._merger.add(place, entries)
            with _explained():
                blob.write(piece)
            self._count(blob.chunks - counted)
            counted = blob.chunks
        scanner.close()

    def _keep(self, place: int, sealed: SealedBlob) -> None:
        with ExitStack() as unless_kept:
            unless_kept.callback(sealed.key.wipe)
            with self._while_open():
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
        with self._while_open():
            self._chunks_left -= chunks
            if self._chunks_left <= 0:
                raise TreeTooLargeError("the layers are too large")

    @contextmanager
    def _while_open(self) -> Iterator[None]:
        """Exclude ``abort()``; raise if it was first."""
        with self._lock:
            if self._directory_fd < 0:
                raise GivenUpError
            yield

    def _publish(self, sealed: bytes) -> None:
        """
        Give the complete manifest its name in one step.

        Nothing is flushed to the disk, which would wait for all the blobs: the image dies with its key,
        which only lives in memory, so none survives a crash of the host, and what is damaged the tags refuse.
        """
        name = random_name(".manifest")
        self._names += [name, MANIFEST_NAME]
        fd = create(self._directory_fd, name)
        try:
            write_all(fd, sealed)
        finally:
            os.close(fd)
        os.rename(name, MANIFEST_NAME, src_dir_fd=self._directory_fd, dst_dir_fd=self._directory_fd)

    @contextmanager
    def _new_blob(self) -> Iterator[BlobWriter]:
        with _explained(), self._while_open():
            blob = BlobWriter(self._directory_fd)
            self._names.append(blob.name)
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
        if self._directory_fd >= 0:
            return
        if self._merger.given_up:
            # Another layer's failure may be quicker here than with whoever asks for the next place.
            raise GivenUpError
        raise RuntimeError("the sealed image is finished")

    def _close(self) -> None:
        fd, self._directory_fd = self._directory_fd, -1
        os.close(fd)


@contextmanager
def _explained() -> Iterator[None]:
    """Map what the disk reports; used around our own writes only, not around foreign iterators."""
    try:
        yield
    except OSError as error:
        raise UnavailableError(
            "sealed-store-unwritable",
            "the sealed image could not be written",
            stage=Stage.SEAL,
            detail=str(error),
        ) from error


def _refused(code: str, summary: str, error: ValueError) -> RefusedError:
    return RefusedError(code, summary, stage=Stage.UNPACK, detail=str(error))
