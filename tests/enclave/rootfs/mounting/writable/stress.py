"""Write much, in several ways, and read it back; what should be there is computed, not remembered."""

from __future__ import annotations

import mmap
import os
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PIECE = 1 << 18
PAGE = 4096
# Pages that are changed through a mapping, which the kernel writes back when it sees fit.
EVERY = 3


class Stress:
    def __init__(self, path: Path, size: int, seed: int) -> None:
        self._path = path
        self._pieces = size // PIECE
        self._pattern = random.Random(seed).randbytes(PIECE)

    def run(self) -> None:
        """Raise whatever goes wrong, ``AssertionError`` for wrong data."""
        for number in range(2):
            self._write()
            self._change(number)
            self._check(number)
        self._path.unlink()

    def _piece(self, index: int) -> bytearray:
        turn = index % PIECE
        return bytearray(self._pattern[turn:] + self._pattern[:turn])

    def _write(self) -> None:
        with self._path.open("wb", buffering=0) as file:
            for index in range(self._pieces):
                file.write(self._piece(index))
                if index % 64 == 0:
                    os.fsync(file.fileno())

    def _change(self, number: int) -> None:
        with self._path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            for place in range(0, len(mapped), EVERY * PAGE):
                mapped[place] = number

    def _check(self, number: int) -> None:
        with self._path.open("rb", buffering=0) as file:
            for index in range(self._pieces):
                expected = self._piece(index)
                first = -(index * PIECE) % (EVERY * PAGE)
                for place in range(first, PIECE, EVERY * PAGE):
                    expected[place] = number
                assert file.read(PIECE) == expected, f"piece {index} of {self._path.name} differs"
