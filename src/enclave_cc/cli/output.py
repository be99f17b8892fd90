"""What commands print: rows for people, or one JSON document."""

from __future__ import annotations

import json
import os
import sys
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class Output(StrEnum):
    """The two forms of every result."""

    TEXT = "text"
    JSON = "json"


def show(text: str) -> None:
    """Print a result; what a stranger could have written cannot steer the terminal."""
    # At once: a server's "ready" has to reach a log file or a pipe as well.
    try:
        print(printable(text), flush=True)  # noqa: T201  # this is the command line's output
    except BrokenPipeError:
        # Nobody reads on (`| head`): the work and its exit status stand, the rest goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def printable(text: str) -> str:
    """Write control characters out, but for line ends."""
    return "".join(char if char.isprintable() or char == "\n" else f"\\x{ord(char):02x}" for char in text)


def show_json(value: object) -> None:
    """Print a result as one JSON document."""
    show(json.dumps(value, indent=2, sort_keys=False))


def show_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows in aligned columns; the last column is not padded."""
    table = [list(header), *[list(row) for row in rows]]
    widths = [max(len(row[column]) for row in table) for column in range(len(header))]
    for row in table:
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths[:-1], strict=True)]
        show("  ".join([*cells, row[-1]]).rstrip())
