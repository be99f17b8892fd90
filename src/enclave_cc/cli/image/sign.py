"""`enclave-cc image sign`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from enclave_cc.cli.image.files import read
from enclave_cc.cli.image.passwords import password_from
from enclave_cc.cli.image.places import RegistryOptions
from enclave_cc.cli.options import OutputOption
from enclave_cc.cli.output import Output, show, show_json
from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.tenant.places.names import Place, PlaceKind
from enclave_cc.tenant.places.opening import open_reader, open_writer
from enclave_cc.tenant.signing.sign import BOTH_FORMS, SignatureForm, Signer
from enclave_cc.tenant.signing.signing_key import SigningKey

_REGISTRY = RegistryOptions()


class FormChoice(StrEnum):
    """In which form signatures are kept."""

    BOTH = "both"
    TAG = "tag"
    BUNDLE = "bundle"


def sign(
    image: str,
    *,
    key: Annotated[Path, Parameter(help="Private key: PEM, or cosign's encrypted form.")],
    repository: Annotated[
        str, Parameter(help="Name that people pull by, without a tag; a registry's image has one already.")
    ] = "",
    form: Annotated[
        FormChoice, Parameter(help="`tag` as cosign 2 keeps signatures, `bundle` as cosign 3 does.")
    ] = FormChoice.BOTH,
    recursive: Annotated[bool, Parameter(help="Sign an index and each of its images.")] = False,
    password_file: Annotated[
        Path | None, Parameter(help="The key's password; else COSIGN_PASSWORD, else you are asked.")
    ] = None,
    output: OutputOption = Output.TEXT,
    registry: RegistryOptions = _REGISTRY,
) -> None:
    """
    Sign an image where it lies, in a registry or an OCI layout; signatures that are there stay.

    Example: `enclave-cc image sign app.enc --repository registry.example/team/app --key keys/cosign.key`
    """
    _require_keeps_signatures(image)
    name = _repository(image, repository)
    signing_key = SigningKey.load(read(key), password_from(password_file))
    forms = BOTH_FORMS if form is FormChoice.BOTH else {SignatureForm(form.value)}
    with (
        registry.access() as access,
        open_reader(image, access.client) as reader,
        open_writer(image, access.client) as writer,
    ):
        signer = Signer(reader, writer, name, signing_key, forms)
        signed = signer.sign(reader.resolve(), recursive=recursive)
    if output is Output.JSON:
        show_json(
            {
                "signed": [str(digest) for digest in signed],
                "repository": name.name,
                "key": signing_key.public.fingerprint,
            }
        )
        return
    for digest in signed:
        show(f"signed {digest} for {name.name}")


def _require_keeps_signatures(image: str) -> None:
    """Refuse archives: they are written as a whole, and what they held would be gone."""
    kind = Place.parse(image).kind
    if kind not in {PlaceKind.REGISTRY, PlaceKind.LAYOUT}:
        raise InvalidInputError(
            "image-place-invalid",
            "signatures cannot be added here",
            stage=Stage.REQUEST,
            detail=f"{kind}: is written whole; sign elsewhere, then copy with --signatures",
        )


def _repository(image: str, repository: str) -> Reference:
    """Return the name to sign for: the one given, else that of an image in a registry."""
    if repository:
        return Reference.parse(repository, default_tag=None)
    place = Place.parse(image)
    if place.reference is None:
        raise InvalidInputError(
            "repository-missing",
            "nothing says for which name to sign",
            stage=Stage.REQUEST,
            detail=image[:200],
        )
    return place.reference
