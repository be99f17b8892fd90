"""
The parts of an OCI runtime specification that decide what runs, on what, and what is laid over it.

The host writes this document; it is read here as foreign JSON and nothing in it is believed. The rest
of the document (capabilities, cgroups, seccomp) stays the host's and is not parsed.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Self

from enclave_cc.core.errors import Stage
from enclave_cc.core.fields import Fields
from enclave_cc.formats.oci.edge import foreign, read_object

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# The default seccomp profile takes 60 KiB; large environments a few hundred more.
MAX_SPEC_BYTES: Final = 2 << 20
# Pods have dozens of mounts and variables, at most a few thousand of the latter through service links.
MAX_MOUNTS: Final = 1024
MAX_ENV: Final = 16384
MAX_ARGS: Final = 16384
# The kind of a device node: as good as a mount for putting the host's bytes where the image has its own.
DEVICE: Final = "device"
# With one of these options runtimes make a bind mount and ignore the type.
_BIND_OPTIONS: Final = frozenset({"bind", "rbind"})


@dataclass(frozen=True, slots=True)
class SpecProcess:
    """The process as the host wants it: ids are the host's guess, since it cannot read the image."""

    args: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str
    uid: int
    gid: int
    terminal: bool

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a process document, as an exec brings it; raise ``InvalidInputError``."""
        with foreign("runtime-spec-invalid", "the process specification is malformed", stage=Stage.EXEC):
            return cls.read(read_object(data, "process", max_bytes=MAX_SPEC_BYTES))

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Read the members of a parsed process; raise ``FieldError``."""
        user = fields.object("user")
        process = cls(
            args=fields.texts("args"),
            env=fields.texts("env"),
            cwd=fields.text("cwd", default="/"),
            uid=user.integer("uid", default=0),
            gid=user.integer("gid", default=0),
            terminal=fields.boolean("terminal", default=False),
        )
        if len(process.args) > MAX_ARGS or len(process.env) > MAX_ENV:
            raise fields.error("args", "or env has too many entries")
        if any("\0" in text for text in (*process.args, *process.env, process.cwd)):
            raise fields.error("args", "or env holds a NUL")
        return process


@dataclass(frozen=True, slots=True)
class SpecMount:
    """A mount or device node; ``destination`` is normalised, so that rules over paths mean what they say."""

    destination: str
    kind: str
    source: str

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Read the members of a parsed mount; raise ``FieldError``."""
        binds = not _BIND_OPTIONS.isdisjoint(fields.texts("options"))
        return cls(
            destination=_plain_path(fields, "destination"),
            kind="bind" if binds else fields.text("type", default=""),
            source=fields.text("source", default=""),
        )

    @classmethod
    def read_device(cls, fields: Fields) -> Self:
        """Read the members of a parsed device node; raise ``FieldError``."""
        return cls(destination=_plain_path(fields, "path"), kind=DEVICE, source="")

    @property
    def is_bind(self) -> bool:
        """Tell whether the content comes from a directory or file of the host."""
        return self.kind in {"", "bind", "none", "rbind"}


@dataclass(frozen=True, slots=True)
class RuntimeSpec:
    """Process, mounts and device nodes of one container, its annotations, and how much memory it may take."""

    process: SpecProcess
    mounts: tuple[SpecMount, ...]
    annotations: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    memory_limit_bytes: int | None = None

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read ``config.json``; raise ``InvalidInputError`` (``runtime-spec-invalid``)."""
        with foreign("runtime-spec-invalid", "the runtime specification is malformed", stage=Stage.LAUNCH):
            fields = read_object(data, "spec", max_bytes=MAX_SPEC_BYTES)
            return cls(
                SpecProcess.read(fields.object("process")),
                (*_mounts(fields), *_devices(fields)),
                MappingProxyType(fields.text_map("annotations")),
                _memory_limit(fields),
            )


def is_plain_path(path: str) -> bool:
    """Tell whether a path is absolute and already in its shortest form."""
    return (
        path.startswith("/")
        and not path.startswith("//")
        and posixpath.normpath(path) == path
        and "\0" not in path
    )


def _plain_path(fields: Fields, name: str) -> str:
    path = fields.text(name)
    if not is_plain_path(path):
        raise fields.error(name, "is not a plain absolute path")
    return path


def _mounts(spec: Fields) -> Iterator[SpecMount]:
    for index, value in enumerate(_bounded(spec, "mounts")):
        yield SpecMount.read(Fields(value, f"spec.mounts[{index}]"))


def _devices(spec: Fields) -> Iterator[SpecMount]:
    for index, value in enumerate(_bounded(spec.object("linux"), "devices")):
        yield SpecMount.read_device(Fields(value, f"spec.linux.devices[{index}]"))


def _memory_limit(spec: Fields) -> int | None:
    """Read the limit; runtimes take zero and below for none (OCI runtime specification, "Memory")."""
    memory = spec.object("linux").object("resources").object("memory")
    limit = memory.integer("limit", default=0)
    return limit if limit > 0 else None


def _bounded(fields: Fields, name: str) -> list[object]:
    values = fields.array(name)
    if len(values) > MAX_MOUNTS:
        raise fields.error(name, "has too many entries")
    return values
