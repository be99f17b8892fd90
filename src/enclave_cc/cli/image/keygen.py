"""`enclave-cc image keygen`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from enclave_cc.cli.image.files import create_private, require_absent
from enclave_cc.cli.image.passwords import password_from
from enclave_cc.cli.output import show
from enclave_cc.tenant.signing.signing_key import SigningKey

_KEY_BYTES = 32


def keygen(
    directory: Path,
    *,
    encrypted: Annotated[
        bool,
        Parameter(
            help="Encrypt `cosign.key` as cosign does, with COSIGN_PASSWORD or what you type.", negative=""
        ),
    ] = False,
    password_file: Annotated[
        Path | None, Parameter(help="File with the password to encrypt `cosign.key` with.")
    ] = None,
) -> None:
    """
    Make a layer-wrapping key and a cosign-compatible signing key.

    Writes `image.key` (32 bytes, goes into the broker), `cosign.key` (stays with you) and `cosign.pub`
    (goes into the broker) into DIRECTORY. A file that is there already is never replaced.

    Example: `enclave-cc image keygen keys`
    """
    password = password_from(password_file)() if encrypted or password_file is not None else None
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    signing_key = SigningKey.generate()
    files = {
        directory / "image.key": os.urandom(_KEY_BYTES),
        directory / "cosign.key": signing_key.to_pem(password),
        directory / "cosign.pub": signing_key.public.to_pem(),
    }
    # All or none: half a set of new keys beside an old one would be taken for a pair.
    for path in files:
        require_absent(path)
    for path, data in files.items():
        with os.fdopen(create_private(path), "wb") as file:
            file.write(data)
        show(f"wrote {path}")
    (directory / "cosign.pub").chmod(0o644)
