"""
Compile a bundle's Python files at build time, the same way every time.

An interpreter that must compile everything it imports needs several times as long to start. The files
made here depend on the sources and the interpreter only: hash-based instead of dated (PEP 552), written
without back references (which depend on the compiling process's memory), under a fixed hash seed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import cache_from_source
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# Runs in a process of its own, because sets of constants are written in the order of their hashes. The flag
# says that the source's hash is not compared at import: both files are measured.
_COMPILER: Final = """
import importlib.util, json, marshal, os, sys
for source, target, name in json.load(sys.stdin):
    with open(source, "rb") as file:
        data = file.read()
    try:
        code = compile(data, name, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        continue
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target, "wb") as file:
        file.write(importlib.util.MAGIC_NUMBER + (1).to_bytes(4, "little"))
        file.write(importlib.util.source_hash(data) + marshal.dumps(code, 2))
    os.chmod(target, 0o444)
"""
_ENVIRONMENT: Final = {"PYTHONHASHSEED": "0"}
# A whole standard library takes seconds.
_TIMEOUT_S: Final = 300


def compile_files(root: Path, sources: Iterable[Path]) -> None:
    """Put a ``.pyc`` beside each source below ``root``; files that do not compile stay as they are."""
    work = [_entry(root, source) for source in sorted(sources)]
    subprocess.run(
        [sys.executable, "-S", "-s", "-B", "-W", "ignore", "-c", _COMPILER],
        input=json.dumps(work).encode(),
        env=_ENVIRONMENT,
        timeout=_TIMEOUT_S,
        check=True,
    )


def _entry(root: Path, source: Path) -> tuple[str, str, str]:
    target = cache_from_source(str(source), optimization="")
    return str(source), target, f"/{source.relative_to(root).as_posix()}"
