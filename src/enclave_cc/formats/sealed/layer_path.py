"""The paths of a layer's entries: cut into names, kept inside the root, and whiteouts told from files."""

from __future__ import annotations

from typing import Final

MAX_NAME_BYTES: Final = 255

WHITEOUT: Final = b".wh."
META: Final = b".wh..wh."
OPAQUE: Final = b".wh..wh..opq"
NO_NAMES: Final = (b"", b".", b"..")


class LayerError(ValueError):
    """A layer does not describe a file tree."""


class PathEscapesError(LayerError):
    """A path or the target of a hard link leaves the root."""


def split_path(path: bytes) -> list[bytes]:
    """Return the names of a path, none for the root; raise ``LayerError``."""
    parts = [part for part in path.split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise PathEscapesError("a path leaves the root")
    if len(path) > MAX_NAME_BYTES and max(map(len, parts), default=0) > MAX_NAME_BYTES:
        raise LayerError("a name is too long")
    return parts


def is_plain(name: bytes) -> bool:
    """Tell whether a name is nothing but that."""
    return name not in NO_NAMES and len(name) <= MAX_NAME_BYTES and not name.startswith(WHITEOUT)
