"""`enclave-cc image inspect`."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Parameter

from enclave_cc.cli.image.options import PlatformOption
from enclave_cc.cli.image.places import RegistryOptions, reading
from enclave_cc.cli.image.policy_options import NameOption, PolicyOptions, reference_for
from enclave_cc.cli.options import OutputOption
from enclave_cc.cli.output import Output, show, show_json, show_table
from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.tenant.inspect import inspect as inspect_place
from enclave_cc.tenant.places.as_registry import PlaceAsRegistry
from enclave_cc.tenant.platforms import parse_platform
from enclave_cc.tenant.signing.verify import ask

if TYPE_CHECKING:
    from enclave_cc.tenant.inspect import ImageReport, Inspection
    from enclave_cc.tenant.places.ports import ImageReader
    from enclave_cc.tenant.signing.signature_list import SignatureReport
    from enclave_cc.tenant.signing.verify import Answer

_NO: Final = 1
_NO_POLICY: Final = PolicyOptions()
_REGISTRY: Final = RegistryOptions()
_SHORT_CHARS: Final = 19
# Without a policy nothing depends on the name that an image in a file is asked for by.
_NOBODY: Final = Reference("localhost", "image", "latest")


class Requirement(StrEnum):
    """What can be required of an image."""

    ENCRYPTED = "encrypted"
    SIGNED = "signed"


def inspect(
    image: str,
    *,
    platform: PlatformOption = (),
    require: Annotated[
        str,
        Parameter(help="`encrypted`, `signed` or `encrypted,signed`: exit status 1 if it is not so."),
    ] = "",
    options: PolicyOptions = _NO_POLICY,
    name: NameOption = "",
    output: OutputOption = Output.TEXT,
    registry: RegistryOptions = _REGISTRY,
) -> int:
    """
    Show of each layer whether it is encrypted and for whom, and of each signature whose it is.

    With --policy or --key, also whether an enclave with that policy would accept the image; the exit status
    is 1 if it would not. Without them, signatures are counted and not verified.

    Example: `enclave-cc image inspect registry.example/team/app:v1 --require encrypted,signed`
    """
    required = _requirements(require)
    asked = reference_for(image, name) if options.given else _NOBODY
    with reading(image, registry) as reader:
        found = inspect_place(
            reader, asked, platforms=tuple(map(parse_platform, platform)), keys=options.public_keys()
        )
        answers = _answers(reader, asked, found, options, registry) if options.given else ()
    missing = _missing(found, required)
    if output is Output.JSON:
        members = {"image": image, **found.to_json(), "missing": [str(each) for each in missing]}
        show_json({**members, "answers": [answer.to_json() for answer in answers]})
    else:
        _show(image, found, answers, missing)
    return _NO if missing or not all(answer.accepted for answer in answers) else 0


def _requirements(text: str) -> tuple[Requirement, ...]:
    try:
        return tuple(Requirement(word) for word in text.split(",") if word)
    except ValueError as error:
        raise InvalidInputError(
            "requirement-unknown", "this cannot be required", stage=Stage.REQUEST, detail=text[:200]
        ) from error


def _missing(found: Inspection, required: tuple[Requirement, ...]) -> tuple[Requirement, ...]:
    true = {Requirement.ENCRYPTED: found.encrypted, Requirement.SIGNED: found.signed}
    return tuple(requirement for requirement in required if not true[requirement])


def _answers(
    reader: ImageReader,
    asked: Reference,
    found: Inspection,
    options: PolicyOptions,
    registry: RegistryOptions,
) -> tuple[Answer, ...]:
    policy, resources = options.read_policy(), options.resources()
    store = options.signature_store(registry.insecure_http)
    return tuple(
        ask(
            asked,
            registry=PlaceAsRegistry(reader),
            resources=resources,
            policy=policy,
            signature_store=store,
            platform=image.platform,
        )
        for image in found.images
    )


def _show(
    image: str, found: Inspection, answers: tuple[Answer, ...], missing: tuple[Requirement, ...]
) -> None:
    show(f"image {image}")
    show(f"digest {found.descriptor.digest}")
    if found.descriptor.digest not in {each.digest for each in found.images}:
        _show_signatures(found.index_signatures)
    for number, each in enumerate(found.images):
        _show_image(each)
        if number < len(answers):
            answer = answers[number]
            verdict = "accepted" if answer.accepted else f"REFUSED: {answer.summary} [{answer.code}]"
            show(f"  policy: {verdict}")
    for requirement in missing:
        show(f"NOT {requirement}")


def _show_image(image: ImageReport) -> None:
    show(f"\n{image.platform} {image.digest}")
    rows = [
        (
            f"  {str(layer.digest)[:_SHORT_CHARS]}",
            str(layer.size),
            "yes" if layer.encrypted else "NO",
            " ".join(layer.key_ids) or "-",
        )
        for layer in image.layers
    ]
    show_table(("  layer", "bytes", "encrypted", "keys"), rows)
    _show_signatures(image.signatures)


def _show_signatures(signatures: tuple[SignatureReport, ...]) -> None:
    show(f"  signatures: {len(signatures)}")
    for signature in signatures:
        signer = f"by {signature.key}" if signature.key else "not verified"
        names = f" for {', '.join(signature.names)}" if signature.names else ""
        show(f"    {signature.form}, {signer}{names}")
