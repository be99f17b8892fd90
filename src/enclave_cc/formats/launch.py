"""
The launch configuration: how one container's process starts, as the agent approved it.

It travels from agent to app enclave inside the attested channel and is never read from the host. The
user stays in the image's own syntax, because only the mounted root file system can resolve it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from enclave_cc.core import strict_json
from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.core.fields import FieldError, Fields
from enclave_cc.formats.rootfs_options import DEFAULT_OPTIONS, RootfsOptions

# It crosses the attested channel as one message of at most 1 MiB, with a key and a digest beside it.
MAX_LAUNCH_BYTES: Final = 1000 << 10


@dataclass(frozen=True, slots=True)
class ApprovedMount:
    """A mount that the host may make inside the container: where, and of which file system type."""

    destination: str
    kind: str


@dataclass(frozen=True, slots=True)
class LaunchConfiguration:
    """Arguments, environment, directory, user (image syntax), mounts and root of one container."""

    args: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str
    user: str
    image_digest: str
    exec_allowed: bool = False
    mounts: tuple[ApprovedMount, ...] = ()
    rootfs: RootfsOptions = DEFAULT_OPTIONS

    def to_bytes(self) -> bytes:
        """Write canonical JSON; raise ``InvalidInputError`` (``runtime-spec-invalid``) if it is too long."""
        data = strict_json.canonical(
            {
                "args": self.args,
                "env": self.env,
                "cwd": self.cwd,
                "user": self.user,
                "image_digest": self.image_digest,
                "exec": self.exec_allowed,
                "mounts": [[mount.destination, mount.kind] for mount in self.mounts],
                "rootfs": self.rootfs.to_json(),
            }
        )
        if len(data) > MAX_LAUNCH_BYTES:
            raise InvalidInputError(
                "runtime-spec-invalid",
                "arguments, environment and mounts are too long",
                stage=Stage.LAUNCH,
                detail=f"{len(data)} bytes of at most {MAX_LAUNCH_BYTES}",
            )
        return data

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read what ``to_bytes`` wrote; raise ``InvalidInputError`` (``launch-configuration-invalid``)."""
        try:
            fields = Fields(strict_json.loads(data, max_bytes=MAX_LAUNCH_BYTES), "launch")
            fields.only("args", "env", "cwd", "user", "image_digest", "exec", "mounts", "rootfs")
            return cls(
                args=fields.texts("args"),
                env=fields.texts("env"),
                cwd=fields.text("cwd"),
                user=fields.text("user"),
                image_digest=fields.text("image_digest"),
                exec_allowed=fields.boolean("exec"),
                mounts=tuple(_mount(fields, value) for value in fields.array("mounts")),
                rootfs=RootfsOptions.read(fields.object("rootfs")),
            )
        except (FieldError, strict_json.InvalidJsonError) as error:
            raise InvalidInputError(
                "launch-configuration-invalid",
                "the launch configuration is not valid",
                stage=Stage.LAUNCH,
                detail=str(error),
            ) from error


def _mount(fields: Fields, value: object) -> ApprovedMount:
    match value:
        case [str(destination), str(kind)]:
            return ApprovedMount(destination, kind)
        case _:
            raise fields.error("mounts", "holds something that is not a mount")
