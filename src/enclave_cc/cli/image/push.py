"""`enclave-cc image push`."""

from __future__ import annotations

from pathlib import Path

from enclave_cc.cli.options import PlainHttpOption
from enclave_cc.cli.output import show
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.tenant.image_layout import ImageLayout
from enclave_cc.tenant.push import push_image
from enclave_cc.transport.registry import RegistryClient


def push(layout: Path, reference: str, *, insecure_http: PlainHttpOption = ()) -> None:
    """
    Push the image in an OCI layout and its signatures.

    Example: `enclave-cc image push app.enc registry.example/team/app:v1`
    """
    client = RegistryClient(insecure_http=insecure_http)
    try:
        pushed = push_image(ImageLayout.open(layout), Reference.parse(reference), client)
    finally:
        client.close()
    show(f"pushed {pushed.digest} and {len(pushed.signatures)} signature(s) to {reference}")
