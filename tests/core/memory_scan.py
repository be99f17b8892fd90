"""Look for keys in the memory of another process, as whoever reads a core dump of it does."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE = 16
# The child's side: say a key, or that a step is done, and wait.
_PRELUDE = """
import gc, os
from enclave_cc.core.secret import Secret
def tell(secret):
    os.write(1, secret.reveal())
def step():
    gc.collect()
    os.write(1, b"." * 32)
    os.read(0, 1)
"""


@dataclass
class Patient:
    """A process that tells its keys, which it keeps in memory, and waits at each step."""

    process: subprocess.Popen
    keys: list[bytes] = field(default_factory=list)

    def step(self) -> int:
        """Let it go on to its next step; return how many pieces of its keys are in its memory then."""
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        return self.look()

    def look(self) -> int:
        while (told := self.process.stdout.read(32)) != b"." * 32:
            assert len(told) == 32, "the process ended"
            self.keys.append(told)
        pieces = [key[start : start + _PIECE] for key in self.keys for start in (0, _PIECE)]
        return sum(region.count(piece) for region in self.memory() for piece in pieces)

    def memory(self) -> Iterator[bytes]:
        """Every region that can be read."""
        directory = Path("/proc") / str(self.process.pid)
        try:
            file = (directory / "mem").open("rb", buffering=0)
        except PermissionError:
            pytest.skip("another process's memory cannot be read here")
        with file:
            for line in (directory / "maps").read_text().splitlines():
                begin, _, end = line.split()[0].partition("-")
                try:
                    yield os.pread(file.fileno(), int(end, 16) - int(begin, 16), int(begin, 16))
                except (OSError, OverflowError):
                    # Not readable: a guard page, or what this is about.
                    continue


@contextmanager
def patient(script: str) -> Iterator[Patient]:
    """Run a script that calls ``tell(secret)`` and ``step()``; its first step is reached."""
    command = [sys.executable, "-c", _PRELUDE + textwrap.dedent(script)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path.cwd()) as process:
        try:
            yield Patient(process)
        finally:
            process.kill()
