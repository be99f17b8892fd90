"""The one result of a command that writes an image: what is where now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from enclave_cc.cli.output import Output, show, show_json

if TYPE_CHECKING:
    from enclave_cc.formats.oci.descriptor import Descriptor


def show_written(target: str, descriptor: Descriptor, output: Output, **counts: int) -> None:
    """Print ``TARGET@DIGEST``, or one JSON document that says more."""
    if output is Output.JSON:
        members = {"target": target, "digest": str(descriptor.digest), "media_type": descriptor.media_type}
        show_json({**members, **counts})
        return
    show(f"{target.partition('@')[0]}@{descriptor.digest}")
