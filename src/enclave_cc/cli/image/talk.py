"""What commands say beside their result."""

from __future__ import annotations

import sys

from enclave_cc.cli.output import printable


def say(text: str) -> None:
    """Print to standard error; what a stranger could have written cannot steer the terminal."""
    print(printable(text), file=sys.stderr)  # noqa: T201  # this is the command line's talk
