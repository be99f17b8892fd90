"""
Which Python files belong into an enclave: interpreter, standard library, our rooms, few named packages.

The lists here *are* the decision what is trusted; a package that is not named does not get in. Nothing is
copied or imported here.
"""

from __future__ import annotations

import importlib.util
import os
import sys
import sysconfig
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Final

import enclave_cc
from enclave_cc.core.errors import InvalidInputError, Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

PYTHON: Final = "usr/bin/python3"
SITE: Final = "usr/lib/enclave-cc/site"

# Our rooms that run inside (CONTRIBUTING.md), and what they import from others.
TRUSTED_ROOMS: Final = ("core", "formats", "transport", "image", "enclave", "platform")
# Only who opens images verifies OpenPGP signatures; it is the largest of all.
AGENT_PACKAGES: Final = ("pysequoia",)
TRUSTED_PACKAGES: Final = ("_cffi_backend", "cryptography", "isal", "pysequoia", "urllib3", "zstandard")

# Interactive tools, installers, test suites and databases: large, and no business of an enclave.
_PRUNED_DIRECTORIES: Final = frozenset(
    {
        "__pycache__",
        "curses",
        "dbm",
        "dist-packages",
        "distutils",
        "ensurepip",
        "idlelib",
        "lib2to3",
        "pydoc_data",
        "site-packages",
        "sqlite3",
        "test",
        "tests",
        "tkinter",
        "turtledemo",
        "venv",
        "xmlrpc",
    }
)
_PRUNED_PATTERNS: Final = (
    "config-*",
    "*.pyc",
    "*.pyi",
    "*.a",
    "*.exe",
    "sitecustomize.py",
    "usercustomize.py",
    "turtle.py",
    "_cffi.*.so",
    "_ctypes_test.*",
    "_curses*",
    "_dbm.*",
    "_gdbm.*",
    "_sqlite3.*",
    "_test*.so",
    "_tkinter.*",
    "_xxtestfuzz.*",
    "nis.*",
    "ossaudiodev.*",
    "readline.*",
    "xxlimited*",
)


@dataclass(frozen=True, slots=True)
class BundleFile:
    """A file of this machine and its place below the bundle's root."""

    target: str
    source: Path
    executable: bool = False


def interpreter_file() -> BundleFile:
    """Return the interpreter that runs now, behind all symbolic links and virtual environments."""
    return BundleFile(PYTHON, Path(sys.executable).resolve(), executable=True)


def standard_library_files() -> Iterator[BundleFile]:
    """List the standard library with its extension modules, pruned."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    root = Path(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix}))
    if not (root / "os.py").is_file():
        raise _missing(f"the standard library, expected in {root}")
    yield from _below(root, f"usr/lib/{version}")
    dynamic = sysconfig.get_config_var("DESTSHARED")
    if dynamic and Path(dynamic).is_dir() and not Path(dynamic).is_relative_to(root):
        yield from _below(Path(dynamic), f"usr/lib/{version}/lib-dynload")


def package_files(names: Iterable[str] = TRUSTED_PACKAGES) -> Iterator[BundleFile]:
    """List the few packages of others that are trusted, or some of them."""
    for name in names:
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.origin:
            raise _missing(f"the package {name}")
        if spec.submodule_search_locations:
            yield from _below(Path(spec.origin).parent, f"{SITE}/{name}")
        else:
            yield BundleFile(f"{SITE}/{Path(spec.origin).name}", Path(spec.origin))


def own_files(is_wanted: Callable[[str], bool]) -> Iterator[BundleFile]:
    """List our own trusted rooms; ``is_wanted`` sees paths relative to the package."""
    package = Path(enclave_cc.__file__).parent
    yield BundleFile(f"{SITE}/enclave_cc/__init__.py", package / "__init__.py")
    for room in TRUSTED_ROOMS:
        for file in _below(package / room, f"{SITE}/enclave_cc/{room}"):
            if is_wanted(file.source.relative_to(package).as_posix()):
                yield file


def _below(root: Path, target: str) -> Iterator[BundleFile]:
    for directory, subdirectories, names in os.walk(root):
        subdirectories[:] = sorted(name for name in subdirectories if not _is_pruned(name))
        for name in sorted(names):
            path = Path(directory, name)
            relative = path.relative_to(root).as_posix()
            if not _is_pruned(name) and path.is_file():
                yield BundleFile(f"{target}/{relative}", path)


def _is_pruned(name: str) -> bool:
    return name in _PRUNED_DIRECTORIES or any(fnmatchcase(name, pattern) for pattern in _PRUNED_PATTERNS)


def _missing(what: str) -> InvalidInputError:
    return InvalidInputError(
        "bundle-python-incomplete",
        "the Python installation lacks something that an enclave needs",
        stage=Stage.MEASURE,
        detail=what,
    )
