"""
What boot and server say to each other: one canonical JSON object a message, and never a key.

The key follows an ``Open`` as a message of its own. Both sides are the same measured program; what they
read is checked all the same, because the server decodes what the host can change.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from enclave_cc.core import strict_json
from enclave_cc.core.errors import (
    EnclaveCcError,
    InternalError,
    InvalidInputError,
    RefusedError,
    Stage,
    UnavailableError,
)
from enclave_cc.core.fields import Fields
from enclave_cc.core.findings import MAX_VALUE_CHARS, Finding
from enclave_cc.formats.rootfs_options import RootfsOptions
from enclave_cc.formats.sealed.manifest import Binding

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# Fits a socket's buffer of the usual size, so that a message goes whole or not at all.
MAX_MESSAGE_BYTES: Final = 1 << 17
_FAMILY: Final = {
    kind.__name__: kind for kind in (InvalidInputError, RefusedError, UnavailableError, InternalError)
}


@dataclass(frozen=True, slots=True)
class Prepare:
    """Find out, before the key is there, how this kernel can mount; empty ``candidates`` mean all."""

    work: Path
    candidates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Open:
    """Mount an image; the key comes next."""

    directory: Path
    manifest_sha256: bytes
    binding: Binding
    mountpoint: Path
    work: Path
    options: RootfsOptions


@dataclass(frozen=True, slots=True)
class Opened:
    """It is mounted, in this way."""

    backend: str


@dataclass(frozen=True, slots=True)
class Failed:
    """It is not."""

    error: EnclaveCcError


@dataclass(frozen=True, slots=True)
class Poisoned:
    """Something was refused: nothing more is served."""

    finding: Finding


Message: TypeAlias = Prepare | Open | Opened | Failed | Poisoned


def to_bytes(message: Message) -> bytes:
    """Write a message of at most ``MAX_MESSAGE_BYTES``; findings that do not fit are left out."""
    data = strict_json.canonical(_members(message))
    while len(data) > MAX_MESSAGE_BYTES and isinstance(message, Failed) and message.error.findings:
        message = Failed(_with_fewer_findings(message.error))
        data = strict_json.canonical(_members(message))
    return data


def from_bytes(data: bytes) -> Message:
    """Read a message; raise ``ValueError`` for anything else."""
    fields = Fields(strict_json.loads(data, max_bytes=MAX_MESSAGE_BYTES), "message")
    kind = fields.text("message")
    if kind not in _READERS:
        raise fields.error("message", "is unknown")
    names, read = _READERS[kind]
    fields.only("message", *names)
    return read(fields)


def _members(message: Message) -> dict[str, object]:
    match message:
        case Prepare(work, candidates):
            return {"message": "prepare", "work": str(work), "candidates": list(candidates)}
        case Open(directory, manifest_sha256, binding, mountpoint, work, options):
            return {
                "message": "open",
                "directory": str(directory),
                "manifest_sha256": manifest_sha256.hex(),
                "binding": [binding.pod_uid, binding.container_id, binding.image_digest],
                "mountpoint": str(mountpoint),
                "work": str(work),
                "options": options.to_json(),
            }
        case Opened(backend):
            return {"message": "opened", "backend": backend}
        case Failed(error):
            return {"message": "failed", **_error_members(error)}
        case Poisoned(finding):
            return {"message": "poisoned", "finding": _finding_members(finding)}


def _error_members(error: EnclaveCcError) -> dict[str, object]:
    kind = type(error).__name__
    return {
        "kind": kind if kind in _FAMILY else InternalError.__name__,
        "code": error.code,
        "stage": str(error.stage),
        "summary": error.summary,
        "detail": _sendable(error.detail),
        "findings": [_finding_members(finding) for finding in error.findings],
    }


def _finding_members(finding: Finding) -> dict[str, str]:
    return {name: _sendable(value) for name, value in finding.to_json().items()}


def _sendable(text: str) -> str:
    """Cut a text, and replace what has no UTF-8: a name on the host's disk may be in it."""
    return text[:MAX_VALUE_CHARS].encode("utf-8", "replace").decode("utf-8")


def _with_fewer_findings(error: EnclaveCcError) -> EnclaveCcError:
    return type(error)(
        error.code, error.summary, stage=error.stage, detail=error.detail, findings=error.findings[:-1]
    )


def _read_prepare(fields: Fields) -> Prepare:
    return Prepare(Path(fields.text("work")), fields.texts("candidates"))


def _read_open(fields: Fields) -> Open:
    pod_uid, container_id, image_digest = fields.texts("binding")
    return Open(
        directory=Path(fields.text("directory")),
        manifest_sha256=bytes.fromhex(fields.text("manifest_sha256")),
        binding=Binding(pod_uid, container_id, image_digest),
        mountpoint=Path(fields.text("mountpoint")),
        work=Path(fields.text("work")),
        options=RootfsOptions.read(fields.object("options")),
    )


def _read_opened(fields: Fields) -> Opened:
    return Opened(fields.text("backend"))


def _read_failed(fields: Fields) -> Failed:
    kind = fields.text("kind")
    if kind not in _FAMILY:
        raise fields.error("kind", "is unknown")
    error = _FAMILY[kind](
        fields.text("code"),
        fields.text("summary"),
        stage=Stage(fields.text("stage")),
        detail=fields.text("detail"),
        findings=tuple(map(Finding.from_json, fields.array("findings"))),
    )
    return Failed(error)


def _read_poisoned(fields: Fields) -> Poisoned:
    return Poisoned(Finding.from_json(fields.raw("finding")))


_READERS: Final[Mapping[str, tuple[tuple[str, ...], Callable[[Fields], Message]]]] = {
    "prepare": (("work", "candidates"), _read_prepare),
    "open": (
        ("directory", "manifest_sha256", "binding", "mountpoint", "work", "options"),
        _read_open,
    ),
    "opened": (("backend",), _read_opened),
    "failed": (("kind", "code", "stage", "summary", "detail", "findings"), _read_failed),
    "poisoned": (("finding",), _read_poisoned),
}
