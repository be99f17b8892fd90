"""The handshake: ``POST auth`` hands out a nonce, ``POST attest`` turns evidence into a token."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import EnclaveCcError
from enclave_cc.formats.kbs.messages import (
    VERSION,
    Attestation,
    Challenge,
    KbsMessageError,
    Request,
    TokenReply,
)
from enclave_cc.trustee.audit.log import Event
from enclave_cc.trustee.broker.errors import KbsRefusal
from enclave_cc.trustee.broker.exchange import Reply, Route

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enclave_cc.trustee.appraisal.appraiser import Appraiser
    from enclave_cc.trustee.audit.allowance import Allowance
    from enclave_cc.trustee.audit.log import AuditLog
    from enclave_cc.trustee.broker.exchange import Exchange
    from enclave_cc.trustee.broker.sessions import Session, SessionTable

_FAILURE: Final = "AttestationError"
_AUTH_FAILED: Final = "Attestation error: RCAR handshake Auth failed"


@dataclass(frozen=True, slots=True)
class HandshakeRoutes:
    """Challenges and appraisals."""

    sessions: SessionTable
    appraiser: Appraiser
    audit: AuditLog
    allowance: Allowance

    def routes(self) -> Mapping[tuple[str, str], Route]:
        """Return the routes by method and first segment."""
        return {
            ("POST", "auth"): Route(self.auth, _FAILURE),
            ("POST", "attest"): Route(self.attest, _FAILURE),
        }

    def auth(self, exchange: Exchange) -> Reply:
        """Answer a request of our version, for evidence that we can verify, with a fresh nonce."""
        request = _request(exchange.body)
        try:
            tee = self.appraiser.require_supported(request.tee)
        except EnclaveCcError as error:
            raise KbsRefusal(
                _FAILURE, sentence=_AUTH_FAILED, code=error.code, findings=error.findings
            ) from error
        session = self.sessions.open(tee)
        # A challenge decides nothing, and everybody may ask for one.
        if self.allowance.take():
            self.audit.record(Event.CHALLENGE, exchange.request_id, fields={"tee": tee})
        return Reply(Challenge(session.nonce).to_bytes(), cookie=session.cookie)

    def attest(self, exchange: Exchange) -> Reply:
        """Appraise evidence for a session's nonce, once; an attested session gets its token again."""
        session = self.sessions.find(exchange.session_id)
        if session is not None and session.appraisal is not None:
            return Reply(TokenReply(session.appraisal.token).to_bytes(), cookie=session.cookie)
        session = self.sessions.take(exchange.session_id)
        if session is None:
            raise KbsRefusal(_FAILURE, code="session-unknown", recorded=False)
        return self._appraise(exchange, session)

    def _appraise(self, exchange: Exchange, session: Session) -> Reply:
        try:
            attestation = Attestation.parse(exchange.body)
        except KbsMessageError as error:
            raise KbsRefusal(_FAILURE, code="evidence-malformed", detail=str(error)) from error
        if attestation.nonce != session.nonce:
            raise KbsRefusal(_FAILURE, code="evidence-not-bound", detail="another nonce")
        appraisal = self.appraiser.appraise(session.tee, attestation)
        self.audit.record(
            Event.APPRAISAL,
            exchange.request_id,
            fields={"tee": appraisal.tee, "status": appraisal.status, "enclave": appraisal.measurement},
            findings=appraisal.findings,
        )
        self.sessions.keep(replace(session, appraisal=appraisal))
        return Reply(TokenReply(appraisal.token).to_bytes(), cookie=session.cookie)


def _request(body: bytes) -> Request:
    try:
        request = Request.parse(body)
    except KbsMessageError as error:
        sentence = f"{_AUTH_FAILED}: deserialize Request"
        raise KbsRefusal(_FAILURE, sentence=sentence, detail=str(error), recorded=False) from error
    if request.version != VERSION:
        sentence = f"{_AUTH_FAILED}: KBS Client Protocol Version Mismatch: expect ={VERSION}"
        raise KbsRefusal(_FAILURE, sentence=sentence, code="protocol-version", recorded=False)
    return request
