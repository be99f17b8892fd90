"""A blob from one place to another, by the shortest way: it is there, it can be mounted, or it is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enclave_cc.tenant.places.registry import RegistryReader, RegistryWriter

if TYPE_CHECKING:
    from enclave_cc.formats.oci.descriptor import Descriptor
    from enclave_cc.tenant.places.ports import ImageReader, ImageWriter
    from enclave_cc.tenant.work import Work


def transfer_blob(reader: ImageReader, writer: ImageWriter, descriptor: Descriptor, work: Work) -> None:
    """Make a blob of one place exist in another; its digest is compared on the way."""
    if writer.has_blob(descriptor.digest) or _mounted(reader, writer, descriptor):
        return
    chunks = work.stream(str(descriptor.digest), reader.open_blob(descriptor), descriptor.size)
    writer.add_blob(chunks, descriptor.size, digest=descriptor.digest)


def _mounted(reader: ImageReader, writer: ImageWriter, descriptor: Descriptor) -> bool:
    match reader, writer:
        case RegistryReader(), RegistryWriter():
            return writer.mount_blob(descriptor.digest, reader.reference)
        case _:
            return False
