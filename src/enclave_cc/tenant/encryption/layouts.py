"""Encrypt an image of one layout into another, in a program rather than at a command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enclave_cc.tenant.encryption.images import Encryption, encrypt
from enclave_cc.tenant.places.layout import LayoutReader, LayoutWriter

if TYPE_CHECKING:
    from collections.abc import Sequence

    from enclave_cc.formats.oci.descriptor import Descriptor
    from enclave_cc.formats.ocicrypt.wrapping import Recipient
    from enclave_cc.tenant.places.image_layout import ImageLayout


def encrypt_image(
    source: ImageLayout, target: ImageLayout, recipients: Sequence[Recipient], *, name: str = "latest"
) -> Descriptor:
    """Write an encrypted copy of an image and all its platforms; return its descriptor."""
    writer = LayoutWriter(target.directory, name)
    done = encrypt(LayoutReader(source, name), writer, Encryption(recipients))
    writer.commit()
    return done.descriptor
