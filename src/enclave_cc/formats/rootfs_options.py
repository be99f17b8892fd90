"""
How one container's root file system is served: where its writes go, and where its reads come from.

The pod asks in its annotations, the owner's policy bounds it, and the launch configuration carries what
the agent approved to the app enclave.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

# What fits most workloads, which write logs and temporary files; volumes are for the rest.
DEFAULT_WRITABLE_BYTES: Final = 1 << 30


class Writable(StrEnum):
    """Where what the workload writes over its image is kept; it is gone with the container either way."""

    MEMORY = "memory"
    SCRATCH = "scratch"  # encrypted on the host's disk, under a key that only lives in memory


@dataclass(frozen=True, slots=True)
class RootfsOptions:
    """The choice for one container; ``writable_bytes`` bounds what it may write."""

    writable: Writable = Writable.MEMORY
    writable_bytes: int = DEFAULT_WRITABLE_BYTES
    decrypt_to_memory: bool = False


DEFAULT_OPTIONS: Final = RootfsOptions()
