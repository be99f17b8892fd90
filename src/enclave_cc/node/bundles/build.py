"""
Build an enclave's bundle: ``rootfs/`` and ``bundle.json``, read-only, the same bytes for the same inputs.

No container tool is involved. The result appears under its name only when it is complete. Who measures it is
the platform; this module must not decide what a measurement is.
"""

from __future__ import annotations

import os
import shutil
import ssl
import tempfile
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Final

from enclave_cc.core import strict_json
from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.node.bundles.bytecode import compile_files
from enclave_cc.node.bundles.elf import for_loading, is_elf, read_elf
from enclave_cc.node.bundles.libraries import LOADED_AT_RUN_TIME, LibraryClosure
from enclave_cc.node.bundles.python_files import (
    AGENT_PACKAGES,
    TRUSTED_PACKAGES,
    BundleFile,
    interpreter_file,
    own_files,
    package_files,
    standard_library_files,
)
from enclave_cc.platform.measurement import measure_bundle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LIBRARIES: Final = "usr/lib/enclave-cc/lib"
CERTIFICATES: Final = "etc/ssl/certs/ca-certificates.crt"
BOOT_IDENTITY: Final = "etc/enclave-cc/boot.json"

# Places where runc mounts something; they must exist, or runc would create them inside the measured tree.
_MOUNT_POINTS: Final = (
    "blobs",
    "dev",
    "proc",
    "run/enclave-cc",
    "run/platform",
    "sealed",
    "sys",
    "tmp",
)
_TEXTS: Final = {
    "etc/hostname": "",
    "etc/hosts": "",
    "etc/nsswitch.conf": "hosts: files dns\n",
    "etc/passwd": "root:x:0:0::/:/nonexistent\n",
    "etc/group": "root:x:0:\n",
    "etc/resolv.conf": "",
}
_LAUNCHER: Final = '''"""Start the {kind} enclave from this bundle and nothing else."""

import os.path
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "site"))

from enclave_cc.enclave.{kind}.main import main

sys.exit(main())
'''
# Parts of the trusted rooms that only the simulated platform's daemon, the node, the owner's tools or the
# other enclave use.
_NOT_INSIDE: Final = ("platform/simulated/", "transport/registry/credential_")
_INSIDE: Final = ("platform/simulated/__init__.py", "platform/simulated/driver.py")


class Kind(StrEnum):
    """Which enclave."""

    AGENT = "agent"
    BOOT = "boot"


# As the platform reports them (ISVPRODID).
PRODUCT_IDS: Final = {Kind.AGENT: 1, Kind.BOOT: 2}


@dataclass(frozen=True, slots=True)
class BuiltBundle:
    """A finished bundle and its base measurement."""

    path: Path
    base: bytes
    files: int
    size_bytes: int


def build_bundle(kind: Kind | str, output: Path, *, boot_bundle: Path | None = None) -> BuiltBundle:
    """
    Build a bundle and put it in place of whatever lies at ``output``.

    An agent needs ``boot_bundle``: it serves the app enclaves started from exactly that one. Byte code is
    part of the bundle, measured like all the rest: without it most of an enclave's start is compiling.
    Raise ``InvalidInputError`` when this machine's Python or libraries are incomplete.
    """
    kind = Kind(kind)
    if (kind is Kind.AGENT) != (boot_bundle is not None):
        raise InvalidInputError(
            "bundle-kind-invalid",
            "an agent bundle needs a boot bundle, and only that one",
            stage=Stage.CONFIG,
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    try:
        loader = _fill(work / "rootfs", kind, boot_bundle)
        compile_files(work / "rootfs", (work / "rootfs").rglob("*.py"))
        (work / "bundle.json").write_bytes(strict_json.canonical(_settings(kind, loader)))
        files, size_bytes = _seal(work)
        base = measure_bundle(work).base
        _replace(work, output)
    except BaseException:
        # Half a bundle must not outlive an interruption.
        remove_bundle(work)
        raise
    return BuiltBundle(output, base, files, size_bytes)


def remove_bundle(path: Path) -> None:
    """Remove a bundle, read-only as it is; one that is not there is no error."""
    for directory, _, _ in os.walk(path):
        os.chmod(directory, 0o700)  # noqa: PTH101  # os.walk hands out texts
    shutil.rmtree(path, ignore_errors=True)


def _settings(kind: Kind, loader: str) -> dict[str, object]:
    return {
        "kind": str(kind),
        "product_id": PRODUCT_IDS[kind],
        "args": ["/usr/bin/python3", "-I", "-B", f"/usr/lib/enclave-cc/{kind}.py"],
        "env": [f"LD_LIBRARY_PATH=/{LIBRARIES}", f"SSL_CERT_FILE=/{CERTIFICATES}", "PATH=/usr/bin"],
        "cwd": "/",
        "loader": loader,
    }


def _fill(root: Path, kind: Kind, boot_bundle: Path | None) -> str:
    """Write the tree; return the loader's path inside it."""
    libraries = LibraryClosure()
    interpreter = interpreter_file()
    loader = read_elf(interpreter.source.read_bytes()).interpreter
    if not loader:
        raise InvalidInputError(
            "bundle-python-incomplete",
            "the Python interpreter is linked statically and cannot load extension modules",
            stage=Stage.MEASURE,
        )
    files = chain(
        (interpreter,), standard_library_files(), package_files(_packages(kind)), own_files(_is_inside(kind))
    )
    _copy(root, files, libraries)
    for name in LOADED_AT_RUN_TIME:
        libraries.add_if_present(name)
    found = (BundleFile(f"{LIBRARIES}/{name}", path) for name, path in libraries.libraries().items())
    _copy(root, found, None)
    _copy(root, (BundleFile(loader.lstrip("/"), Path(loader).resolve(), executable=True),), None)
    _write_texts(root, kind, boot_bundle)
    return loader


def _copy(root: Path, files: Iterable[BundleFile], libraries: LibraryClosure | None) -> None:
    for file in files:
        data = file.source.read_bytes()
        if is_elf(data):
            if libraries is not None:
                libraries.add(file.source, data)
            data = for_loading(data)
        _write(root / file.target, data, executable=file.executable)


def _write_texts(root: Path, kind: Kind, boot_bundle: Path | None) -> None:
    for directory in _MOUNT_POINTS:
        (root / directory).mkdir(parents=True, exist_ok=True)
    for name, text in _TEXTS.items():
        _write(root / name, text.encode())
    _write(root / f"usr/lib/enclave-cc/{kind}.py", _LAUNCHER.format(kind=kind).encode())
    certificates = ssl.get_default_verify_paths().openssl_cafile
    for candidate in (CERTIFICATES, certificates.lstrip("/"), "etc/pki/tls/certs/ca-bundle.crt"):
        if Path("/", candidate).is_file():
            _write(root / CERTIFICATES, Path("/", candidate).read_bytes())
            break
    if boot_bundle is not None:
        identity = {"base": measure_bundle(boot_bundle).base.hex()}
        _write(root / BOOT_IDENTITY, strict_json.canonical(identity))


def _write(path: Path, data: bytes, *, executable: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(0o555 if executable else 0o444)


def _packages(kind: Kind) -> list[str]:
    return [name for name in TRUSTED_PACKAGES if kind is Kind.AGENT or name not in AGENT_PACKAGES]


def _is_inside(kind: Kind) -> Callable[[str], bool]:
    other = Kind.BOOT if kind is Kind.AGENT else Kind.AGENT
    outside = (*_NOT_INSIDE, f"enclave/{other}/")
    return lambda path: path in _INSIDE or not path.startswith(outside)


def _seal(work: Path) -> tuple[int, int]:
    """Take write permission from everything; return the number of files and their size."""
    files = size_bytes = 0
    for directory, _, names in os.walk(work, topdown=False):
        for name in names:
            files += 1
            size_bytes += Path(directory, name).stat().st_size
        Path(directory).chmod(0o555)
    (work / "bundle.json").chmod(0o444)
    return files, size_bytes


def _replace(work: Path, output: Path) -> None:
    """Move the finished tree to its name; an older one makes way first."""
    work.chmod(0o755)
    if output.exists():
        remove_bundle(output)
    work.rename(output)
    output.chmod(0o555)
