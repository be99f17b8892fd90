"""How a failure looks on a terminal: what, where, the rules that failed, and what to do next."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from enclave_cc.cli.output import printable
from enclave_cc.core.findings import Outcome

if TYPE_CHECKING:
    from enclave_cc.core.errors import EnclaveCcError


def report_failure(error: EnclaveCcError) -> int:
    """
    Print an error to the person at the terminal and return the exit status.

    Whoever runs a command here is the owner or the operator of this process, so the detail is shown.
    """
    lines = [f"error: {error.summary} [{error.code}, stage {error.stage}]"]
    if error.detail:
        lines.append(f"  detail: {error.detail}")
    lines.extend(
        f"  {finding.rule}: expected {finding.expected}, found {finding.actual}"
        for finding in error.findings
        if finding.outcome is Outcome.FAILED
    )
    lines.append(f"  what to do: {error.remedy}")
    print(printable("\n".join(lines)), file=sys.stderr)  # noqa: T201  # this is the command line's output
    return error.exit_status
