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
# Images beyond it start faster, and cost less, when they are decrypted as they are read.
DEFAULT_DECRYPT_BYTES: Final = 1 << 30


class Writable(StrEnum):
    """Where what the workload writes over its image is kept; it is gone with the container either way."""

    MEMORY = "memory"
    SCRATCH = "scratch"  # encrypted on the host's disk, under a key that only lives in memory


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


DEFAULT_OPTIONS: Final = RootfsOptions()
