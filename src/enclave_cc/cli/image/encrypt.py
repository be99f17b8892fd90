"""`enclave-cc image encrypt`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from enclave_cc.cli.image.files import read
from enclave_cc.cli.output import show
from enclave_cc.core.secret import Secret
from enclave_cc.formats.kbs.resource_uri import ResourceUri
from enclave_cc.formats.ocicrypt.wrapping import BrokerKey
from enclave_cc.tenant.encrypt import encrypt_image
from enclave_cc.tenant.image_layout import ImageLayout


def encrypt(
    source: Path,
    target: Path,
    *,
    key: Annotated[Path, Parameter(help="File with the 32-byte wrapping key.")],
    key_id: Annotated[str, Parameter(help="Where the broker holds that key: kbs:///REPOSITORY/TYPE/TAG.")],
) -> None:
    """
    Encrypt every layer of the image in the OCI layout SOURCE into a new layout TARGET.

    Example: `enclave-cc image encrypt app app.enc --key keys/image.key --key-id kbs:///team/keys/app`
    """
    recipient = BrokerKey(Secret(read(key)), str(ResourceUri.parse(key_id)))
    encrypted = encrypt_image(ImageLayout.open(source), ImageLayout.create(target), [recipient])
    show(f"encrypted {encrypted.digest}")
