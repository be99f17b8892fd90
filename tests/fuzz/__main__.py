"""
Fuzz for a while: ``make fuzz``, or ``python -m tests.fuzz [TARGET …] [--seconds N] [--seed N]``.

Crashes go to files whose bytes reproduce them: ``python -m tests.fuzz TARGET --reproduce FILE``.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import sys
import time
from pathlib import Path

from tests.fuzz.engine import fuzz, run_once
from tests.fuzz.targets import TARGETS

# More than any target needs: an input that makes one ask for more is a crash, and not the end of the machine.
MEMORY_BYTES = 2 << 30


def main() -> int:
    names = [target.name for target in TARGETS]
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Look for inputs that crash.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"all, or some of: {', '.join(names)}")
    parser.add_argument("--seconds", type=float, default=60, help="for each target")
    parser.add_argument("--seed", type=int, default=time.time_ns(), help="the same seed mutates alike")
    parser.add_argument(
        "--crashes", type=Path, default=Path("fuzz-crashes"), help="where crashes are written"
    )
    parser.add_argument("--reproduce", type=Path, help="run this file once, in one target")
    arguments = parser.parse_args()
    if unknown := set(arguments.targets) - set(names):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    chosen = [target for target in TARGETS if target.name in (arguments.targets or names)]
    if arguments.reproduce is not None:
        return reproduce(chosen, arguments.reproduce)
    return sum([look(target, arguments) for target in chosen]) > 0


def look(target, arguments, *, most: int = 5) -> int:
    """Fuzz one target, write down what was found, and return how much that is."""
    result = fuzz(target, seed=arguments.seed, seconds=arguments.seconds, most=most)
    crashes = len(result.crashes)
    print(f"{target.name}: {result.runs} runs, {result.corpus} ways to end, {crashes} crashes", flush=True)
    for crash in result.crashes:
        arguments.crashes.mkdir(exist_ok=True)
        path = arguments.crashes / f"{target.name}-{hashlib.sha256(crash.data).hexdigest()[:16]}"
        path.write_bytes(crash.data)
        print(f"\n{crash.report}\n{len(crash.data)} bytes in {path}, with --seed {arguments.seed}:")
        print(crash.data[:512].hex())
    return crashes


def reproduce(chosen, path: Path) -> int:
    """Run a file once in each target; return 1 if it still crashes one."""
    crashes = [crash for target in chosen if (crash := run_once(target, path.read_bytes())[1])]
    for crash in crashes:
        print(crash.report)
    return len(crashes) > 0


if __name__ == "__main__":
    sys.exit(main())
