"""From a place's text to a reader or a writer that is closed, committed or abandoned in time."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.tenant.places.docker_archive import DockerArchiveReader
from enclave_cc.tenant.places.docker_archive_writer import DockerArchiveWriter
from enclave_cc.tenant.places.image_layout import ImageLayout
from enclave_cc.tenant.places.layout import LayoutReader, LayoutWriter
from enclave_cc.tenant.places.names import Place, PlaceKind
from enclave_cc.tenant.places.oci_archive import OciArchiveReader, OciArchiveWriter
from enclave_cc.tenant.places.registry import RegistryReader, RegistryWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from enclave_cc.tenant.places.ports import ImageReader, ImageWriter
    from enclave_cc.tenant.places.registry import Registry

    Connect = Callable[[], Registry]


def _no_registry() -> Registry:
    raise InvalidInputError(
        "image-place-invalid", "an image cannot be named like this", stage=Stage.REQUEST, detail="a registry"
    )


@contextmanager
def open_reader(text: str, connect: Connect = _no_registry) -> Iterator[ImageReader]:
    """Open a place to read from; ``connect`` gives the registry client, if the place is in a registry."""
    place = Place.parse(text)
    match place.kind:
        case PlaceKind.LAYOUT:
            yield LayoutReader(ImageLayout.open(place.path), place.name)
        case PlaceKind.OCI_ARCHIVE:
            with closing(OciArchiveReader(place.path, place.name)) as oci:
                yield oci
        case PlaceKind.DOCKER_ARCHIVE:
            with closing(DockerArchiveReader(place.path, place.name)) as docker:
                yield docker
        case PlaceKind.REGISTRY:
            taken_for = f"{place.in_registry}, as there is no directory {text}" if place.guessed else ""
            yield RegistryReader(connect(), place.in_registry, taken_for=taken_for)


@contextmanager
def open_writer(text: str, connect: Connect = _no_registry) -> Iterator[ImageWriter]:
    """Open a place to write to; it is committed at the end of the block, or abandoned if that failed."""
    writer = None
    try:
        writer = _writer(Place.parse(text), connect)
        yield writer
        writer.commit()
    except BaseException:
        if writer is not None:
            writer.abandon()
        raise


def _writer(place: Place, connect: Connect) -> ImageWriter:
    match place.kind:
        case PlaceKind.LAYOUT:
            return LayoutWriter(place.path, place.name)
        case PlaceKind.OCI_ARCHIVE:
            return OciArchiveWriter(place.path, place.name)
        case PlaceKind.DOCKER_ARCHIVE:
            return DockerArchiveWriter(place.path, place.name)
        case PlaceKind.REGISTRY:
            return RegistryWriter(connect(), place.in_registry)
