"""
The configuration of the demo's containerd: version 2, understood by Debian's 1.6 and by 1.7.

Text only. One snapshotter serves the whole CRI (1.6 knows no other way); the plain image of the pause
container is unpacked by the host like any image, because the node daemon knows it by name.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

    from enclave_cc.demo.scene.paths import ScenePaths

RUNTIME_HANDLER: Final = "enclave-cc"
RUNTIME_TYPE: Final = "io.containerd.rune.v2"
MODIFIED_RUNTIME_HANDLER: Final = "enclave-cc-modified"
MODIFIED_RUNTIME_TYPE: Final = "io.containerd.runemodified.v2"
SNAPSHOTTER: Final = "rune"
POD_ANNOTATIONS: Final = ("enclave-cc.dev/*", "io.katacontainers.config.hypervisor.cc_init_data")
# Plugins that need kernel modules or directories that a scene does not bring along.
DISABLED_PLUGINS: Final = (
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.tracing.processor.v1.otlp",
    "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.tracing",
)


@dataclass(frozen=True, slots=True)
class ContainerdConfig:
    """What differs between scenes."""

    paths: ScenePaths
    registry: str
    pause_image: str

    @property
    def file(self) -> Path:
        """The main configuration file."""
        return self.paths.containerd / "config.toml"

    def write(self) -> None:
        """Write the main file and the registry's hosts.toml."""
        hosts = self.paths.containerd / "certs.d" / self.registry
        hosts.mkdir(parents=True, exist_ok=True)
        (hosts / "hosts.toml").write_text(self.hosts_toml())
        self.file.write_text(self.toml())

    def hosts_toml(self) -> str:
        """How to reach the loopback registry: plain HTTP (containerd docs/hosts.md)."""
        url = json.dumps(f"http://{self.registry}")
        return f'server = {url}\n[host.{url}]\n  capabilities = ["pull", "resolve"]\n'

    def toml(self) -> str:
        """Render the main file; JSON texts and lists are TOML texts and lists."""
        base = self.paths.containerd
        cri = 'plugins."io.containerd.grpc.v1.cri"'
        return "\n".join(
            (
                "version = 2",
                f"root = {_text(base / 'root')}",
                f"state = {_text(base / 'state')}",
                f"disabled_plugins = {json.dumps(DISABLED_PLUGINS)}",
                "[grpc]",
                f"address = {_text(self.paths.containerd_socket)}",
                "[ttrpc]",
                f"address = {_text(base / 'ttrpc.sock')}",
                f"[proxy_plugins.{SNAPSHOTTER}]",
                'type = "snapshot"',
                f"address = {_text(self.paths.snapshot_socket)}",
                f"[{cri}]",
                f"sandbox_image = {json.dumps(self.pause_image)}",
                'stream_server_address = "127.0.0.1"',
                'stream_server_port = "0"',
                "disable_apparmor = true",
                "restrict_oom_score_adj = true",
                f"[{cri}.cni]",
                f"bin_dir = {_text(base / 'cni/bin')}",
                f"conf_dir = {_text(base / 'cni/net.d')}",
                f"[{cri}.registry]",
                f"config_path = {_text(base / 'certs.d')}",
                f"[{cri}.containerd]",
                f"snapshotter = {json.dumps(SNAPSHOTTER)}",
                "disable_snapshot_annotations = false",
                f"default_runtime_name = {json.dumps(RUNTIME_HANDLER)}",
                *_runtime(cri, RUNTIME_HANDLER, RUNTIME_TYPE),
                *_runtime(cri, MODIFIED_RUNTIME_HANDLER, MODIFIED_RUNTIME_TYPE),
                "",
            )
        )


def shim_name(runtime_type: str) -> str:
    """Name the program that containerd looks up for a runtime type: io.containerd.NAME.VERSION."""
    *_, name, version = runtime_type.split(".")
    return f"containerd-shim-{name}-{version}"


def _runtime(cri: str, handler: str, runtime_type: str) -> tuple[str, ...]:
    return (
        f"[{cri}.containerd.runtimes.{handler}]",
        f"runtime_type = {json.dumps(runtime_type)}",
        f"pod_annotations = {json.dumps(POD_ANNOTATIONS)}",
        f"container_annotations = {json.dumps(POD_ANNOTATIONS)}",
    )


def _text(path: Path) -> str:
    return json.dumps(str(path))
