"""The command lines of the scene's daemons: what each is told, and how one sees that it is ready."""

from __future__ import annotations

import json
import stat
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Final

import enclave_cc
from enclave_cc.demo.scene.processes import Program, listens_on_port, listens_on_socket

if TYPE_CHECKING:
    from enclave_cc.demo.scene.containerd_config import ContainerdConfig
    from enclave_cc.demo.scene.paths import ScenePaths

# No package of Debian uses this account; the platform's keys are unreadable for registry and workloads.
PLATFORM_UID: Final = 64017


def registry(paths: ScenePaths, *, port: int) -> Program:
    """Debian's docker-registry with storage in the scene; JSON is YAML."""
    settings = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(paths.registry / "storage")},
            # Its default answers blobs from memory; the demo changes one on disk.
            "cache": {"blobdescriptor": "inmemory"},
            "maintenance": {"uploadpurging": {"enabled": False}},
        },
        "http": {"addr": f"127.0.0.1:{port}"},
    }
    file = paths.registry / "config.yml"
    file.write_text(json.dumps(settings))
    return Program("registry", ("docker-registry", "serve", str(file)), listens_on_port(port))


def platform(paths: ScenePaths, *, pcs_port: int) -> Program:
    """Run the simulated SGX platform, under a user of its own where that user can read Python and us."""
    user = ("--uid", str(PLATFORM_UID)) if _everybody_reads(_our_files()) else ()
    return Program(
        "platform",
        (
            *_python("enclave_cc.platform.simulated"),
            *("--state", str(paths.platform_state)),
            *("--socket", str(paths.platform_socket)),
            *("--pcs", f"127.0.0.1:{pcs_port}"),
            *user,
        ),
        listens_on_socket(paths.platform_socket),
    )


def broker(config: Path, *, port: int) -> Program:
    """Key broker, attestation service and reference values in one process."""
    return Program(
        "broker", (*_python("enclave_cc.trustee.broker"), "--config", str(config)), listens_on_port(port)
    )


def node(paths: ScenePaths, config: Path) -> Program:
    """Snapshotter, containerd client and blob cache."""
    return Program(
        "node",
        (*_python("enclave_cc.node.daemon"), "--config", str(config)),
        listens_on_socket(paths.snapshot_socket),
    )


def containerd(config: ContainerdConfig, *, programs: Path) -> Program:
    """Debian's containerd; `programs` holds our shims' launchers and comes first in its PATH."""
    return Program(
        "containerd",
        ("containerd", "--config", str(config.file)),
        listens_on_socket(config.paths.containerd_socket),
        environment={"PATH": f"{programs}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
    )


def _our_files() -> tuple[Path, ...]:
    """Name what the daemon reads after it gave up root: interpreter, standard library, packages, us."""
    return (
        Path(sys.executable).resolve(),
        *(Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib")),
        Path(enclave_cc.__file__),
    )


def _everybody_reads(files: tuple[Path, ...]) -> bool:
    """Tell whether strangers may pass all directories above; homes, where clones lie, are closed."""
    directories = {parent for file in files for parent in file.resolve().parents}
    return all(directory.stat().st_mode & stat.S_IXOTH for directory in directories)


def _python(module: str) -> tuple[str, ...]:
    """Our own interpreter and packages, whatever the caller's environment says."""
    return (sys.executable, "-I", "-m", module)
