"""`enclave-cc image inspect`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from enclave_cc.cli.options import OutputOption, PlainHttpOption
from enclave_cc.cli.output import Output, show, show_json, show_table
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.tenant.image_layout import ImageLayout
from enclave_cc.tenant.inspect import ImageReport, inspect_layout, inspect_remote
from enclave_cc.transport.registry import RegistryClient


def inspect(image: str, *, insecure_http: PlainHttpOption = (), output: OutputOption = Output.TEXT) -> None:
    """
    Show of each layer whether it is encrypted and by which key, and how many signatures there are.

    IMAGE is the directory of an OCI layout, or a reference in a registry.

    Example: `enclave-cc image inspect registry.example/team/app:v1 --output json`
    """
    report = _report(image, insecure_http)
    if output is Output.JSON:
        show_json(dataclasses.asdict(report, dict_factory=_json_members))
        return
    show(f"manifest   {report.manifest_digest}")
    show(f"signatures {report.signatures}")
    rows = (
        (str(layer.digest)[:19], str(layer.size), "yes" if layer.encrypted else "NO", " ".join(layer.key_ids))
        for layer in report.layers
    )
    show_table(("layer", "bytes", "encrypted", "key"), rows)


def _report(image: str, insecure_http: tuple[str, ...]) -> ImageReport:
    if Path(image).is_dir():
        return inspect_layout(ImageLayout.open(Path(image)))
    client = RegistryClient(insecure_http=insecure_http)
    try:
        return inspect_remote(Reference.parse(image), client)
    finally:
        client.close()


def _json_members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    return dict(pairs)
