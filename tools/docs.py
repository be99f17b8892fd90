"""Write the generated pages: error codes from the catalogue, the command line from its help, the picture."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Final

from flow import draw

from enclave_cc.core.catalogue import REMEDIES

ROOT: Final = Path(__file__).parent.parent
ENCLAVE_CC: Final = Path(sys.executable).parent / "enclave-cc"


def errors_page() -> str:
    """One row per error code with its remedy."""
    rows = "\n".join(f"| `{code}` | {remedy} |" for code, remedy in sorted(REMEDIES.items()))
    return (
        "# Error codes\n\n"
        "Every failure carries a code, a stage and a request id. The code never changes its meaning.\n"
        "The owner sees each rule with both values: `enclave-cc explain REQUEST-ID`.\n"
        "This page is written by `make docs`.\n\n"
        "| code | what to do |\n| --- | --- |\n" + rows + "\n"
    )


def help_of(*command: str) -> str:
    """Run one ``--help`` and return its text."""
    environment = {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb", "PATH": "/usr/bin:/bin"}
    run = subprocess.run(
        [str(ENCLAVE_CC), *command, "--help"], capture_output=True, text=True, check=True, env=environment
    )
    return "\n".join(line.rstrip() for line in run.stdout.rstrip().splitlines())


def cli_page() -> str:
    """Return the help of every command."""
    from enclave_cc.cli.main import COMMANDS  # noqa: PLC0415  # the command line loads much; only this page needs it

    parts = ["# Command line\n", "This page is written by `make docs` from `--help`.\n"]
    for command in ((), *COMMANDS):
        title = " ".join(("enclave-cc", *command))
        parts.append(f"## `{title}`\n\n```text\n{help_of(*command)}\n```\n")
    return "\n".join(parts)


def pages() -> dict[Path, str]:
    """Return every generated file with its text."""
    images = ROOT / "docs" / "images"
    return {
        ROOT / "docs" / "reference" / "errors.md": errors_page(),
        ROOT / "docs" / "reference" / "command-line.md": cli_page(),
        images / "flow.svg": draw((images / "flow.txt").read_text()),
    }


def main() -> int:
    """Write the pages, or with ``--check`` compare them."""
    check = "--check" in sys.argv[1:]
    stale = []
    for path, text in pages().items():
        if check and (not path.exists() or path.read_text() != text):
            stale.append(str(path.relative_to(ROOT)))
        elif not check:
            path.write_text(text)
    if stale:
        print("stale, run `make docs`:", *stale, file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
