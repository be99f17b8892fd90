"""
Debian packages: what the demo needs on the machine, and packages as raw material of an image.

apt does the fetching and the verifying. Packages for images are only downloaded, never installed;
installing never starts a daemon, because the scene runs its own.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import Stage, UnavailableError
from enclave_cc.demo.scene.processes import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# libatomic1 (for the policy engine) and e2fsprogs (for scratch) are what a minimal Debian does not have.
HOST_PACKAGES: Final = (
    "containerd",
    "runc",
    "docker-registry",
    "busybox-static",
    "libatomic1",
    "e2fsprogs",
)
# A slow mirror may need minutes; a hung one must not hold the demo for ever.
APT_WITHIN_S: Final = 600.0
_POLICY_FILE: Final = Path("/usr/sbin/policy-rc.d")
# invoke-rc.d(8): 101 = action forbidden by policy. The comment is how a later run knows the file as ours.
_POLICY_TEXT: Final = "#!/bin/sh\n# made by enclave-cc while it installs packages; safe to remove\nexit 101\n"
# More packages than any closure of the demo's server; stops a cycle or a wrong pattern.
_MAX_CLOSURE: Final = 100


@dataclass(frozen=True, slots=True)
class DebFile:
    """What apt would download."""

    name: str
    size_bytes: int
    sha256: str


def install_debian_packages(packages: tuple[str, ...] = HOST_PACKAGES) -> None:
    """Install with apt-get, without recommendations and without starting any daemon."""
    made_policy = _forbid_daemons()
    try:
        run(("apt-get", "update", "-qq"), within_s=APT_WITHIN_S)
        run(
            ("apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages),
            within_s=APT_WITHIN_S,
        )
    finally:
        if made_policy:
            _POLICY_FILE.unlink(missing_ok=True)


def closure(
    roots: tuple[str, ...],
    cache: Path,
    *,
    depends: Callable[[tuple[str, ...]], tuple[str, ...]] | None = None,
) -> tuple[str, ...]:
    """Name the packages and the libraries they depend on: the rest serves maintainer scripts only."""
    ask = depends or (lambda packages: _depends(packages, cache))
    found: set[str] = set()
    waiting = set(roots)
    while waiting and len(found) < _MAX_CLOSURE:
        found |= waiting
        waiting = {name for name in ask(tuple(sorted(waiting))) if name.startswith("lib")} - found
    return tuple(sorted(found))


def download(packages: tuple[str, ...], cache: Path) -> tuple[Path, ...]:
    """Fetch what `cache` does not hold with the right digest; return the packages' paths in it."""
    wanted = tuple(_wanted(_print_uris(packages, cache)))
    if len(wanted) != len(packages):
        raise UnavailableError(
            "package-missing", "apt does not know a package of the demo", stage=Stage.FETCH
        )
    if not all(_is_cached(cache / deb.name, deb) for deb in wanted):
        _fetch(packages, cache)
    broken = [deb.name for deb in wanted if not _is_cached(cache / deb.name, deb)]
    if broken:
        raise UnavailableError(
            "package-missing",
            "a downloaded package is not what apt announced",
            stage=Stage.FETCH,
            detail=str(broken),
        )
    return tuple(cache / deb.name for deb in wanted)


def _print_uris(packages: tuple[str, ...], cache: Path) -> str:
    """Ask in an empty directory: apt says nothing of packages that lie in the current one."""
    command = ("apt-get", *_index(cache), "download", "--print-uris", *packages)
    with tempfile.TemporaryDirectory() as empty:
        return run(command, within_s=APT_WITHIN_S, directory=Path(empty))


def _fetch(packages: tuple[str, ...], cache: Path) -> None:
    with tempfile.TemporaryDirectory(dir=cache) as work:
        run(("apt-get", "download", "-qq", *packages), within_s=APT_WITHIN_S, directory=Path(work))
        for path in Path(work).iterdir():
            path.replace(cache / path.name)


def _index(cache: Path) -> tuple[str, ...]:
    """Let apt keep its index beside the packages: images of Debian often forbid it in its usual place."""
    cache.mkdir(parents=True, exist_ok=True)
    return (
        *("-o", f"Dir::Cache::pkgcache={cache}/packages.index"),
        *("-o", f"Dir::Cache::srcpkgcache={cache}/sources.index"),
    )


def _depends(packages: tuple[str, ...], cache: Path) -> tuple[str, ...]:
    """Direct dependencies of all the packages; of alternatives the first."""
    command = ("apt-cache", *_index(cache), "show", "--no-all-versions", *packages)
    names: list[str] = []
    for line in re.findall(r"^(?:Pre-)?Depends: (.*)$", run(command, within_s=APT_WITHIN_S), re.MULTILINE):
        names += [re.split(r"[ |(:]", wish.strip(), maxsplit=1)[0] for wish in line.split(",")]
    return tuple(names)


def _wanted(printed: str) -> Iterator[DebFile]:
    """Lines of `--print-uris`: 'uri' file size algorithm:digest."""
    for line in printed.splitlines():
        match shlex.split(line):
            case [_, name, size, digest] if digest.startswith("SHA256:") and "/" not in name:
                yield DebFile(name, int(size), digest.removeprefix("SHA256:"))
            case _:
                continue


def _is_cached(path: Path, deb: DebFile) -> bool:
    if not path.is_file() or path.stat().st_size != deb.size_bytes:
        return False
    return hashlib.sha256(path.read_bytes()).hexdigest() == deb.sha256


def _forbid_daemons() -> bool:
    """Put a policy in place unless the machine has one; true if the file is ours to remove."""
    try:
        with _POLICY_FILE.open("x") as policy:
            policy.write(_POLICY_TEXT)
        _POLICY_FILE.chmod(0o755)
    except FileExistsError:
        # Left by a run of ours that was killed: use it, and remove it this time.
        return _POLICY_FILE.read_text() == _POLICY_TEXT
    return True
