"""`enclave-cc image verify`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from enclave_cc.cli.image.connection import connected
from enclave_cc.cli.image.files import read
from enclave_cc.cli.options import OutputOption, PlainHttpOption
from enclave_cc.cli.output import Output, show, show_json, show_table
from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.formats.kbs.resource_uri import ResourceUri
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.signatures.identity import IdentityRule, SignedIdentity
from enclave_cc.formats.signatures.policy import SignaturePolicy
from enclave_cc.formats.signatures.requirements import KeyTrust, Material, SigstoreSigned
from enclave_cc.tenant.key_files import KeyFiles
from enclave_cc.tenant.places.as_registry import PlaceAsRegistry
from enclave_cc.tenant.places.names import Place
from enclave_cc.tenant.places.opening import open_reader
from enclave_cc.tenant.platforms import parse_platform
from enclave_cc.tenant.verify import Answer, ask

_REFUSED = 1


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class PolicyOptions:
    """What the image is measured against."""

    policy: Annotated[Path | None, Parameter(help="Signature policy (policy.json).")] = None
    key: Annotated[
        tuple[Path, ...], Parameter(help="Public key instead of a policy; any of several will do.")
    ] = ()
    insecure_any_name: Annotated[
        bool, Parameter(help="With --key: accept signatures that name another image or none.")
    ] = False
    resource: Annotated[
        tuple[str, ...], Parameter(help="kbs:///A/B/C=FILE: a file that stands in for a broker's resource.")
    ] = ()


def verify(
    image: str,
    *,
    options: PolicyOptions | None = None,
    name: Annotated[
        str, Parameter(name="--as", help="Reference that people pull by; an image in a registry has one.")
    ] = "",
    require_encrypted: Annotated[bool, Parameter(help="Refuse a layer that is not encrypted.")] = False,
    platform: Annotated[str, Parameter(help="Whose image of an index.")] = "linux/amd64",
    insecure_http: PlainHttpOption = (),
    output: OutputOption = Output.TEXT,
) -> int:
    """
    Say whether an enclave with this policy would accept the image: its own code answers.

    Exit status 1 and a table of what was checked when the answer is no.

    Example: `enclave-cc image verify registry.example/team/app:v1 --key keys/cosign.pub`
    """
    options = options or PolicyOptions()
    policy, resources = _policy(options), KeyFiles(_stand_ins(options.resource))
    reference = _reference(image, name)
    with connected(insecure_http) as connect, open_reader(image, connect) as reader:
        answer = ask(
            reference,
            registry=PlaceAsRegistry(reader),
            resources=resources,
            policy=policy,
            require_encrypted=require_encrypted,
            platform=parse_platform(platform),
        )
    if output is Output.JSON:
        show_json(answer.to_json())
    else:
        _show(answer)
    return 0 if answer.accepted else _REFUSED


def _policy(options: PolicyOptions) -> SignaturePolicy:
    if (options.policy is None) == (not options.key):
        raise InvalidInputError(
            "verify-policy-missing", "nothing says who has to have signed", stage=Stage.CONFIG
        )
    if options.policy is not None:
        return SignaturePolicy.parse(read(options.policy), allow_files=True)
    keys = KeyTrust(tuple(Material(data=read(path)) for path in options.key))
    rule = IdentityRule.INSECURE_ANY_NAME if options.insecure_any_name else SignedIdentity().rule
    return SignaturePolicy((SigstoreSigned(keys, SignedIdentity(rule)),), {})


def _stand_ins(texts: tuple[str, ...]) -> dict[str, Path]:
    pairs = (text.partition("=") for text in texts)
    return {str(ResourceUri.parse(uri)): Path(path) for uri, _, path in pairs}


def _reference(image: str, name: str) -> Reference:
    if name:
        return Reference.parse(name)
    place = Place.parse(image)
    if place.reference is None:
        raise InvalidInputError(
            "repository-missing",
            "nothing says for which name the image is",
            stage=Stage.REQUEST,
            detail=image[:200],
        )
    return place.reference


def _show(answer: Answer) -> None:
    verdict = "accepted" if answer.accepted else f"REFUSED: {answer.summary} [{answer.code}]"
    show(f"{answer.reference}: {verdict}")
    rows = [
        (finding.rule, str(finding.outcome), finding.expected, finding.actual) for finding in answer.findings
    ]
    show_table(("rule", "outcome", "expected", "found"), rows)
    if not answer.accepted:
        show(f"what to do: {answer.remedy}")
