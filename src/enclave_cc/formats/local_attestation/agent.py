"""The agent enclave's side: releases one container's key, once, to the app enclave of that container.

A handshake belongs to one connection; the caller drops it with the connection and limits how many are open.
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from enclave_cc.core.errors import RefusedError, Stage
from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.formats.framing import lp
from enclave_cc.formats.local_attestation import keys, transcript
from enclave_cc.formats.local_attestation.policy import PeerPolicy
from enclave_cc.formats.local_attestation.port import refused
from enclave_cc.formats.sgx.report import verify_report
from enclave_cc.formats.sgx.structure import InvalidStructureError

if TYPE_CHECKING:
    from collections.abc import Callable

    from enclave_cc.core.secret import Secret
    from enclave_cc.formats.local_attestation.policy import AppPolicy
    from enclave_cc.formats.local_attestation.port import RandomSource, Reporter
    from enclave_cc.formats.local_attestation.release import Release
    from enclave_cc.formats.sgx.report import Report

# Both sides need less than a millisecond; the rest is for a machine under load.
HANDSHAKE_LIFETIME_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class _Pending:
    """Between M2 and M3."""

    secret: Secret
    transcript: bytes
    policy: PeerPolicy
    expires: float


class AgentHandshake:
    """One handshake, one attempt: `reply`, `release`, then any number of `open_report`.

    `lookup` maps pod and container to what is asked of their app enclave, None if the agent serves no such
    container.
    """

    def __init__(
        self,
        processor: Reporter,
        lookup: Callable[[str, str], AppPolicy | None],
        token: bytes,
        *,
        random: RandomSource = os.urandom,
    ) -> None:
        self._processor = processor
        self._lookup = lookup
        self._token = token
        self._random = random
        self._started = False
        self._pending: _Pending | None = None
        self._session: keys.Boxes | None = None
        self.pod_uid = ""
        self.container_id = ""

    def reply(self, message: bytes, *, now: float) -> bytes:
        """Read M1 and return M2; `now` is a monotonic time in seconds."""
        if self._started:
            raise refused("hello: one attempt each")
        self._started = True
        hello = transcript.Hello.parse(message)
        identity = self._processor.identity()
        app_policy = self._lookup(hello.pod_uid, hello.container_id)
        if app_policy is None:
            raise _app_refused("the agent serves no such container", f"{hello.pod_uid}/{hello.container_id}")
        policy = PeerPolicy.for_app(
            app_policy, pod_uid=hello.pod_uid, container_id=hello.container_id, agent=identity
        )
        self.pod_uid, self.container_id = hello.pod_uid, hello.container_id
        private = X25519PrivateKey.from_private_bytes(self._random(transcript.SHARE_BYTES))
        covered = transcript.HelloReply(
            nonce=self._random(transcript.NONCE_BYTES),
            session=self._random(transcript.SESSION_BYTES),
            share=private.public_key().public_bytes_raw(),
            token=self._token,
        ).pack()
        th1 = transcript.digest(b"th1", message, covered)
        secret = keys.agree(private, hello.share, th1)
        report = self._processor.report(hello.target, transcript.report_data(b"agent report", th1)).pack()
        th2 = transcript.digest(b"th2", th1, report)
        self._pending = _Pending(secret, th2, policy, now + HANDSHAKE_LIFETIME_S)
        return lp(covered, report)

    def release(self, message: bytes, release: Callable[[], Release], *, now: float) -> bytes:
        """Check M3 and return M4; `release` is called only after every check passed."""
        pending, self._pending = self._pending, None
        if pending is None:
            raise refused("prove: no hello, or tried already")
        try:
            return self._release(pending, message, release, now)
        finally:
            pending.secret.wipe()

    def open_report(self, frame: bytes) -> bytes:
        """Open what the app sealed with `report`."""
        if self._session is None:
            raise refused("report: no session")
        transcript.bounded(frame)
        return bytes(self._session.from_app.open(frame))

    def _release(
        self, pending: _Pending, message: bytes, release: Callable[[], Release], now: float
    ) -> bytes:
        if now > pending.expires:
            raise refused("prove: the handshake has expired")
        transcript.bounded(message)
        opened = keys.boxes(pending.secret, b"handshake", pending.transcript).from_app.open(message)
        self._verify_app(transcript.parse_report(bytes(opened)), pending)
        th3 = transcript.digest(b"th3", pending.transcript, message)
        self._session = keys.boxes(pending.secret, b"session", th3)
        buffer = release().pack()
        try:
            return self._session.from_agent.seal(buffer)
        finally:
            buffer[:] = bytes(len(buffer))

    def _verify_app(self, report: Report, pending: _Pending) -> None:
        """MAC first: before it, nothing in the REPORT counts. Then transcript, then identity."""
        try:
            verify_report(report, self._processor.report_key(report.key_id))
        except InvalidStructureError as error:
            raise _app_refused("REPORT is for this enclave, from this processor", str(error)) from error
        expected = transcript.report_data(b"app report", pending.transcript)
        if not hmac.compare_digest(expected, report.body.report_data):
            raise _app_refused("REPORT is about this handshake", report.body.report_data.hex())
        pending.policy.evaluate(report.body).require(
            "app-identity-refused", "the app enclave was refused", stage=Stage.LOCAL_ATTESTATION
        )


def _app_refused(rule: str, actual: str) -> RefusedError:
    return RefusedError(
        "app-identity-refused",
        "the app enclave was refused",
        stage=Stage.LOCAL_ATTESTATION,
        detail=rule,
        findings=(Finding(rule, Outcome.FAILED, actual=actual),),
    )
