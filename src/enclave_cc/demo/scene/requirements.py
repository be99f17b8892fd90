"""What a machine must have for the demo, each with the way to get it.

Reads only. Every answer is a finding, so that `demo`, `doctor` and the tests print the same words.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import stat
import struct
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import Stage, UnavailableError
from enclave_cc.core.findings import Finding, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

_PT_INTERP: Final = 3
_ELF64_HEADER: Final = struct.Struct("<16xHHIQQQIHHHHHH")


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Machine:
    """The few facts that the checks read; tests make machines that lack things."""

    root: Path = Path("/")
    system: str = sys.platform
    architecture: str = field(default_factory=platform.machine)
    uid: int = field(default_factory=os.geteuid)
    which: Callable[[str], str | None] = shutil.which
    library: Callable[[str], bool] = _loads

    def program(self, name: str) -> str | None:
        """Path of a program, looked up in the system directories as well as in PATH."""
        for directory in ("usr/sbin", "usr/bin", "sbin", "bin"):
            if os.access(self.root / directory / name, os.X_OK):
                return str(self.root / directory / name)
        return self.which(name)


def missing_requirements(machine: Machine | None = None) -> list[Finding]:
    """Every requirement that this machine does not meet; empty means that the demo can run."""
    where = machine or Machine()
    return [finding for finding in requirements(where) if finding.outcome is Outcome.FAILED]


def require_all(machine: Machine | None = None) -> None:
    """Raise UnavailableError(requirement-missing) naming all that is missing."""
    missing = missing_requirements(machine)
    if missing:
        what = "; ".join(f"{finding.rule}: {finding.remedy}" for finding in missing)
        raise UnavailableError(
            "requirement-missing",
            f"this machine cannot run the demo: {what}",
            stage=Stage.CONFIG,
            findings=tuple(missing),
        )


def requirements(machine: Machine) -> list[Finding]:
    """All checks, passed ones too, in the order a person would fix them."""
    return [
        _check(
            "Linux on x86-64",
            _is_linux(machine),
            f"{machine.system} {machine.architecture}",
            "use a Debian 12 amd64 machine",
        ),
        _check("root", machine.uid == 0, f"uid {machine.uid}", "run it with sudo"),
        _check("/dev/fuse", _is_device(machine.root / "dev/fuse"), "absent", "modprobe fuse"),
        _check("/dev/loop-control", _is_device(machine.root / "dev/loop-control"), "absent", "modprobe loop"),
        _file_system(machine, "ext4"),
        _program(machine, "mke2fs", "e2fsprogs"),
        _erofs(machine),
        _file_system(machine, "overlay"),
        _check(
            "cgroups",
            _has_cgroups(machine),
            "not mounted or read-only",
            "mount cgroup2 at /sys/fs/cgroup, writable",
        ),
        _program(machine, "containerd", "containerd"),
        _program(machine, "runc", "runc"),
        _program(machine, "docker-registry", "docker-registry"),
        _static_busybox(machine),
        _check(
            "libatomic.so.1",
            machine.library("libatomic.so.1"),
            "absent",
            "apt-get install libatomic1",
        ),
        _check(
            "apt-get",
            machine.program("apt-get") is not None,
            "absent",
            "the server image is built from Debian's packages: use a Debian machine",
        ),
    ]


def _check(rule: str, passed: bool, actual: str, remedy: str) -> Finding:  # noqa: FBT001 - the check's own result
    if passed:
        return Finding(rule, Outcome.PASSED, expected="present", actual="present")
    return Finding(rule, Outcome.FAILED, expected="present", actual=actual, remedy=remedy)


def _is_linux(machine: Machine) -> bool:
    return machine.system == "linux" and machine.architecture in {"x86_64", "amd64"}


def _is_device(path: Path) -> bool:
    try:
        return stat.S_ISCHR(path.stat().st_mode)
    except OSError:
        return False


def _has_cgroups(machine: Machine) -> bool:
    base = machine.root / "sys/fs/cgroup"
    unified = (base / "cgroup.controllers").exists() and os.access(base, os.W_OK)
    return unified or os.access(base / "devices", os.W_OK)


def _erofs(machine: Machine) -> Finding:
    """Report it, do not require it: without it the tree is served over FUSE, which is slower when cold."""
    rule = "erofs file system"
    if _knows(machine, "erofs"):
        return _check(rule, passed=True, actual="", remedy="")
    return Finding(rule, Outcome.SKIPPED, expected="optional", actual="absent: the tree is served over FUSE")


def _knows(machine: Machine, name: str) -> bool:
    modules = machine.root / "lib/modules" / platform.release()
    known = _text(machine.root / "proc/filesystems").split()
    return name in known or f"/{name}.ko" in _text(modules / "modules.dep")


def _file_system(machine: Machine, name: str) -> Finding:
    return _check(
        f"{name} file system",
        _knows(machine, name),
        "not in the kernel",
        f"modprobe {name}, or use Debian's kernel",
    )


def _program(machine: Machine, name: str, package: str) -> Finding:
    return _check(name, machine.program(name) is not None, "absent", f"apt-get install {package}")


def _static_busybox(machine: Machine) -> Finding:
    found = machine.program("busybox")
    return _check(
        "busybox, statically linked",
        found is not None and is_static(Path(found)),
        "absent" if found is None else "dynamically linked",
        "apt-get install busybox-static",
    )


def is_static(program: Path) -> bool:
    """Whether an x86-64 ELF file asks for no interpreter (elf(5), program header PT_INTERP)."""
    head = program.read_bytes()[:4096]
    if not head.startswith(b"\x7fELF\x02\x01"):
        return False
    header = _ELF64_HEADER.unpack_from(head)
    table_offset, entry_size, count = header[4], header[8], header[9]
    kinds = (
        int.from_bytes(head[table_offset + index * entry_size :][:4], "little") for index in range(count)
    )
    return _PT_INTERP not in kinds


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
