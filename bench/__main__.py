"""`python -m bench [NAME ...]`: rows to bench/results, plots to bench/plots, a summary to RESULTS.md."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench import attestation, image, reuse, rootfs, sealing, shim
from bench.needs import UnavailableHereError
from bench.report import Result, machine_facts, summary

if TYPE_CHECKING:
    from collections.abc import Callable

BENCHMARKS: Final[dict[str, Callable[[], Result]]] = {
    "attestation": attestation.run,
    "image": image.run,
    "reuse": reuse.run,
    "rootfs": rootfs.run,
    "sealing": sealing.run,
    "shim": shim.run,
}
_HERE: Final = Path(__file__).parent
_RESULTS: Final = _HERE / "results"
_PLOTS: Final = _HERE / "plots"


def main(names: list[str]) -> int:
    """Run the named benchmarks, all when none is named; print one line per goal."""
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        print(f"unknown: {' '.join(sorted(unknown))}; there are: {' '.join(BENCHMARKS)}", file=sys.stderr)
        return os.EX_USAGE
    facts = machine_facts()
    done, status = [], os.EX_OK
    for name in names or BENCHMARKS:
        try:
            result = BENCHMARKS[name]()
        except UnavailableHereError as error:
            print(f"{name}: {error}", file=sys.stderr)
            status = os.EX_UNAVAILABLE
            continue
        done.append(result)
        _write(name, result, facts)
    documents = [json.loads(path.read_text()) for path in sorted(_RESULTS.glob("*.json"))]
    (_HERE / "RESULTS.md").write_text(summary(documents))
    for result in done:
        for goal in result.goals:
            print(goal.line())
    return status


def _write(name: str, result: Result, facts: dict[str, str]) -> None:
    _RESULTS.mkdir(exist_ok=True)
    (_RESULTS / f"{name}.json").write_text(
        json.dumps({"machine": facts, **result.to_json()}, indent=2) + "\n"
    )
    for file_name, plot in result.plots.items():
        _PLOTS.mkdir(exist_ok=True)
        (_PLOTS / file_name).write_text(plot)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
