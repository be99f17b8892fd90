"""
The policies in force: the owner's where one was set, ours otherwise.

Ours are not copied into the store, so that a newer release brings its newer defaults.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from importlib import resources
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.trustee.stores.port import Namespace

if TYPE_CHECKING:
    from enclave_cc.trustee.policy.engine import PolicyEngine
    from enclave_cc.trustee.stores.port import Store

# The longest policy known to us has 300 lines and 10 KiB.
_MAX_POLICY_BYTES: Final = 256 << 10
_PACKAGE: Final = re.compile(r"^\s*package\s+policy\s*(#.*)?$", re.MULTILINE)


class PolicyId(StrEnum):
    """The policies that are evaluated; there are no others to set."""

    RESOURCE = "resource-policy"
    ATTESTATION_CPU = "default_cpu"


# Where each is kept, and which file holds until then.
_PLACES: Final = {
    PolicyId.RESOURCE: (Namespace.POLICY, "resource-policy.rego", "resource.rego"),
    PolicyId.ATTESTATION_CPU: (Namespace.ATTESTATION_POLICY, "default_cpu.rego", "attestation_cpu.rego"),
}


def parse_policy_id(text: str) -> PolicyId:
    """Accept the name of a policy that takes effect; raise ``InvalidInputError`` for others."""
    if text not in set(PolicyId):
        raise InvalidInputError(
            "policy-unknown",
            "there is no such policy",
            stage=Stage.POLICY,
            detail=f"{text[:100]!r} is never evaluated",
        )
    return PolicyId(text)


def default_text(file: str) -> str:
    """Return the text of a policy that comes with the program."""
    return resources.files("enclave_cc.trustee.policy.defaults").joinpath(file).read_text(encoding="utf-8")


@dataclass(frozen=True, slots=True)
class PolicyLibrary:
    """The policies in a store, compiled once when they are set to see that they do."""

    store: Store
    engine: PolicyEngine

    def text(self, policy: PolicyId) -> str:
        """Return the text that is in force."""
        namespace, key, file = _PLACES[policy]
        stored = self.store.get(namespace, key)
        return default_text(file) if stored is None else stored.decode()

    def set(self, policy: PolicyId, text: str) -> None:
        """Check a policy and put it into force."""
        self.put(policy, self.checked(text))

    def checked(self, text: str) -> bytes:
        """Return a policy that may be put into force; raise ``InvalidInputError`` (``policy-invalid``)."""
        try:
            body = text.encode()
        except UnicodeEncodeError as error:
            raise _invalid("not UTF-8") from error
        if not body.strip() or len(body) > _MAX_POLICY_BYTES or "\0" in text:
            raise _invalid("empty, too long, or not text")
        if not _PACKAGE.search(text):
            raise _invalid("it is not of package `policy`, the only one that is evaluated")
        self.engine.check(text)
        return body

    def put(self, policy: PolicyId, body: bytes) -> None:
        """Put a policy into force that ``checked`` returned."""
        namespace, key, _ = _PLACES[policy]
        self.store.put(namespace, key, body)


def _invalid(detail: str) -> InvalidInputError:
    return InvalidInputError(
        "policy-invalid", "the policy does not compile", stage=Stage.POLICY, detail=detail
    )
