"""The app enclave's side: asks for its key, after it made sure whom it asks.

An attacker's "agent" that hands out a key of its choice would run its own file system under this enclave's
identity, so the agent is checked as strictly as the app: its REPORT, its owner's initdata, and the
broker's token.
"""

from __future__ import annotations

import hmac
import os
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from enclave_cc.core.errors import InvalidInputError, RefusedError, Stage
from enclave_cc.formats.local_attestation import keys, transcript
from enclave_cc.formats.local_attestation.policy import PeerPolicy
from enclave_cc.formats.local_attestation.port import refused
from enclave_cc.formats.local_attestation.release import Release
from enclave_cc.formats.sgx.report import TargetInfo, verify_report
from enclave_cc.formats.sgx.structure import InvalidStructureError

if TYPE_CHECKING:
    from collections.abc import Callable

    from enclave_cc.formats.local_attestation.port import RandomSource, Reporter
    from enclave_cc.formats.sgx.report import Report, ReportBody


class AppHandshake:
    """One handshake, one attempt: `hello`, `prove`, `open`, then any number of `report`."""

    def __init__(
        self,
        processor: Reporter,
        pod_uid: str,
        container_id: str,
        verify_token: Callable[[bytes, ReportBody], None],
        *,
        random: RandomSource = os.urandom,
    ) -> None:
        """`verify_token` gets the agent's token and identity; it raises if the broker does not vouch."""
        self._processor = processor
        self._names = (pod_uid, container_id)
        self._verify_token = verify_token
        self._random = random
        self._identity = processor.identity()
        self._private: X25519PrivateKey | None = None
        self._hello = b""
        self._session: keys.Boxes | None = None
        self._opened = False

    def hello(self) -> bytes:
        """Return M1."""
        if self._hello:
            raise refused("hello: sent already")
        self._private = X25519PrivateKey.from_private_bytes(self._random(transcript.SHARE_BYTES))
        self._hello = transcript.Hello(
            nonce=self._random(transcript.NONCE_BYTES),
            share=self._private.public_key().public_bytes_raw(),
            target=TargetInfo.of(self._identity),
            pod_uid=self._names[0],
            container_id=self._names[1],
        ).pack()
        return self._hello

    def prove(self, message: bytes) -> bytes:
        """Check M2 and return M3; RefusedError `agent-identity-refused` or `agent-token-refused`."""
        private, self._private = self._private, None
        if private is None:
            raise refused("prove: no hello, or tried already")
        covered, report_bytes = transcript.split_reply(message)
        th1 = transcript.digest(b"th1", self._hello, covered)
        report = transcript.parse_report(report_bytes)
        self._verify_agent(report, th1)
        reply = transcript.HelloReply.parse(covered)
        self._check_token(reply.token, report.body)
        secret = keys.agree(private, reply.share, th1)
        th2 = transcript.digest(b"th2", th1, report_bytes)
        own = self._processor.report(TargetInfo.of(report.body), transcript.report_data(b"app report", th2))
        proof = keys.boxes(secret, b"handshake", th2).from_app.seal(own.pack())
        self._session = keys.boxes(secret, b"session", transcript.digest(b"th3", th2, proof))
        secret.wipe()
        return proof

    def open(self, message: bytes) -> Release:
        """Open M4."""
        if self._session is None or self._opened:
            raise refused("open: no proof, or opened already")
        self._opened = True
        transcript.bounded(message)
        return Release.take(self._session.from_agent.open(message))

    def report(self, payload: bytes) -> bytes:
        """Seal a message for the agent (how the launch went)."""
        if self._session is None or not self._opened:
            raise refused("report: no session")
        return self._session.from_app.seal(payload)

    def _verify_agent(self, report: Report, th1: bytes) -> None:
        """MAC first: before it, nothing in the REPORT counts. Then transcript, then identity."""
        try:
            verify_report(report, self._processor.report_key(report.key_id))
        except InvalidStructureError as error:
            raise _agent_refused(str(error)) from error
        expected = transcript.report_data(b"agent report", th1)
        if not hmac.compare_digest(expected, report.body.report_data):
            raise _agent_refused("report: about another handshake")
        policy = PeerPolicy.for_agent(initdata_digest=self._processor.measured_initdata(), app=self._identity)
        policy.evaluate(report.body).require(
            "agent-identity-refused", "the agent enclave was refused", stage=Stage.LOCAL_ATTESTATION
        )

    def _check_token(self, token: bytes, agent: ReportBody) -> None:
        try:
            self._verify_token(token, agent)
        except (RefusedError, InvalidInputError, ValueError) as error:
            findings = () if isinstance(error, ValueError) else error.findings
            raise RefusedError(
                "agent-token-refused",
                "the agent enclave's token was refused",
                stage=Stage.LOCAL_ATTESTATION,
                detail=str(error),
                findings=findings,
            ) from error


def _agent_refused(reason: str) -> RefusedError:
    return RefusedError(
        "agent-identity-refused",
        "the agent enclave was refused",
        stage=Stage.LOCAL_ATTESTATION,
        detail=reason,
    )
