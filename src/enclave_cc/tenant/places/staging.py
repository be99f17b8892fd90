"""
Archives are written at once from a layout that was collected beside them.

A tar's members need their sizes first, and blobs come from several threads; so they are collected as a
layout under a temporary name, and the archive, too, gets its name only when it is complete.
"""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from typing import IO, TYPE_CHECKING

from enclave_cc.tenant.places.files import beside, unusable
from enclave_cc.tenant.places.image_layout import ImageLayout
from enclave_cc.tenant.places.layout import LayoutWriter

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from enclave_cc.core.digest import Digest
    from enclave_cc.formats.oci.descriptor import Descriptor


class StagedWriter(ABC):
    """Everything about writing an archive but its format."""

    def __init__(self, path: Path, name: str | None = None) -> None:
        self._path = path
        self._staging = beside(path)
        try:
            self._staging.mkdir(parents=True, mode=0o700)
            self._layout = LayoutWriter(self._staging / "layout", name)
        except OSError as error:
            raise unusable(path, error) from error
        except BaseException:
            self.abandon()
            raise
        self.name = self._layout.name

    @abstractmethod
    def write_archive(self, layout: ImageLayout, out: IO[bytes]) -> None:
        """Write a finished layout."""

    def has_blob(self, digest: Digest) -> bool:
        """Tell whether a blob was added already."""
        return self._layout.has_blob(digest)

    def add_blob(
        self, chunks: Iterable[bytes], size: int | None = None, *, digest: Digest | None = None
    ) -> tuple[Digest, int]:
        """Store a blob."""
        return self._layout.add_blob(chunks, size, digest=digest)

    def add_manifest(self, body: bytes, media_type: str, *, name: str | None = None) -> Descriptor:
        """Store a manifest or an index."""
        return self._layout.add_manifest(body, media_type, name=name)

    def add_referrer(self, subject: Digest, descriptor: Descriptor) -> None:
        """Add to the layout's list."""
        self._layout.add_referrer(subject, descriptor)

    def commit(self) -> None:
        """Write the archive and give it its name."""
        try:
            self._layout.commit()
            finished = self._staging / "archive"
            with finished.open("wb") as out:
                self.write_archive(ImageLayout.open(self._staging / "layout"), out)
            finished.replace(self._path)
        except OSError as error:
            raise unusable(self._path, error) from error
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Remove what was collected."""
        shutil.rmtree(self._staging, ignore_errors=True)
