"""`enclave-cc image keygen`."""

from __future__ import annotations

import os
from pathlib import Path

from enclave_cc.cli.image.files import create_private
from enclave_cc.cli.output import show
from enclave_cc.tenant.signing_key import generate_signing_key

_KEY_BYTES = 32


def keygen(directory: Path) -> None:
    """
    Make a layer-wrapping key and a cosign-compatible signing key.

    Writes `image.key` (32 bytes, goes into the broker), `cosign.key` (stays with you) and `cosign.pub`
    (goes into the broker) into DIRECTORY. A file that is there already is never replaced.

    Example: `enclave-cc image keygen keys`
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    private, public = generate_signing_key()
    for name, data in (
        ("image.key", os.urandom(_KEY_BYTES)),
        ("cosign.key", private),
        ("cosign.pub", public),
    ):
        with os.fdopen(create_private(directory / name), "wb") as file:
            file.write(data)
        show(f"wrote {directory / name}")
