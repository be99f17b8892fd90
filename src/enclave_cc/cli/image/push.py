"""`enclave-cc image push`."""

from __future__ import annotations

from pathlib import Path

from enclave_cc.cli.image.copy import copy
from enclave_cc.cli.image.places import ProgressOptions, RegistryOptions
from enclave_cc.cli.options import OutputOption
from enclave_cc.cli.output import Output

_REGISTRY = RegistryOptions()
_PROGRESS = ProgressOptions()


def push(
    layout: Path,
    reference: str,
    *,
    output: OutputOption = Output.TEXT,
    registry: RegistryOptions = _REGISTRY,
    progress: ProgressOptions = _PROGRESS,
) -> None:
    """
    Push the image in an OCI layout with everything that vouches for it: `copy --signatures`.

    Example: `enclave-cc image push app.enc registry.example/team/app:v1`
    """
    source = f"oci:{layout}"
    copy(source, reference, signatures=True, output=output, registry=registry, progress=progress)
