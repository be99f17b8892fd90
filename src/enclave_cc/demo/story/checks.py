"""
What the host may not hold after a confidential image ran: no layer, and no byte of its plaintext.

Searches the untrusted side's own directories as root would. It proves the absence of what it looks for in
files, not of what a debugger could read from memory: in simulation root can read everything.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enclave_cc.core.findings import Finding, Outcome

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from enclave_cc.demo.scene.paths import ScenePaths

_CONTENT: Final = "root/io.containerd.content.v1.content/blobs"
_CHUNK_BYTES: Final = 4 << 20


@dataclass(frozen=True, slots=True)
class HostSearch:
    """How much was searched and what was found."""

    blobs: int
    files: int
    size_bytes: int
    layers_found: tuple[str, ...]
    plaintext_found: tuple[str, ...]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Two rules with their values."""
        return (
            _absent(
                "the host's content store holds no layer", self.layers_found, f"{self.blobs} blobs looked at"
            ),
            _absent(
                "no plaintext in the host's files",
                self.plaintext_found,
                f"{self.files} files with {self.size_bytes >> 20} MiB searched",
            ),
        )


def search_host(paths: ScenePaths, *, layers: Collection[str], needles: Collection[bytes]) -> HostSearch:
    """
    Look for layers (digests `algorithm:hex`) and for pieces of plaintext on the host.

    The content store is looked up by name; containerd's root and state, the node's state and the sealed root
    file systems are read byte by byte.
    """
    blobs = [path for path in (paths.containerd / _CONTENT).glob("*/*") if path.is_file()]
    names = {f"{path.parent.name}:{path.name}" for path in blobs}
    files, size_bytes, found = 0, 0, []
    for path in _regular_files(paths.containerd, paths.node):
        files += 1
        size_bytes += path.stat().st_size
        if contains(path, needles):
            found.append(str(path))
    return HostSearch(len(blobs), files, size_bytes, tuple(sorted(names & set(layers))), tuple(found))


def contains(path: Path, needles: Collection[bytes]) -> bool:
    """Tell whether a file holds one of the needles; a file that vanishes meanwhile holds none."""
    overlap = max((len(needle) for needle in needles), default=1) - 1
    tail = b""
    try:
        with path.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                window = tail + chunk
                if any(needle in window for needle in needles):
                    return True
                tail = window[-overlap:] if overlap else b""
    except OSError:
        return False
    return False


def _regular_files(*roots: Path) -> Iterator[Path]:
    for root in roots:
        for directory, _, names in os.walk(root):
            for name in names:
                path = root.joinpath(directory, name)
                if path.is_file() and not path.is_symlink():
                    yield path


def _absent(rule: str, found: tuple[str, ...], searched: str) -> Finding:
    outcome = Outcome.FAILED if found else Outcome.PASSED
    return Finding(rule, outcome, expected="none", actual=", ".join(found) or f"none; {searched}")
