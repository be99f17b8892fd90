"""The image configuration: what to run, as whom and where, and the digests of the plain layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from enclave_cc.core import strict_json
from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import Stage
from enclave_cc.formats.oci.edge import foreign, read_object

# Histories of hundreds of build steps stay far below; the bound keeps a registry from filling memory.
MAX_CONFIG_BYTES: Final = 8 << 20


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The members of an image configuration that decide how a container runs."""

    os: str
    architecture: str
    diff_ids: tuple[Digest, ...]
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    user: str = ""
    working_dir: str = ""
    variant: str = ""

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """
        Read a configuration; raise ``InvalidInputError`` (image-config-invalid) otherwise.

        Members unknown here are skipped, as the image specification (config.md) asks.
        """
        with foreign("image-config-invalid", "the image configuration is malformed", stage=Stage.FETCH):
            fields = read_object(data, "config", max_bytes=MAX_CONFIG_BYTES)
            root = fields.object("rootfs")
            if root.text("type") != "layers":
                raise root.error("type", "is not layers")
            run = fields.object("config")
            return cls(
                os=fields.text("os"),
                architecture=fields.text("architecture"),
                variant=fields.text("variant", default=""),
                diff_ids=tuple(Digest.parse(text) for text in root.texts("diff_ids")),
                entrypoint=run.texts("Entrypoint"),
                cmd=run.texts("Cmd"),
                env=run.texts("Env"),
                user=run.text("User", default=""),
                working_dir=run.text("WorkingDir", default=""),
            )

    def to_bytes(self) -> bytes:
        """Write the configuration, always the same bytes for the same value."""
        run: dict[str, object] = {
            "Entrypoint": list(self.entrypoint),
            "Cmd": list(self.cmd),
            "Env": list(self.env),
            "User": self.user,
            "WorkingDir": self.working_dir,
        }
        members: dict[str, object] = {
            "architecture": self.architecture,
            "os": self.os,
            "config": {name: value for name, value in run.items() if value},
            "rootfs": {"type": "layers", "diff_ids": [str(digest) for digest in self.diff_ids]},
        }
        if self.variant:
            members["variant"] = self.variant
        return strict_json.canonical(members)
