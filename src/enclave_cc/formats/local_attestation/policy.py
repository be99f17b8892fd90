"""Which enclave is accepted as the peer; every rule is evaluated and leaves a finding with both values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enclave_cc.core.findings import Finding, Outcome, equal, member
from enclave_cc.core.verdict import Verdict
from enclave_cc.formats.local_attestation.identity import (
    AGENT_PRODUCT_ID,
    APP_PRODUCT_ID,
    app_config_id,
    initdata_config_id,
)
from enclave_cc.formats.sgx.report import Attribute

if TYPE_CHECKING:
    from enclave_cc.formats.sgx.report import ReportBody

# An enclave that may derive provisioning or launch keys has no business here.
_PRIVILEGED: Final = Attribute.PROVISION_KEY | Attribute.EINITTOKEN_KEY
_REQUIRED: Final = Attribute.INIT | Attribute.MODE64


@dataclass(frozen=True, slots=True)
class AppPolicy:
    """What the agent asks of an app enclave beside its container's CONFIGID; an empty set accepts none."""

    mr_enclaves: frozenset[bytes]
    min_isv_svn: int = 0


@dataclass(frozen=True, slots=True)
class PeerPolicy:
    """Rules for one peer; `mr_enclaves` None: another rule (the agent's token) decides the measurement."""

    mr_enclaves: frozenset[bytes] | None
    product_id: int
    config_id: bytes
    min_isv_svn: int
    allow_debug: bool

    @classmethod
    def for_app(cls, policy: AppPolicy, *, pod_uid: str, container_id: str, agent: ReportBody) -> PeerPolicy:
        """Say what an agent asks of the app enclave of one container."""
        config_id = app_config_id(pod_uid, container_id)
        return cls(policy.mr_enclaves, APP_PRODUCT_ID, config_id, policy.min_isv_svn, agent.debug)

    @classmethod
    def for_agent(cls, *, initdata_digest: bytes, app: ReportBody) -> PeerPolicy:
        """Say what an app asks of an agent: same owner's initdata, same honesty about DEBUG."""
        return cls(None, AGENT_PRODUCT_ID, initdata_config_id(initdata_digest), 0, app.debug)

    def evaluate(self, body: ReportBody) -> Verdict:
        """Evaluate every rule, also after one failed."""
        findings = [
            equal("ISVPRODID", expected=str(self.product_id), actual=str(body.isv_prod_id)),
            equal("CONFIGID", expected=self.config_id.hex(), actual=body.config_id.hex()),
            _rule(
                "ISVSVN", f"at least {self.min_isv_svn}", str(body.isv_svn), body.isv_svn >= self.min_isv_svn
            ),
            _rule(
                "DEBUG",
                "allowed" if self.allow_debug else "no",
                _yes(body.debug),
                self.allow_debug or not body.debug,
            ),
            _rule("INIT and MODE64", "yes", _yes(_has_all(body)), _has_all(body)),
            _rule(
                "privileged attributes",
                "no",
                _yes(bool(body.flags & _PRIVILEGED)),
                not body.flags & _PRIVILEGED,
            ),
        ]
        if self.mr_enclaves is not None:
            allowed = {measurement.hex() for measurement in self.mr_enclaves}
            findings.insert(0, member("MRENCLAVE", allowed=allowed, actual=body.mr_enclave.hex()))
        return Verdict(tuple(findings))


def _rule(rule: str, expected: str, actual: str, holds: bool) -> Finding:  # noqa: FBT001 - evaluated by the caller
    return Finding(rule, Outcome.PASSED if holds else Outcome.FAILED, expected, actual)


def _yes(value: bool) -> str:  # noqa: FBT001 - the value is what is shown
    return "yes" if value else "no"


def _has_all(body: ReportBody) -> bool:
    return body.flags & _REQUIRED == _REQUIRED
