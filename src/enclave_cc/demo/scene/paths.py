"""
Where everything of one scene lies: below one directory, so that it can be removed at once.

Its path is short, because names of Unix sockets are bounded (107 bytes, unix(7)) and a pod's agent socket has
a 64-character id in it.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from enclave_cc.core.errors import InvalidInputError, Stage

SCENES: Final = Path("/var/lib/ecc")
# sockaddr_un.sun_path without its final zero byte.
MAX_SOCKET_CHARS: Final = 107
_LONGEST_SOCKET: Final = f"n/pods/{'0' * 64}/run/agent.sock"
_NAME_LETTERS: Final = "abcdefghjkmnpqrstvwxyz0123456789"
_NAME_CHARS: Final = 4


@dataclass(frozen=True, slots=True)
class ScenePaths:
    """Paths of a scene's parts; nothing is made here but by `create` and `fresh`."""

    root: Path

    @classmethod
    def fresh(cls, scenes: Path = SCENES) -> ScenePaths:
        """Choose a name below `scenes` that is not taken; nothing is made yet."""
        if len(os.fspath(scenes)) + _NAME_CHARS + len(_LONGEST_SOCKET) + 2 > MAX_SOCKET_CHARS:
            raise InvalidInputError(
                "scene-path-too-long", "the directory's path is too long for Unix sockets", stage=Stage.CONFIG
            )
        scenes.mkdir(parents=True, exist_ok=True)
        while True:
            root = scenes / "".join(secrets.choice(_NAME_LETTERS) for _ in range(_NAME_CHARS))
            if not root.exists():
                return cls(root)

    def create(self) -> None:
        """Make the directories that no daemon makes itself; the owner's is for its own eyes."""
        self.root.mkdir(mode=0o711)
        for directory in (
            *(self.logs, self.pod_logs, self.registry, self.programs),
            *(self.platform_run, self.containerd, self.node, self.runc),
        ):
            directory.mkdir(mode=0o755)
        for directory in (self.tenant, self.broker):
            directory.mkdir(mode=0o700)

    @property
    def cgroup(self) -> str:
        """Path of the scene's control group; its name says whose it is."""
        return f"/enclave-cc-demo-{self.root.name}"

    @property
    def logs(self) -> Path:
        """What the daemons say."""
        return self.root / "log"

    @property
    def pod_logs(self) -> Path:
        """What the containers say, in the kubelet's layout."""
        return self.root / "log/pods"

    @property
    def registry(self) -> Path:
        """Storage and configuration of the registry."""
        return self.root / "registry"

    @property
    def tenant(self) -> Path:
        """The owner's keys and plaintext images: what the host must never see."""
        return self.root / "tenant"

    @property
    def platform_state(self) -> Path:
        """Keys of the simulated platform."""
        return self.root / "platform"

    @property
    def platform_run(self) -> Path:
        """Directory of the platform's socket, owned by its user."""
        return self.root / "p"

    @property
    def platform_socket(self) -> Path:
        """Socket of the simulated platform."""
        return self.platform_run / "platform.sock"

    @property
    def broker(self) -> Path:
        """Database, keys and configuration of the broker."""
        return self.root / "broker"

    @property
    def node(self) -> Path:
        """State of shims, snapshotter and node daemon."""
        return self.root / "n"

    @property
    def runc(self) -> Path:
        """State of runc."""
        return self.root / "r"

    @property
    def programs(self) -> Path:
        """The shims' launchers."""
        return self.root / "bin"

    @property
    def node_socket(self) -> Path:
        """Socket on which the node daemon answers shims."""
        return self.root / "node.sock"

    @property
    def snapshot_socket(self) -> Path:
        """Socket on which the node daemon answers containerd."""
        return self.root / "snapshot.sock"

    @property
    def containerd(self) -> Path:
        """Root, state, configuration and programs of containerd."""
        return self.root / "c"

    @property
    def containerd_socket(self) -> Path:
        """Socket of containerd's own API and of the CRI."""
        return self.root / "c/containerd.sock"
