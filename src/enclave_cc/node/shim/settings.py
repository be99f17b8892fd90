"""The node's configuration as the shim reads it: the same file as the daemon's, the few members it needs."""

# pathlib would take longer to import than the shim takes to start.
# ruff: noqa: PTH123

from __future__ import annotations

from enclave_cc.node.shim.json_text import InvalidJson, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    from enclave_cc.node.config import NodeConfig

_MAX_BYTES: Final = 1 << 16


class InvalidSettings(ValueError):  # noqa: N818 - reads as a state
    """The configuration file cannot be used; the text says which member is wrong."""


class Settings:
    """Paths of this node."""

    __slots__ = (
        "agent_bundle",
        "boot_bundle",
        "node_socket",
        "platform_socket",
        "runc",
        "runc_root",
        "state",
    )

    def __init__(self, members: dict[str, str]) -> None:
        self.state = members["state"]
        self.runc = members["runc"]
        self.runc_root = members["runc_root"]
        self.agent_bundle = members["agent_bundle"]
        self.boot_bundle = members["boot_bundle"]
        self.platform_socket = members["platform_socket"]
        self.node_socket = members["node_socket"]

    @classmethod
    def read(cls, path: str) -> Settings:
        """Read the file; raise ``InvalidSettings``."""
        try:
            with open(path, "rb") as file:
                document = loads(file.read(_MAX_BYTES))
        except (OSError, InvalidJson) as error:
            raise InvalidSettings(f"{path}: {error}") from error
        if not isinstance(document, dict):
            raise InvalidSettings(f"{path}: is not an object")
        for name in cls.__slots__:
            value = document.get(name)
            if not isinstance(value, str) or not value.startswith("/"):
                raise InvalidSettings(f"{path}: {name} is not an absolute path")
        return cls(document)

    @classmethod
    def of(cls, config: NodeConfig) -> Settings:
        """Take the shim's part of what the daemon has read."""
        return cls({name: str(getattr(config, name)) for name in cls.__slots__})

    def containers_root(self, namespace: str) -> str:
        """Return runc's root for pods' containers."""
        return f"{self.runc_root}/{namespace}"

    def agents_root(self, namespace: str) -> str:
        """Return runc's root for agents, apart from the containers that containerd knows."""
        return f"{self.runc_root}/agents-{namespace}"

    def pod(self, sandbox_id: str) -> str:
        """Return the directory of one pod."""
        return f"{self.state}/pods/{sandbox_id}"
