"""
One pull as the agent does it, in a process of its own: `python -m bench.agent_pull`, see bench/image.py.

It loads what the agent loads, says so, waits for a line on standard input, opens the image and seals it,
and says what that took. Its peak memory is the operating system's figure for the whole process.
"""

from __future__ import annotations

import json
import re
import secrets
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enclave_cc.core.secret import Secret
from enclave_cc.enclave.agent.layers import LayerWork, seal_layers
from enclave_cc.enclave.agent.main import spare_collector
from enclave_cc.enclave.rootfs.sealing.writer import Binding, SealedImageWriter
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.signatures.policy import SignaturePolicy
from enclave_cc.image.cache import BlobCache, CacheThenRegistry
from enclave_cc.image.keys.layer_key import KeyRing
from enclave_cc.image.layers.progress import Progress
from enclave_cc.image.pull import verify_image
from enclave_cc.transport.registry.client import RegistryClient

if TYPE_CHECKING:
    from collections.abc import Mapping


class _Resources:
    """The broker's answers."""

    def __init__(self, resources: Mapping[str, str]) -> None:
        self._resources = {uri: bytes.fromhex(value) for uri, value in resources.items()}

    def get(self, uri: str) -> bytes:
        """Return a resource."""
        return self._resources[uri]


def main() -> int:
    """Load, wait, pull, report."""
    spare_collector()
    print("ready", flush=True)
    order = json.loads(sys.stdin.readline())
    begun, cpu = time.perf_counter(), time.process_time()
    _pull(order)
    report = {
        "wall_s": time.perf_counter() - begun,
        "cpu_s": time.process_time() - cpu,
        "peak_mb": _peak_mb(),
    }
    print(json.dumps(report), flush=True)
    return 0


def _pull(order: dict[str, Any]) -> None:
    reference = Reference.parse(order["image"])
    resources = _Resources(order["resources"])
    registry = RegistryClient(insecure_http=[reference.registry])
    image = verify_image(
        reference,
        manifest_digest=None,
        registry=registry,
        resources=resources,
        policy=SignaturePolicy.parse(order["policy"].encode()),
        require_encrypted=True,
    )
    source = CacheThenRegistry(BlobCache(Path(order["directory"]) / "no-cache"), registry)
    target = Path(order["directory"]) / secrets.token_hex(8)
    writer = SealedImageWriter(
        target,
        fdk=Secret.random(),
        binding=Binding("pod", "container", str(image.manifest_digest)),
    )
    work = LayerWork(source, KeyRing(resources))
    progress = Progress().expect([layer.descriptor.size for layer in image.layers])
    seal_layers(image.layers, progress, writer, work)
    writer.finish()
    registry.close()


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    if found is None:
        raise RuntimeError("the kernel does not say how much memory was used")
    return int(found[1]) * 1024 / 1e6


if __name__ == "__main__":
    sys.exit(main())
