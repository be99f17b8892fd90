"""
The enclaves' bundles, built once per set of inputs and kept between runs.

Building and measuring takes seconds and does not depend on the scene. Entries are named by the digest of
everything that goes in and appear complete or not at all, so scenes that start together share one build.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import os
import shutil
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from enclave_cc.node.bundles import build as builder
from enclave_cc.node.bundles.build import Kind, build_bundle, remove_bundle
from enclave_cc.node.bundles.python_files import (
    interpreter_file,
    own_files,
    package_files,
    standard_library_files,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

CACHE: Final = Path("/var/cache/enclave-cc/bundles")
# System libraries are inputs too: any upgrade of packages touches these.
_SYSTEM_STATE: Final = (Path("/var/lib/dpkg/status"), Path("/etc/ld.so.cache"))
# An entry holds some ninety megabytes; a developer makes a new one with every change.
_KEPT_ENTRIES: Final = 5
# A scene that still runs may use an entry that nobody asked for in the meantime.
_UNUSED_AFTER_S: Final = 3600
_CHANGED_FILE: Final = "rootfs/usr/lib/enclave-cc/agent.py"


@dataclass(frozen=True, slots=True)
class Bundles:
    """The bundles of one scene; `modified_agent` differs from `agent` in one comment."""

    boot: Path
    agent: Path
    modified_agent: Path


def prepare_bundles(cache: Path = CACHE) -> Bundles:
    """Return the bundles for the installed package, building what is not there."""
    cache.mkdir(parents=True, exist_ok=True)
    entry = cache / inputs_digest()
    found = Bundles(entry / "boot", entry / "agent", entry / "modified-agent")
    with _locked(cache):
        if not found.modified_agent.exists():
            _build(found)
        os.utime(entry)
        _prune(cache, keep=entry)
    return found


def inputs_digest() -> str:
    """Digest the names, sizes and times of every file that goes into a bundle or builds it."""
    digest = hashlib.sha256(sys.version.encode())
    files = itertools.chain(
        (interpreter_file(),), standard_library_files(), package_files(), own_files(lambda _path: True)
    )
    inputs = [(file.target, file.source) for file in files]
    inputs += [(str(path), path) for path in _SYSTEM_STATE if path.exists()]
    inputs += [(path.name, path) for path in Path(builder.__file__).parent.glob("*.py")]
    for target, source in sorted(inputs):
        status = source.stat()
        digest.update(f"{target}\0{source}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:32]


def _build(bundles: Bundles) -> None:
    build_bundle(Kind.BOOT, bundles.boot)
    build_bundle(Kind.AGENT, bundles.agent, boot_bundle=bundles.boot)
    # Last, because its presence says that all three are there.
    work = bundles.modified_agent.with_name("modifying")
    remove_bundle(work)
    shutil.copytree(bundles.agent, work, symlinks=True, copy_function=os.link)
    changed = work / _CHANGED_FILE
    text = changed.read_bytes() + b"# one line more than the owner approved\n"
    # The file is a second name of the genuine one: give it content of its own, never write through it.
    changed.unlink()
    changed.write_bytes(text)
    changed.chmod(0o444)
    work.rename(bundles.modified_agent)


def _prune(cache: Path, *, keep: Path) -> None:
    others = [entry for entry in cache.iterdir() if entry.is_dir() and entry != keep]
    others.sort(key=lambda entry: entry.stat().st_mtime, reverse=True)
    oldest = time.time() - _UNUSED_AFTER_S
    for entry in others[_KEPT_ENTRIES - 1 :]:
        if entry.stat().st_mtime < oldest:
            remove_bundle(entry)


@contextmanager
def _locked(cache: Path) -> Iterator[None]:
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
