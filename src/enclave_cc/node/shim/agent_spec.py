"""The OCI specification of an agent enclave: its measured bundle, and next to nothing of the host."""

# pathlib would take longer to import than the shim takes to start.
# ruff: noqa: PTH103, PTH112, PTH123

from __future__ import annotations

import os

from enclave_cc.node.shim.json_text import InvalidJson, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from enclave_cc.node.shim.pod import PodDirectory
    from enclave_cc.node.shim.settings import Settings

_MAX_BUNDLE_JSON_BYTES: Final = 1 << 16
# runc would make missing mount points inside the bundle, and the bundle is measured.
_MOUNT_POINTS: Final = ("proc", "dev", "tmp", "run", "sealed", "blobs")
_PRIVATE_NAMESPACES: Final = ("pid", "ipc", "uts", "mount", "cgroup")
_NO_EXEC: Final = ("nosuid", "nodev", "noexec")
_RESOLV_CONF: Final = "/etc/resolv.conf"
_HIDDEN: Final = (
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
)
_FROZEN: Final = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")


class InvalidBundle(Exception):  # noqa: N818 - reads as a state
    """The installed bundle cannot be used; the text says what is missing."""


def read_bundle(bundle: str) -> dict[str, Any]:
    """Read a bundle's own description; raise ``InvalidBundle``."""
    try:
        with open(f"{bundle}/bundle.json", "rb") as file:
            description = loads(file.read(_MAX_BUNDLE_JSON_BYTES))
    except (OSError, InvalidJson) as error:
        raise InvalidBundle(f"bundle.json: {error}") from error
    if not isinstance(description, dict) or not isinstance(description.get("args"), list):
        raise InvalidBundle("bundle.json: has no args")
    return description


def agent_spec(settings: Settings, pod: PodDirectory, sandbox: dict[str, Any]) -> dict[str, Any]:
    """Write the specification beside a sandbox's own; raise ``InvalidBundle``."""
    bundle = read_bundle(settings.agent_bundle)
    rootfs = f"{settings.agent_bundle}/rootfs"
    for name in _MOUNT_POINTS:
        if not os.path.isdir(f"{rootfs}/{name}"):
            raise InvalidBundle(f"the root file system lacks the mount point /{name}")
    linux = sandbox.get("linux") or {}
    return {
        "ociVersion": "1.0.2",
        "process": _process(bundle, sandbox),
        "root": {"path": rootfs, "readonly": True},
        "hostname": "agent",
        "mounts": _mounts(settings, pod, sandbox, rootfs),
        "linux": {
            "cgroupsPath": _beside(linux.get("cgroupsPath", ""), pod.sandbox_id),
            "namespaces": _namespaces(linux.get("namespaces") or []),
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "maskedPaths": list(_HIDDEN),
            "readonlyPaths": list(_FROZEN),
        },
    }


def _process(bundle: dict[str, Any], sandbox: dict[str, Any]) -> dict[str, Any]:
    nothing: list[str] = []
    sets = ("bounding", "effective", "inheritable", "permitted", "ambient")
    process: dict[str, Any] = {
        "user": {"uid": 0, "gid": 0},
        "args": bundle["args"],
        "env": bundle.get("env", []),
        "cwd": bundle.get("cwd", "/"),
        "capabilities": dict.fromkeys(sets, nothing),
        "noNewPrivileges": True,
    }
    # As the sandbox: the last to go when memory runs out, where the kubelet may say so.
    score = (sandbox.get("process") or {}).get("oomScoreAdj")
    if score is not None:
        process["oomScoreAdj"] = score
    return process


def _mounts(
    settings: Settings, pod: PodDirectory, sandbox: dict[str, Any], rootfs: str
) -> list[dict[str, Any]]:
    blobs = f"{settings.state}/blobs"
    os.makedirs(blobs, 0o755, exist_ok=True)
    mounts = [
        _mount("/proc", "proc", "proc", *_NO_EXEC),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "noexec", "mode=755", "size=64k"),
        _mount("/tmp", "tmpfs", "tmpfs", *_NO_EXEC, "mode=1777", "size=256m"),  # noqa: S108 - inside the container
        _mount("/run", "tmpfs", "tmpfs", *_NO_EXEC, "mode=755", "size=64k"),
        _bind("/run/enclave-cc", pod.run, "rw"),
        _bind("/run/platform/platform.sock", settings.platform_socket, "rw"),
        _bind("/sealed", pod.sealed, "rw"),
        # Shared with other pods' agents: what one leaves there, another believes no more than the network.
        _bind("/blobs", blobs, "rw"),
    ]
    resolver = _resolver(sandbox)
    if resolver and os.path.lexists(rootfs + _RESOLV_CONF):
        mounts.append(_bind(_RESOLV_CONF, resolver, "ro"))
    return mounts


def _mount(destination: str, type_: str, source: str, *options: str) -> dict[str, Any]:
    return {"destination": destination, "type": type_, "source": source, "options": list(options)}


def _bind(destination: str, source: str, access: str) -> dict[str, Any]:
    return _mount(destination, "bind", source, "rbind", "rprivate", access, *_NO_EXEC)


def _resolver(sandbox: dict[str, Any]) -> str:
    """Return the resolver configuration that the CRI wrote for the pod, if it did."""
    for mount in sandbox.get("mounts") or []:
        if mount.get("destination") == _RESOLV_CONF:
            return str(mount.get("source", ""))
    return ""


def _namespaces(of_sandbox: list[dict[str, str]]) -> list[dict[str, str]]:
    """Use the pod's network when it has one of its own, else the host's."""
    namespaces = [{"type": name} for name in _PRIVATE_NAMESPACES]
    namespaces += [
        {"type": "network", "path": namespace["path"]}
        for namespace in of_sandbox
        if namespace.get("type") == "network" and namespace.get("path")
    ]
    return namespaces


def _beside(cgroups_path: str, sandbox_id: str) -> str:
    """Name the agent's cgroup next to the sandbox's, in either of runc's notations."""
    if not cgroups_path:
        return f"/enclave-cc/{sandbox_id}-agent"
    if cgroups_path.count(":") == 2:  # noqa: PLR2004 - slice, prefix and name
        return f"{cgroups_path}-agent"
    return f"{cgroups_path.rstrip('/')}-agent"
