"""`enclave-cc image verify`."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from enclave_cc.cli.image.places import RegistryOptions, reading
from enclave_cc.cli.image.policy_options import NameOption, PolicyOptions, reference_for
from enclave_cc.cli.options import OutputOption
from enclave_cc.cli.output import Output, show, show_json, show_table
from enclave_cc.tenant.places.as_registry import PlaceAsRegistry
from enclave_cc.tenant.platforms import parse_platform
from enclave_cc.tenant.signing.verify import Answer, ask

_REFUSED = 1
_REGISTRY = RegistryOptions()


def verify(
    image: str,
    *,
    options: PolicyOptions | None = None,
    name: NameOption = "",
    require_encrypted: Annotated[bool, Parameter(help="Refuse a layer that is not encrypted.")] = False,
    platform: Annotated[str, Parameter(help="Whose image of an index.")] = "linux/amd64",
    output: OutputOption = Output.TEXT,
    registry: RegistryOptions = _REGISTRY,
) -> int:
    """
    Say whether an enclave with this policy would accept the image: its own code answers.

    Exit status 1 and a table of what was checked when the answer is no.

    Example: `enclave-cc image verify registry.example/team/app:v1 --key keys/cosign.pub`
    """
    options = options or PolicyOptions()
    policy, resources = options.read_policy(), options.resources()
    reference = reference_for(image, name)
    with reading(image, registry) as reader:
        answer = ask(
            reference,
            registry=PlaceAsRegistry(reader),
            resources=resources,
            policy=policy,
            signature_store=options.signature_store(registry.insecure_http),
            require_encrypted=require_encrypted,
            platform=parse_platform(platform),
        )
    if output is Output.JSON:
        show_json(answer.to_json())
    else:
        show_answer(answer)
    return 0 if answer.accepted else _REFUSED


def show_answer(answer: Answer) -> None:
    """Print the verdict and what was checked."""
    verdict = "accepted" if answer.accepted else f"REFUSED: {answer.summary} [{answer.code}]"
    show(f"{answer.reference}: {verdict}")
    rows = [
        (finding.rule, str(finding.outcome), finding.expected, finding.actual) for finding in answer.findings
    ]
    show_table(("rule", "outcome", "expected", "found"), rows)
    if not answer.accepted:
        show(f"what to do: {answer.remedy}")
