"""Images in an OCI layout, unpacked by umoci: an independent reader of whole images."""

from __future__ import annotations

import gzip
import hashlib
import json
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_PREFIX = "application/vnd.oci.image."


def write_layout(directory: Path, layers: Sequence[bytes]) -> None:
    """Write the tars as an image of the name ``test``."""
    blobs = directory / "blobs/sha256"
    blobs.mkdir(parents=True)

    def add(data: bytes, media_type: str) -> dict:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"mediaType": _PREFIX + media_type, "digest": f"sha256:{digest}", "size": len(data)}

    descriptors = [add(gzip.compress(tar, 1), "layer.v1.tar+gzip") for tar in layers]
    diff_ids = [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in layers]
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created_by": "a test"}] * len(diff_ids),
    }
    document = {
        "schemaVersion": 2,
        "config": add(json.dumps(config).encode(), "config.v1+json"),
        "layers": descriptors,
    }
    manifest = add(json.dumps(document).encode(), "manifest.v1+json")
    manifest["annotations"] = {"org.opencontainers.image.ref.name": "test"}
    (directory / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [manifest]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def unpack(directory: Path, layers: Sequence[bytes]) -> Path | str:
    """Return the root that umoci makes of these layers, or what it complains about."""
    write_layout(directory / "layout", layers)
    command = ["umoci", "unpack", "--image", f"{directory}/layout:test", directory / "bundle"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stderr if result.returncode else directory / "bundle/rootfs"
