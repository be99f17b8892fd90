"""
One mounted sealed image in a process of its own: `python -m bench.rootfs_server`, see bench/rootfs_stores.py.

It loads what serves an image, says so, waits for an order on standard input, mounts, says so, and takes
everything down when its input ends. Its memory and processor time are those of the serving alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from enclave_cc.core.secret import Secret
from enclave_cc.enclave.rootfs.mounting.backend import PREFERENCE, Backend, BackendSelector
from enclave_cc.enclave.rootfs.mounting.rootfs import Binding, MountedRootfs
from enclave_cc.formats.rootfs_options import RootfsOptions, Writable

BINDING = Binding("pod", "container", "image")


def main() -> int:
    """Load, wait, mount, wait, unmount."""
    print("ready", flush=True)
    line = sys.stdin.readline()
    if not line:
        return 0
    mounted = _mount(json.loads(line))
    print(f"mounted {mounted.backend}", flush=True)
    sys.stdin.readline()
    mounted.close()
    return 0


def _mount(order: dict[str, Any]) -> MountedRootfs:
    candidates = (Backend(order["backend"]),) if order["backend"] else PREFERENCE
    return MountedRootfs.open(
        Path(order["directory"]),
        fdk=Secret(bytes.fromhex(order["fdk"])),
        manifest_sha256=bytes.fromhex(order["manifest_sha256"]),
        binding=BINDING,
        mountpoint=Path(order["mountpoint"]),
        work=Path(order["work"]),
        on_poison=lambda finding: print(finding, file=sys.stderr),
        options=RootfsOptions(writable=Writable(order["writable"]), decrypt_to_memory=order["to_memory"]),
        selector=BackendSelector(candidates),
    )


if __name__ == "__main__":
    sys.exit(main())
