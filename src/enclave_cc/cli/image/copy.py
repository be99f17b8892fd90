"""`enclave-cc image copy`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from enclave_cc.cli.image.options import PlatformOption
from enclave_cc.cli.image.places import ProgressOptions, RegistryOptions, transferring
from enclave_cc.cli.image.result import show_written
from enclave_cc.cli.options import OutputOption
from enclave_cc.cli.output import Output
from enclave_cc.tenant.copy import copy_image
from enclave_cc.tenant.platforms import parse_platform

_REGISTRY = RegistryOptions()
_PROGRESS = ProgressOptions()


def copy(
    source: str,
    target: str,
    *,
    platform: PlatformOption = (),
    signatures: Annotated[
        bool, Parameter(help="Copy signatures and everything else that refers to the image.", negative="")
    ] = False,
    output: OutputOption = Output.TEXT,
    registry: RegistryOptions = _REGISTRY,
    progress: ProgressOptions = _PROGRESS,
) -> None:
    """
    Copy the image SOURCE to TARGET, byte for byte.

    Example: `enclave-cc image copy oci:app registry.example/team/app:v1 --signatures`
    """
    with transferring(source, target, registry, progress) as transfer:
        done = copy_image(
            transfer.reader,
            transfer.writer,
            platforms=tuple(map(parse_platform, platform)),
            signatures=signatures,
            work=transfer.work,
        )
    show_written(target, done.descriptor, output, signatures=done.signatures)
