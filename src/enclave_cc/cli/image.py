"""`enclave-cc image`: prepare an image so that only attested enclaves can open it."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from enclave_cc.cli.options import OutputOption, PlainHttpOption
from enclave_cc.cli.output import Output, show, show_json, show_table
from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.core.secret import Secret
from enclave_cc.formats.kbs.resource_uri import ResourceUri
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.signatures.cosign import generate_signing_key
from enclave_cc.tenant.encrypt import WrappingKey, encrypt_image
from enclave_cc.tenant.image_layout import ImageLayout
from enclave_cc.tenant.inspect import ImageReport, inspect_layout, inspect_remote
from enclave_cc.tenant.push import push_image
from enclave_cc.tenant.sign import sign_image
from enclave_cc.transport.registry import RegistryClient

app = App(name="image", help="Encrypt, sign, push and inspect images.")

_KEY_BYTES = 32


@app.command
def keygen(directory: Path) -> None:
    """
    Make a layer-wrapping key and a cosign-compatible signing key.

    Writes `image.key` (32 bytes, goes into the broker), `cosign.key` (stays with you) and `cosign.pub`
    (goes into the broker) into DIRECTORY. A file that is there already is never replaced.

    Example: `enclave-cc image keygen keys`
    """
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    private, public = generate_signing_key()
    for name, data in (
        ("image.key", os.urandom(_KEY_BYTES)),
        ("cosign.key", private),
        ("cosign.pub", public),
    ):
        with os.fdopen(_create(directory / name), "wb") as file:
            file.write(data)
        show(f"wrote {directory / name}")


@app.command
def encrypt(
    source: Path,
    target: Path,
    *,
    key: Annotated[Path, Parameter(help="File with the 32-byte wrapping key.")],
    key_id: Annotated[str, Parameter(help="Where the broker holds that key: kbs:///REPOSITORY/TYPE/TAG.")],
) -> None:
    """
    Encrypt every layer of the image in the OCI layout SOURCE into a new layout TARGET.

    Example: `enclave-cc image encrypt app app.enc --key keys/image.key --key-id kbs:///team/keys/app`
    """
    wrapping_key = WrappingKey(Secret(_read(key)), str(ResourceUri.parse(key_id)))
    encrypted = encrypt_image(ImageLayout.open(source), ImageLayout.create(target), wrapping_key)
    show(f"encrypted {encrypted.digest}")


@app.command
def sign(
    layout: Path,
    *,
    repository: Annotated[str, Parameter(help="Name that people pull by, without a tag.")],
    key: Annotated[Path, Parameter(help="Private key in PEM, as `image keygen` makes it.")],
) -> None:
    """
    Sign the image in an OCI layout; the signature is pushed along with it.

    Example: `enclave-cc image sign app.enc --repository registry.example/team/app --key keys/cosign.key`
    """
    image = ImageLayout.open(layout)
    signed = image.find()
    sign_image(image, signed, repository=repository, private_key_pem=_read(key))
    show(f"signed {signed.digest} for {repository}")


@app.command
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


@app.command
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


def _create(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise _file_error(path, error) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _file_error(path, error) from error


def _file_error(path: Path, error: OSError) -> InvalidInputError:
    detail = f"{path}: {error.strerror}"
    return InvalidInputError("file-unusable", "a file cannot be used", stage=Stage.CONFIG, detail=detail)
