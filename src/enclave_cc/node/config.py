"""
The node's configuration file, read once at the start of the daemon and of the tools.

The shim reads the same file with a reader of its own, for speed (``node.shim.settings``). Nothing
in it weakens what an enclave checks: it says where things are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.core.fields import FieldError, Fields
from enclave_cc.core.strict_json import InvalidJsonError, canonical, loads

_MAX_BYTES: Final = 1 << 16
_PATHS: Final = (
    "state",
    "runc",
    "runc_root",
    "agent_bundle",
    "boot_bundle",
    "platform_socket",
    "node_socket",
    "containerd_socket",
    "snapshot_root",
    "snapshot_socket",
)
# Files of container tools and addresses with which the prefetch reaches registries.
_OPTIONAL_PATHS: Final = ("registry_credentials", "registries_conf", "registry_ca")
_PROXIES: Final = ("https_proxy", "http_proxy")
_LISTS: Final = ("host_images", "insecure_http_registries", "no_proxy")


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Paths of this node, the images its own containerd unpacks, and how its prefetch reaches registries."""

    state: Path
    runc: Path
    runc_root: Path
    agent_bundle: Path
    boot_bundle: Path
    platform_socket: Path
    node_socket: Path
    containerd_socket: Path
    snapshot_root: Path
    snapshot_socket: Path
    host_images: tuple[str, ...] = ()
    insecure_http_registries: tuple[str, ...] = ()
    registry_credentials: Path | None = None
    registries_conf: Path | None = None
    registry_ca: Path | None = None
    https_proxy: str = ""
    http_proxy: str = ""
    no_proxy: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: bytes) -> Self:
        """Read the JSON text; raise ``InvalidInputError`` (``node-config-invalid``)."""
        try:
            fields = Fields(loads(text, max_bytes=_MAX_BYTES), "node")
            fields.only(*_PATHS, *_OPTIONAL_PATHS, *_PROXIES, *_LISTS)
            paths = {name: _path(fields, name) for name in _PATHS}
            return cls(
                **paths,
                host_images=_prefixes(fields),
                insecure_http_registries=fields.texts("insecure_http_registries"),
                no_proxy=fields.texts("no_proxy"),
                registry_credentials=_optional_path(fields, "registry_credentials"),
                registries_conf=_optional_path(fields, "registries_conf"),
                registry_ca=_optional_path(fields, "registry_ca"),
                https_proxy=fields.text("https_proxy", default=""),
                http_proxy=fields.text("http_proxy", default=""),
            )
        except (InvalidJsonError, FieldError) as error:
            raise _invalid(str(error)) from error

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the file; raise ``InvalidInputError`` (``node-config-invalid``)."""
        try:
            with path.open("rb") as file:
                return cls.parse(file.read(_MAX_BYTES + 1))
        except OSError as error:
            raise _invalid(f"{path}: {error.strerror}") from error

    def to_json(self) -> bytes:
        """Write what ``parse`` reads."""
        members: dict[str, object] = {name: str(getattr(self, name)) for name in _PATHS}
        members |= {name: list(getattr(self, name)) for name in _LISTS}
        optional = {name: getattr(self, name) for name in (*_OPTIONAL_PATHS, *_PROXIES)}
        members |= {name: str(value) for name, value in optional.items() if value}
        return canonical(members)

    @property
    def blobs(self) -> Path:
        """Return the node-wide cache of ciphertext."""
        return self.state / "blobs"


def _path(fields: Fields, name: str) -> Path:
    path = Path(fields.text(name))
    if not path.is_absolute():
        raise fields.error(name, "is not an absolute path")
    return path


def _optional_path(fields: Fields, name: str) -> Path | None:
    return _path(fields, name) if fields.has(name) else None


def _prefixes(fields: Fields) -> tuple[str, ...]:
    """Read the prefixes of host images; an empty one would make every image a host image."""
    prefixes = fields.texts("host_images")
    if not all(prefixes):
        raise fields.error("host_images", "holds an empty text")
    return prefixes


def _invalid(detail: str) -> InvalidInputError:
    return InvalidInputError(
        "node-config-invalid", "the node's configuration cannot be used", stage=Stage.CONFIG, detail=detail
    )
