"""
The node's configuration files and shim launchers of a scene, one set for each runtime handler.

The second set differs in one path: its agent bundle was changed after the owner registered the measurement.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import enclave_cc
from enclave_cc.demo.scene.containerd_config import MODIFIED_RUNTIME_TYPE, RUNTIME_TYPE, shim_name
from enclave_cc.node.config import NodeConfig
from enclave_cc.node.shim.launcher import write_shim_launcher

if TYPE_CHECKING:
    from enclave_cc.demo.scene.bundle_cache import Bundles
    from enclave_cc.demo.scene.paths import ScenePaths


def write_node_files(
    paths: ScenePaths, bundles: Bundles, *, runc: Path, registry: str, host_images: tuple[str, ...]
) -> Path:
    """Write both configurations and both launchers; return the configuration of the node daemon."""
    config = NodeConfig(
        state=paths.node,
        runc=runc,
        runc_root=paths.runc,
        agent_bundle=bundles.agent,
        boot_bundle=bundles.boot,
        platform_socket=paths.platform_socket,
        node_socket=paths.node_socket,
        containerd_socket=paths.containerd_socket,
        snapshot_root=paths.node / "snapshots",
        snapshot_socket=paths.snapshot_socket,
        host_images=host_images,
        insecure_http_registries=(registry,),
    )
    source_root = Path(enclave_cc.__file__).parents[1]
    for name, runtime_type, variant in (
        ("node.json", RUNTIME_TYPE, config),
        ("node-modified.json", MODIFIED_RUNTIME_TYPE, replace(config, agent_bundle=bundles.modified_agent)),
    ):
        file = paths.root / name
        file.write_bytes(variant.to_json())
        write_shim_launcher(paths.programs / shim_name(runtime_type), file, Path(sys.executable), source_root)
    return paths.root / "node.json"
