"""
The closure of shared libraries of a set of programs and extension modules, as files of this machine.

It looks where the machine's loader would look: paths compiled into the file, then the loader's directories.
What it finds is copied into one flat directory, so two different libraries of one name are refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.node.bundles.elf import ElfError, ElfFile, is_elf, read_elf

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Loaded by glibc itself at run time, so no file names them: thread cancellation, and name resolution
# (built into the C library since glibc 2.34).
LOADED_AT_RUN_TIME: Final = ("libgcc_s.so.1", "libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2")
_LOADER_CONFIGURATION: Final = Path("/etc/ld.so.conf")
_DEFAULT_DIRECTORIES: Final = (
    "/lib/x86_64-linux-gnu",
    "/usr/lib/x86_64-linux-gnu",
    "/lib64",
    "/usr/lib64",
    "/lib",
    "/usr/lib",
)
_MAX_LIBRARIES: Final = 512


class LibraryClosure:
    """Collects libraries by the name under which they are asked for."""

    def __init__(self) -> None:
        self._directories = tuple(_loader_directories())
        self._found: dict[str, Path] = {}

    def add(self, origin: Path, data: bytes) -> None:
        """Add everything that a file needs, directly or not; other files than ELF need nothing."""
        if is_elf(data):
            self._add(origin, _read(origin, data))

    def add_if_present(self, name: str) -> None:
        """Add a library that is only loaded at run time, where the machine has it."""
        path = next((path for path in self._candidates(name, ()) if path.is_file()), None)
        if path is not None:
            self._take(name, path)

    def libraries(self) -> dict[str, Path]:
        """Return all files by name, sorted; the loader itself is not among them."""
        return dict(sorted(self._found.items()))

    def _add(self, origin: Path, elf: ElfFile) -> None:
        own = tuple(_expand(path, origin) for path in elf.search_paths)
        for name in elf.needed:
            if name in self._found or name.startswith("ld-linux"):
                continue
            path = next((path for path in self._candidates(name, own) if path.is_file()), None)
            if path is None:
                raise InvalidInputError(
                    "bundle-library-missing",
                    "a shared library that the interpreter needs is not installed",
                    stage=Stage.MEASURE,
                    detail=f"{origin} needs {name}",
                )
            self._take(name, path)

    def _take(self, name: str, path: Path) -> None:
        if name in self._found:
            return
        if len(self._found) >= _MAX_LIBRARIES:
            raise InvalidInputError("bundle-too-large", "too many shared libraries", stage=Stage.MEASURE)
        resolved = path.resolve()
        self._found[name] = resolved
        self._add(resolved, _read(resolved, resolved.read_bytes()))

    def _candidates(self, name: str, own: tuple[Path, ...]) -> Iterator[Path]:
        for directory in (*own, *self._directories):
            yield directory / name


def _read(origin: Path, data: bytes) -> ElfFile:
    try:
        return read_elf(data)
    except ElfError as error:
        raise InvalidInputError(
            "bundle-elf-invalid",
            "a program or library is not one of this machine's kind",
            stage=Stage.MEASURE,
            detail=f"{origin}: {error}",
        ) from error


def _expand(path: str, origin: Path) -> Path:
    directory = str(origin.resolve().parent)
    return Path(path.replace("${ORIGIN}", directory).replace("$ORIGIN", directory))


def _loader_directories() -> Iterator[Path]:
    for line in _configuration_lines(_LOADER_CONFIGURATION):
        words = line.split()
        if words and words[0] == "include":
            for pattern in words[1:]:
                base = Path(pattern) if pattern.startswith("/") else _LOADER_CONFIGURATION.parent / pattern
                for included in sorted(base.parent.glob(base.name)):
                    yield from map(Path, _configuration_lines(included))
        elif line.startswith("/"):
            yield Path(line)
    yield from map(Path, _DEFAULT_DIRECTORIES)


def _configuration_lines(path: Path) -> Iterable[str]:
    if not path.is_file():
        return []
    lines = (line.partition("#")[0].strip() for line in path.read_text("utf-8").splitlines())
    return [line for line in lines if line]
