"""`python -m bench [NAME ...]`: rows to bench/results, the summary to bench/RESULTS.md."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench import attestation, image, sealing, shim
from bench.report import Result, machine_facts, summary

if TYPE_CHECKING:
    from collections.abc import Callable

BENCHMARKS: Final[dict[str, Callable[[], Result]]] = {
    "attestation": attestation.run,
    "image": image.run,
    "sealing": sealing.run,
    "shim": shim.run,
}
HERE: Final = Path(__file__).parent


def main(names: list[str]) -> int:
    """Run the named benchmarks, all when none is named; print one line per goal."""
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        print(f"unknown: {' '.join(sorted(unknown))}; there are: {' '.join(BENCHMARKS)}", file=sys.stderr)
        return 64
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    facts = machine_facts()
    done = []
    for name in names or BENCHMARKS:
        result = BENCHMARKS[name]()
        done.append(result)
        document = {"machine": facts, **result.to_json()}
        (results / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n")
    documents = [json.loads(path.read_text()) for path in sorted(results.glob("*.json"))]
    (HERE / "RESULTS.md").write_text(summary(documents))
    for result in done:
        for goal in result.goals:
            print(goal.line())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
