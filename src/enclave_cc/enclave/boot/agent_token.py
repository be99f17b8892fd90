"""
How an app enclave knows its pod's agent: the broker's token about it, under the key pinned in initdata.

A REPORT says that some enclave of this machine answers, with this owner's initdata. Whether that program
is an agent that the owner accepts, only the owner's broker says. Without a broker there are no secrets to
protect, and the product id must do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from enclave_cc.core import strict_json
from enclave_cc.core.errors import RefusedError, Stage
from enclave_cc.core.fields import FieldError, Fields
from enclave_cc.core.findings import Finding, Outcome, equal
from enclave_cc.core.verdict import Verdict
from enclave_cc.formats.jose.base64url import JoseError
from enclave_cc.formats.jose.jws import MAX_TOKEN_CHARS, verify_es256

if TYPE_CHECKING:
    from collections.abc import Callable

    from enclave_cc.formats.owner.settings import OwnerSettings
    from enclave_cc.formats.sgx.report import ReportBody

# RFC 9711 submodule and the claim in which Trustee puts what the evidence said.
_SUBMODULE: Final = "cpu0"
_EVIDENCE: Final = "ear.veraison.annotated-evidence"
_TRUST_VECTOR: Final = "ear.trustworthiness-vector"
# AR4SI, "executables": recognised and approved. A token alone says only that the evidence was genuine.
_AFFIRMED: Final = range(2, 32)


class AgentToken:
    """Checks the token that came with the agent's REPORT."""

    def __init__(self, settings: OwnerSettings, *, tee: str, clock: Callable[[], float]) -> None:
        """``clock`` gives seconds since the epoch."""
        self._settings = settings
        self._tee = tee
        self._clock = clock

    def verify(self, token: bytes, agent: ReportBody) -> None:
        """
        Raise ``RefusedError`` (``agent-token-refused``) unless the broker vouches for exactly this agent.

        (1) ES256 under the pinned key; (2) not expired; (3) the evidence was of this kind of processor;
        (4) and measured what the agent's REPORT says; (5) which the broker knows as a good program.
        """
        if self._settings.broker_url is None:
            return
        claims = self._signed_claims(token)
        try:
            findings = self._findings(claims, agent)
        except FieldError as error:
            raise _refused(str(error)) from error
        Verdict(findings).require(
            "agent-token-refused", "the broker does not vouch for this agent", stage=Stage.LOCAL_ATTESTATION
        )

    def _signed_claims(self, token: bytes) -> Fields:
        try:
            key = load_pem_public_key(self._settings.broker_token_key.encode())
            if not isinstance(key, ec.EllipticCurvePublicKey):
                raise _refused("the pinned key is no elliptic curve key")
            payload = verify_es256(token.decode("ascii"), key).payload
            return Fields(strict_json.loads(payload, max_bytes=MAX_TOKEN_CHARS), "token")
        except (JoseError, ValueError, UnsupportedAlgorithm) as error:
            raise _refused(str(error)) from error

    def _findings(self, claims: Fields, agent: ReportBody) -> tuple[Finding, ...]:
        now, expires = int(self._clock()), claims.integer("exp")
        submodule = claims.object("submods").object(_SUBMODULE)
        evidence = submodule.object(_EVIDENCE)
        executables = submodule.object(_TRUST_VECTOR).integer("executables", default=0)
        body = evidence.object(self._tee).object("body")
        kinds = sorted(name for name in evidence.names() if name == self._tee)
        return (
            Finding(
                "token.expiry",
                Outcome.PASSED if expires > now else Outcome.FAILED,
                f"after {now}",
                str(expires),
                "compare the clocks of broker and node",
            ),
            equal("token.tee", expected=self._tee, actual=" ".join(kinds)),
            equal(
                "token.mr_enclave",
                expected=agent.mr_enclave.hex(),
                actual=body.text("mr_enclave", default=""),
            ),
            Finding(
                "token.executables",
                Outcome.PASSED if executables in _AFFIRMED else Outcome.FAILED,
                f"{_AFFIRMED.start} to {_AFFIRMED.stop - 1} (affirming)",
                str(executables),
                "register the agent's measurement at the broker",
            ),
        )


def _refused(detail: str) -> RefusedError:
    finding = Finding("token.signature", Outcome.FAILED, "a token under the key pinned in initdata", detail)
    return RefusedError(
        "agent-token-refused",
        "the broker does not vouch for this agent",
        stage=Stage.LOCAL_ATTESTATION,
        detail=detail,
        findings=(finding,),
    )
