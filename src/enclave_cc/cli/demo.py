"""`enclave-cc demo`: the main job end to end, told stage by stage."""

from __future__ import annotations

import contextlib
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from enclave_cc.cli.options import OutputOption
from enclave_cc.cli.output import Output, show, show_json
from enclave_cc.core.findings import Outcome
from enclave_cc.demo.images.debian_packages import install_debian_packages
from enclave_cc.demo.scene.requirements import missing_requirements
from enclave_cc.demo.story.story import run_demo

if TYPE_CHECKING:
    from enclave_cc.demo.story.report import RefusalReport, StageReport

_NOTICE = (
    "SIMULATED SGX: formats, keys and decisions are real; nothing is protected from this machine's root."
)


def demo(
    *,
    install: Annotated[bool, Parameter(help="Install the missing Debian packages first.")] = False,
    keep: Annotated[bool, Parameter(help="Leave everything running and print how to look around.")] = False,
    directory: Annotated[Path | None, Parameter(help="Where to put everything; removed at the end.")] = None,
    output: OutputOption = Output.TEXT,
) -> int:
    """
    Publish an encrypted, signed image and run it in enclaves on stock containerd; then try to break it.

    Needs root. Exits with 0 only when every success succeeded and every refusal had the right reason.

    Example: `enclave-cc demo --keep`
    """
    if install and missing_requirements():
        install_debian_packages()
    # Being told to end is no reason to leave anything behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    reporter = _Silent() if output is Output.JSON else _Teller()
    report = run_demo(reporter, keep=keep, directory=directory)
    if output is Output.JSON:
        show_json(report.to_json())
    else:
        refused = sum(refusal.ok for refusal in report.refusals)
        show(f"\n{'all is well' if report.ok else 'FAILED'}: {len(report.stages)} stages, {refused} refusals")
    return 0 if report.ok else 1


class _Silent:
    """Says nothing on the way; the JSON document at the end has it all."""

    def stage_started(self, name: str) -> None: ...

    def stage_ended(self, stage: StageReport) -> None: ...

    def refusal_ended(self, refusal: RefusalReport) -> None: ...

    def kept(self, look_around: tuple[str, ...]) -> None:
        show_json({"look_around": list(look_around)})
        _wait()


class _Teller:
    """Prints each stage with its duration, and each refusal from both sides."""

    def __init__(self) -> None:
        show(_NOTICE)

    def stage_started(self, name: str) -> None:
        show(f"... {name}")

    def stage_ended(self, stage: StageReport) -> None:
        show(f"{'ok ' if stage.ok else 'NO '} {stage.name} ({stage.duration_s:.2f} s)")
        for note in stage.notes:
            show(f"      {note}")

    def refusal_ended(self, refusal: RefusalReport) -> None:
        show(f"{'ok ' if refusal.ok else 'NO '} refused: {refusal.name} ({refusal.duration_s:.2f} s)")
        show(f"      host sees   code={refusal.host.code} stage={refusal.host.stage}")
        show(f"                  request={refusal.host.request_id}")
        for finding in refusal.owner:
            if finding.outcome is Outcome.FAILED:
                show(f"      owner sees  {finding.rule}: expected {finding.expected[:80]}")
                show(f"                  {' ' * len(finding.rule)}  found {finding.actual[:80]}")
        for problem in refusal.problems:
            show(f"      PROBLEM     {problem}")

    def kept(self, look_around: tuple[str, ...]) -> None:
        show("\neverything is left running; look around:")
        for line in look_around:
            show(f"  {line}")
        show("Ctrl-C ends it and removes everything")
        _wait()


def _wait() -> None:
    with contextlib.suppress(KeyboardInterrupt):
        signal.pause()
