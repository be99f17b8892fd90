"""
How one container's root file system is served: where its writes go, and where its reads come from.

The pod asks in its annotations, the owner's policy bounds it, and the launch configuration carries what
the agent approved to the app enclave.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enclave_cc.core.fields import Fields

# What fits most workloads, which write logs and temporary files; volumes are for the rest.
DEFAULT_WRITABLE_BYTES: Final = 1 << 30
# Images beyond it start faster, and cost less, when they are decrypted as they are read.
DEFAULT_DECRYPT_BYTES: Final = 1 << 30
# No node has as much memory, and what we keep in memory about scratch of this size would fill one.
GREATEST_BYTES: Final = 1 << 40


class Writable(StrEnum):
    """Where what the workload writes over its image is kept; it is gone with the container either way."""

    MEMORY = "memory"
    SCRATCH = "scratch"  # encrypted on the host's disk, under a key that only lives in memory


# Zero would mean "without bound" to a tmpfs, and a file system on disk needs room for its own tables.
LEAST_BYTES: Final[Mapping[Writable, int]] = MappingProxyType(
    {Writable.MEMORY: 1 << 20, Writable.SCRATCH: 16 << 20}
)


@dataclass(frozen=True, slots=True)
class RootfsOptions:
    """
    The choice for one container.

    ``writable_bytes`` bounds what it may write, ``decrypt_bytes_limit`` the decrypted size of an image that
    may be decrypted to memory; a larger one is refused.
    """

    writable: Writable = Writable.MEMORY
    writable_bytes: int = DEFAULT_WRITABLE_BYTES
    decrypt_to_memory: bool = False
    decrypt_bytes_limit: int = DEFAULT_DECRYPT_BYTES

    def to_json(self) -> dict[str, str | int | bool]:
        """Return the choice as JSON members."""
        return {
            "writable": str(self.writable),
            "writable_bytes": self.writable_bytes,
            "decrypt_to_memory": self.decrypt_to_memory,
            "decrypt_bytes_limit": self.decrypt_bytes_limit,
        }

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Read what ``to_json`` wrote, all of it; raise ``FieldError``."""
        fields.only("writable", "writable_bytes", "decrypt_to_memory", "decrypt_bytes_limit")
        kind = fields.text("writable")
        if kind not in set(Writable):
            raise fields.error("writable", "is neither memory nor scratch")
        writable = Writable(kind)
        return cls(
            writable=writable,
            writable_bytes=_within(fields, "writable_bytes", LEAST_BYTES[writable]),
            decrypt_to_memory=fields.boolean("decrypt_to_memory"),
            decrypt_bytes_limit=_within(fields, "decrypt_bytes_limit", 0),
        )


DEFAULT_OPTIONS: Final = RootfsOptions()


def _within(fields: Fields, name: str, least: int) -> int:
    value = fields.integer(name)
    if not least <= value <= GREATEST_BYTES:
        raise fields.error(name, f"is not between {least} and {GREATEST_BYTES}")
    return value
