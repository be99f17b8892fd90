"""`enclave-cc image sign`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from enclave_cc.cli.image.files import read
from enclave_cc.cli.output import show
from enclave_cc.tenant.image_layout import ImageLayout
from enclave_cc.tenant.sign import sign_image


def sign(
    layout: Path,
    *,
    repository: Annotated[str, Parameter(help="Name that people pull by, without a tag.")],
    key: Annotated[Path, Parameter(help="Private key in PEM, as `image keygen` makes it.")],
) -> None:
    """
    Sign the image in an OCI layout; the signature is pushed along with it.

    Example: `enclave-cc image sign app.enc --repository registry.example/team/app --key keys/cosign.key`
    """
    image = ImageLayout.open(layout)
    signed = image.find()
    sign_image(image, signed, repository=repository, private_key_pem=read(key))
    show(f"signed {signed.digest} for {repository}")
