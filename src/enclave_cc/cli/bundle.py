"""`enclave-cc bundle` and `enclave-cc measure`: what runs in the enclaves, and what it measures."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from enclave_cc.cli.options import OutputOption
from enclave_cc.cli.output import Output, show, show_json
from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.node.bundles.build import Kind, build_bundle
from enclave_cc.node.bundles.reference import reference_value

app = App(name="bundle", help="Build the enclaves' bundles.")


class BundleKind(StrEnum):
    """The two enclaves."""

    AGENT = "agent"
    BOOT = "boot"


@app.command
def build(
    kind: BundleKind,
    output: Annotated[
        Path, Parameter(name=("--directory", "-d"), help="Where the bundle goes; replaced whole.")
    ],
    *,
    boot_bundle: Annotated[
        Path | None, Parameter(help="The boot bundle that an agent serves; build it first.")
    ] = None,
) -> None:
    """
    Build a bundle from the installed package: interpreter, standard library, our code, libraries, CAs.

    The same inputs give the same measurement.

    Example: `enclave-cc bundle build agent -d bundles/agent --boot-bundle bundles/boot`
    """
    built = build_bundle(Kind(kind.value), output, boot_bundle=boot_bundle)
    show(f"{built.path}: {built.files} files, {built.size_bytes >> 20} MiB, base {built.base.hex()}")


def measure(
    bundle: Path,
    *,
    initdata: Annotated[
        Path | None, Parameter(help="The pod's initdata, which is part of the identity.")
    ] = None,
    output: OutputOption = Output.TEXT,
) -> None:
    """
    Print the MRENCLAVE that a bundle has on the simulated platform, to be registered as a reference value.

    Example: `enclave-cc measure bundles/agent --initdata initdata.toml`
    """
    try:
        text = initdata.read_bytes() if initdata else None
    except OSError as error:
        detail = f"{initdata}: {error.strerror}"
        raise InvalidInputError(
            "file-unusable", "a file cannot be used", stage=Stage.CONFIG, detail=detail
        ) from error
    value = reference_value(bundle, text)
    if output is Output.JSON:
        show_json({"sgx_mr_enclave": value})
    else:
        show(value)
