"""Who is asking: the appraisal behind a session cookie or a bearer token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from enclave_cc.core.errors import RefusedError
from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.trustee.broker.errors import KbsRefusal

if TYPE_CHECKING:
    from enclave_cc.trustee.appraisal.ear import TokenIssuer, VerifiedToken
    from enclave_cc.trustee.broker.exchange import Exchange
    from enclave_cc.trustee.broker.sessions import SessionTable


@dataclass(frozen=True, slots=True)
class AttestedClient:
    """A verified token, and what its appraisal held against the enclave."""

    token: VerifiedToken
    failed: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class ClientRecognition:
    """Finds the attested client of a request."""

    sessions: SessionTable
    issuer: TokenIssuer

    def require(self, exchange: Exchange) -> AttestedClient:
        """Return the client: its session first, else its bearer token; raise ``KbsRefusal`` for strangers."""
        session = self.sessions.find(exchange.session_id)
        if session is not None and session.appraisal is not None:
            failed = (item for item in session.appraisal.findings if item.outcome is Outcome.FAILED)
            return AttestedClient(self._verify(session.appraisal.token), tuple(failed))
        if not exchange.bearer:
            raise KbsRefusal("TokenNotFound", code="token-missing", recorded=False)
        token = self._verify(exchange.bearer)
        return AttestedClient(token, _vector_findings(token))

    def _verify(self, token: str) -> VerifiedToken:
        try:
            return self.issuer.verify(token)
        except RefusedError as error:
            raise KbsRefusal.of(error, "TokenVerifierError") from error


def _vector_findings(token: VerifiedToken) -> tuple[Finding, ...]:
    """Name the trust vector of a token whose appraisal happened elsewhere."""
    return tuple(
        Finding(f"trust-vector.{name}", Outcome.SKIPPED, "(judged by the resource policy)", str(value))
        for name, value in token.trust_vector.items()
    )
