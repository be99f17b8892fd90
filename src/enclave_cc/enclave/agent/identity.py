"""
What the agent learns at start about its pod and about the app enclaves it will serve.

The pod's name comes from the host and is believed: it only says which app enclaves are *refused*. Which
program they must be comes from the agent's own bundle, which is measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enclave_cc.core import strict_json
from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.core.fields import FieldError, Fields
from enclave_cc.formats.sgx.measurement import mr_enclave

if TYPE_CHECKING:
    from pathlib import Path

    from enclave_cc.formats.initdata import InitData

MAX_POD_BYTES: Final = 64 << 10
_MEASUREMENT_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class AgentPaths:
    """Where things are inside the agent's root file system; the bundle fixes them."""

    platform_socket: Path
    run: Path
    sealed: Path
    blobs: Path
    boot_identity: Path

    @classmethod
    def below(cls, root: Path) -> AgentPaths:
        """Return the paths of a bundle's root, ``/`` in production."""
        return cls(
            platform_socket=root / "run/platform/platform.sock",
            run=root / "run/enclave-cc",
            sealed=root / "sealed",
            blobs=root / "blobs",
            boot_identity=root / "etc/enclave-cc/boot.json",
        )


def read_pod_uid(path: Path) -> str:
    """Read the pod's unique name; raise ``InvalidInputError`` (``pod-description-invalid``)."""
    fields = _object(path, "pod", "pod-description-invalid")
    try:
        return fields.text("pod_uid")
    except FieldError as error:
        raise _invalid("pod-description-invalid", str(error)) from error


def app_measurement(path: Path, initdata: InitData) -> bytes:
    """Compute what this pod's app enclaves measure; the boot bundle's base is part of our own bundle."""
    fields = _object(path, "boot", "boot-identity-invalid")
    try:
        base = bytes.fromhex(fields.text("base"))
    except ValueError as error:
        raise _invalid("boot-identity-invalid", str(error)) from error
    if len(base) != _MEASUREMENT_BYTES:
        raise _invalid("boot-identity-invalid", "base is not a SHA-256")
    return mr_enclave(base, initdata.digest)


def _object(path: Path, where: str, code: str) -> Fields:
    try:
        return Fields(strict_json.loads(_read(path, MAX_POD_BYTES + 1), max_bytes=MAX_POD_BYTES), where)
    except (OSError, ValueError) as error:
        raise _invalid(code, str(error)) from error


def _read(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        return file.read(limit)


def _invalid(code: str, detail: str) -> InvalidInputError:
    return InvalidInputError(
        code, "the agent was started with an unusable description", stage=Stage.CONFIG, detail=detail
    )
