"""
What the owner lets a pod choose about its root file systems: the ``[rootfs]`` table.

Memory and disk are the node's, and a full one hurts its other pods too, so each kind has a bound whoever
asks. None of it weakens anything: what a workload writes is encrypted or in memory either way.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from enclave_cc.formats.rootfs_options import (
    DEFAULT_DECRYPT_BYTES,
    DEFAULT_WRITABLE_BYTES,
    GREATEST_BYTES,
    LEAST_BYTES,
    Writable,
)

if TYPE_CHECKING:
    from enclave_cc.core.fields import Fields

# Disks are larger than memory, and what is never written costs nothing.
DEFAULT_SCRATCH_BYTES: Final = 32 << 30


@dataclass(frozen=True, slots=True)
class RootfsPolicy:
    """
    Which kinds of writable layer there may be, the default one first, and how large each may be.

    The bounds are the default sizes too; ``decrypt_to_memory_bytes`` of zero forbids it.
    """

    writable: tuple[Writable, ...] = (Writable.MEMORY, Writable.SCRATCH)
    memory_bytes: int = DEFAULT_WRITABLE_BYTES
    scratch_bytes: int = DEFAULT_SCRATCH_BYTES
    decrypt_to_memory_bytes: int = DEFAULT_DECRYPT_BYTES
    share_layers: bool = True

    @classmethod
    def parse(cls, table: Fields) -> Self:
        """Read the ``[rootfs]`` table; raise ``FieldError``."""
        table.only("writable", "memory_bytes", "scratch_bytes", "decrypt_to_memory_bytes", "share_layers")
        memory, scratch = LEAST_BYTES[Writable.MEMORY], LEAST_BYTES[Writable.SCRATCH]
        return cls(
            writable=_kinds(table),
            memory_bytes=_size(table, "memory_bytes", DEFAULT_WRITABLE_BYTES, least=memory),
            scratch_bytes=_size(table, "scratch_bytes", DEFAULT_SCRATCH_BYTES, least=scratch),
            decrypt_to_memory_bytes=_size(table, "decrypt_to_memory_bytes", DEFAULT_DECRYPT_BYTES, least=0),
            share_layers=table.boolean("share_layers", default=True),
        )

    def greatest_bytes(self, writable: Writable) -> int:
        """Return how much a container may write at most."""
        return self.memory_bytes if writable is Writable.MEMORY else self.scratch_bytes


DEFAULT_ROOTFS_POLICY: Final = RootfsPolicy()


def _kinds(table: Fields) -> tuple[Writable, ...]:
    if not table.has("writable"):
        return DEFAULT_ROOTFS_POLICY.writable
    names = table.texts("writable")
    if not names or not set(names) <= set(Writable):
        raise table.error("writable", 'is not a list of "memory" and "scratch"')
    if len(set(names)) < len(names):
        raise table.error("writable", "names a kind twice")
    return tuple(map(Writable, names))


def _size(table: Fields, name: str, default: int, *, least: int) -> int:
    value = table.integer(name, default=default)
    if not least <= value <= GREATEST_BYTES:
        raise table.error(name, f"is not between {least} and {GREATEST_BYTES}")
    return value
