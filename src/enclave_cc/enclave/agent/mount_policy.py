"""
Which mounts the host may lay over a container's root file system.

A mount hides or replaces what the sealed image holds, so each destination needs a reason: the kernel's own
file systems by type, the files that every kubelet brings, or the owner's list. A device node does the
same, and has its place below ``/dev``.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.formats.launch import ApprovedMount
from enclave_cc.formats.oci.runtime_spec import DEVICE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from enclave_cc.formats.oci.runtime_spec import SpecMount
    from enclave_cc.formats.owner.settings import WorkloadPolicy

# The file systems of the kernel that a container expects (OCI runtime specification, "Default Filesystems").
# A bind mount in their place would let the host invent /proc or /sys.
_KERNEL_MOUNTS: Final = {
    "/proc": {"proc"},
    "/dev": {"tmpfs"},
    "/dev/pts": {"devpts"},
    "/dev/mqueue": {"mqueue"},
    "/sys": {"sysfs"},
    "/sys/fs/cgroup": {"cgroup", "cgroup2"},
}
# Files and directories that the kubelet or the CRI server bind from the host; they hold names, addresses
# and a service account token, which the host issues anyway.
_KUBELET_FILES: Final = frozenset(
    {
        "/etc/hosts",
        "/etc/hostname",
        "/etc/resolv.conf",
        "/dev/shm",  # noqa: S108  # a destination inside the container
        "/dev/termination-log",
    }
)
# What the runtime makes itself (OCI runtime specification, "Default Devices" and "/dev symbolic links");
# a host that makes them could give /dev/urandom the zeros of /dev/zero.
_DEFAULT_DEVICES: Final = frozenset(
    {
        "/dev/null",
        "/dev/zero",
        "/dev/full",
        "/dev/random",
        "/dev/urandom",
        "/dev/tty",
        "/dev/console",
        "/dev/ptmx",
        "/dev/fd",
        "/dev/stdin",
        "/dev/stdout",
        "/dev/stderr",
    }
)
_SERVICE_ACCOUNTS: Final = ("/run/secrets/kubernetes.io/", "/var/run/secrets/kubernetes.io/")


def mount_findings(mounts: Iterable[SpecMount], policy: WorkloadPolicy) -> Iterator[Finding]:
    """Judge each mount of the host's specification."""
    for mount in mounts:
        yield _finding(mount, policy)


def usual_mounts() -> tuple[ApprovedMount, ...]:
    """Return what may be mounted over every container, whatever its specification will say."""
    kernel = (ApprovedMount(path, kind) for path, kinds in _KERNEL_MOUNTS.items() for kind in sorted(kinds))
    files = (ApprovedMount(path, "bind") for path in sorted(_KUBELET_FILES))
    return (*kernel, *files)


def _finding(mount: SpecMount, policy: WorkloadPolicy) -> Finding:
    actual = f"{mount.destination} ({mount.kind or 'bind'})"
    if policy.insecure_unrestricted:
        return Finding("launch.mount", Outcome.PASSED, "any", actual)
    kinds = _KERNEL_MOUNTS.get(mount.destination)
    if kinds is not None:
        outcome = Outcome.PASSED if mount.kind in kinds else Outcome.FAILED
        return Finding(
            "launch.mount", outcome, " or ".join(sorted(kinds)), actual, "let the runtime mount it"
        )
    if (
        _is_of_the_kubelet(mount.destination)
        or _is_device_of_the_node(mount)
        or any(fnmatchcase(mount.destination, rule) for rule in policy.mounts)
    ):
        return Finding("launch.mount", Outcome.PASSED, "an allowed destination", actual)
    remedy = "allow the destination in [workload] mounts, or remove the volume from the pod"
    return Finding("launch.mount", Outcome.FAILED, "an allowed destination", actual, remedy)


def _is_of_the_kubelet(destination: str) -> bool:
    return destination in _KUBELET_FILES or destination.startswith(_SERVICE_ACCOUNTS)


def _is_device_of_the_node(mount: SpecMount) -> bool:
    """Tell a graphics card and the like, which device plugins add, from what every program relies on."""
    path = mount.destination
    return mount.kind == DEVICE and path.startswith("/dev/") and path not in _DEFAULT_DEVICES
