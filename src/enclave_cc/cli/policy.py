"""`enclave-cc policy`: who may have which secret, and what evidence is good enough."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from cyclopts import App

from enclave_cc.cli.options import DEFAULT_ADMIN, AdminOption
from enclave_cc.cli.output import show
from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.trustee.admin_access import AdminAccess

app = App(name="policy", help="Set and show the broker's policies.")


class PolicyKind(StrEnum):
    """The two policies of a broker."""

    RESOURCE = "resource"
    ATTESTATION = "attestation"


_IDS = {PolicyKind.RESOURCE: "resource-policy", PolicyKind.ATTESTATION: "default_cpu"}


@app.command(name="set")
def set_policy(kind: PolicyKind, file: Path, *, admin: AdminOption = DEFAULT_ADMIN) -> None:
    """
    Put the Rego policy in FILE into force; one that does not compile is refused.

    Example: `enclave-cc policy set resource release.rego`
    """
    try:
        rego = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        detail = f"{file}: {error}"
        raise InvalidInputError(
            "file-unusable", "a file cannot be used", stage=Stage.CONFIG, detail=detail
        ) from error
    with AdminAccess.read(admin).client() as client:
        if kind is PolicyKind.RESOURCE:
            client.set_resource_policy(rego)
        else:
            client.set_attestation_policy(rego)
    show(f"the {kind} policy is in force")


@app.command(name="show")
def show_policy(kind: PolicyKind, *, admin: AdminOption = DEFAULT_ADMIN) -> None:
    """
    Print the policy in force.

    Example: `enclave-cc policy show resource`
    """
    with AdminAccess.read(admin).client() as client:
        show(client.get_policy(_IDS[kind]))
