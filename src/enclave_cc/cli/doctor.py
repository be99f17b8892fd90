"""`enclave-cc doctor`: what this machine lacks, and how to get it."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from enclave_cc.cli.options import OutputOption
from enclave_cc.cli.output import Output, show, show_json
from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.demo.images.debian_packages import install_debian_packages
from enclave_cc.demo.scene.requirements import Machine, missing_requirements, requirements

_MARKS = {Outcome.PASSED: "ok  ", Outcome.FAILED: "FAIL", Outcome.SKIPPED: "skip"}


def doctor(
    *,
    install: Annotated[
        bool, Parameter(help="Install the missing Debian packages first (needs root).")
    ] = False,
    quiet: Annotated[
        bool, Parameter(help="Print what is missing only, and do not fail because of it.")
    ] = False,
    output: OutputOption = Output.TEXT,
) -> int:
    """
    Check this machine, one line per requirement; exit with 1 when something is missing.

    Example: `enclave-cc doctor --output json`
    """
    machine = Machine()
    if install and missing_requirements(machine):
        install_debian_packages()
    findings = requirements(machine)
    missing = [finding for finding in findings if finding.outcome is Outcome.FAILED]
    if output is Output.JSON:
        show_json([finding.to_json() for finding in findings])
    else:
        for finding in missing if quiet else findings:
            show(_line(finding))
    return 1 if missing and not quiet else 0


def _line(finding: Finding) -> str:
    if finding.outcome is Outcome.FAILED:
        return f"{_MARKS[finding.outcome]}  {finding.rule}: {finding.actual}; {finding.remedy}"
    return f"{_MARKS[finding.outcome]}  {finding.rule}: {finding.actual}"
