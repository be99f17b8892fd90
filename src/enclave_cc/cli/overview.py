"""What `enclave-cc --help` prints: it is asked for before anything else, so it waits for no library."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_FLAGS: Final = (("--help, -h", "Display this message and exit."), ("--version", "Display the version."))
_WIDTH: Final = 100


def overview(about: str, commands: Iterable[tuple[str, str]], epilogue: str) -> str:
    """Write usage, what the program is, a line per command, and the last word."""
    rows = [*sorted(commands), *_FLAGS]
    width = max(len(name) for name, _ in rows)
    lines = [f"  {name.ljust(width)}  {summary}" for name, summary in rows]
    usage = "Usage: enclave-cc COMMAND\n"
    return "\n".join([usage, f"{about}\n", "Commands:", *lines, "", textwrap.fill(epilogue, _WIDTH)])
