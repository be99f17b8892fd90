"""The manifest that came with the key: read from the host's directory, accepted only if it is that one."""

from __future__ import annotations

import hashlib
import hmac
import os
import stat
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import RefusedError, Stage
from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.formats.sealed.manifest import (
    MANIFEST_NAME,
    MAX_MANIFEST_BYTES,
    Binding,
    Manifest,
    ManifestRefusedError,
    UnknownFormatError,
    open_manifest,
)

if TYPE_CHECKING:
    from pathlib import Path

    from enclave_cc.core.secret import Secret

_EXPECTED: Final = "a manifest sealed under the released key for this pod, container and image"
_OPEN: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


def read_released_manifest(
    directory: Path, fdk: Secret, manifest_sha256: bytes, binding: Binding
) -> Manifest:
    """
    Open the manifest that was released to us, and no other.

    (1) It is small and a plain file. (2) It has the digest that came with the key: no older image takes
    its place. (3) It opens under the key, for this pod, container and image.
    """
    data = _read_bounded(directory)
    actual = hashlib.sha256(data).digest()
    if not hmac.compare_digest(actual, manifest_sha256):
        raise _manifest_refused(
            "it has another digest than the one released with the key", manifest_sha256.hex(), actual.hex()
        )
    try:
        return open_manifest(data, fdk=fdk, binding=binding)
    except UnknownFormatError as error:
        raise RefusedError(
            "sealed-format-unknown",
            "the sealed image has a format that this version does not know",
            stage=Stage.MOUNT,
            detail=str(error),
            findings=(_finding("a version that this release knows", str(error)),),
        ) from error
    except ManifestRefusedError as error:
        raise _manifest_refused(str(error), _EXPECTED, str(error)) from error


def _read_bounded(directory: Path) -> bytes:
    try:
        fd = os.open(directory / MANIFEST_NAME, _OPEN)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise _manifest_refused("it is no plain file", "a plain file", "something else")
            with os.fdopen(fd, "rb", closefd=False) as file:
                return file.read(MAX_MANIFEST_BYTES + 1)
        finally:
            os.close(fd)
    except OSError as error:
        complaint = f"it cannot be read: {error.strerror}"
        raise _manifest_refused(complaint, "a plain file", complaint) from error


def _manifest_refused(detail: str, expected: str, actual: str) -> RefusedError:
    return RefusedError(
        "sealed-manifest-refused",
        "the manifest of the sealed image is not the one that belongs to this container",
        stage=Stage.MOUNT,
        detail=detail,
        findings=(_finding(expected, actual),),
    )


def _finding(expected: str, actual: str) -> Finding:
    return Finding("rootfs.manifest", Outcome.FAILED, expected, actual)
