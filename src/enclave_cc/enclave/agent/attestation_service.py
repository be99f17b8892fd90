"""
The agent's side of local attestation: one handshake per connection, then reports from the app enclave.

The handshake itself is ``formats.local_attestation``; this module ties it to connections and to the keys that
wait, limits how many are open, and forwards what goes wrong to the owner.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from enclave_cc.core.errors import EnclaveCcError, InvalidInputError, RefusedError, Stage, UnavailableError
from enclave_cc.core.request_id import fresh_request_id
from enclave_cc.enclave.app_report import LaunchReport, Violation, parse_report
from enclave_cc.formats.local_attestation import AgentHandshake, AppPolicy, Release

if TYPE_CHECKING:
    from collections.abc import Callable

    from enclave_cc.enclave.agent.event_log import EventLog
    from enclave_cc.enclave.agent.release import PendingRelease, PendingReleases
    from enclave_cc.enclave.agent.reporting import Reporter
    from enclave_cc.enclave.agent.started import StartedContainers
    from enclave_cc.formats.local_attestation.port import Reporter as Processor
    from enclave_cc.transport.ttrpc_server import CallContext

# A handshake takes a millisecond; whoever opens more connections than this at once is not an app enclave.
MAX_HANDSHAKES: Final = 64
# A container reports its start once and each violation once.
MAX_REPORTS_PER_CONNECTION: Final = 64


@dataclass(slots=True)
class _Session:
    """One connection: its handshake, and after that the container it proved to be."""

    handshake: AgentHandshake
    release: PendingRelease | None = None
    request_id: str = ""
    reports: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class AttestationService:
    """Handlers of ``enclavecc.attestation.v3.LocalAttestation``."""

    def __init__(
        self,
        processor: Processor,
        releases: PendingReleases,
        started: StartedContainers,
        reporter: Reporter,
        log: EventLog,
        *,
        pod_uid: str,
        app_measurement: bytes,
        clock: Callable[[], float],
    ) -> None:
        self._processor = processor
        self._releases = releases
        self._started = started
        self._reporter = reporter
        self._log = log
        self._pod_uid = pod_uid
        self._policy = AppPolicy(mr_enclaves=frozenset({app_measurement}))
        self._clock = clock
        self._sessions: dict[int, _Session] = {}
        self._lock = threading.Lock()

    def hello(self, request: dict[str, Any], context: CallContext) -> dict[str, Any]:
        """Answer M1 with M2; one handshake per connection."""
        token = self._releases.newest_token().encode()
        session = _Session(AgentHandshake(self._processor, self._lookup, token))
        with self._lock:
            if context.connection in self._sessions:
                raise _refused("one handshake per connection")
            if sum(other.release is None for other in self._sessions.values()) >= MAX_HANDSHAKES:
                raise UnavailableError(
                    "too-many-handshakes", "too many handshakes are open", stage=Stage.LOCAL_ATTESTATION
                )
            self._sessions[context.connection] = session
        context.when_closed(lambda: self._forget(context.connection))
        try:
            with session.lock:
                return {"message": session.handshake.reply(request["message"], now=self._clock())}
        except EnclaveCcError as error:
            self._refuse(session, error)
            raise

    def prove(self, request: dict[str, Any], context: CallContext) -> dict[str, Any]:
        """Answer M3 with M4: the key leaves here, and only here."""
        session = self._session(context)
        try:
            with session.lock:
                answer = session.handshake.release(
                    request["message"], lambda: self._take(session), now=self._clock()
                )
        except EnclaveCcError as error:
            self._refuse(session, error)
            raise
        finally:
            if session.release is not None:
                session.release.wipe()
        self._log.event("released", request=session.request_id, container=session.handshake.container_id)
        return {"message": answer}

    def report(self, request: dict[str, Any], context: CallContext) -> dict[str, Any]:
        """Take a sealed report of a container that proved itself on this connection."""
        session = self._session(context)
        with session.lock:
            session.reports += 1
            if session.reports > MAX_REPORTS_PER_CONNECTION:
                raise _refused("too many reports")
            message = session.handshake.open_report(request["message"])
        match parse_report(message):
            case LaunchReport(user):
                self._started.started(session.handshake.container_id, user)
                self._log.event(
                    "started", request=session.request_id, container=session.handshake.container_id
                )
            case Violation(code, stage, summary, findings):
                error = RefusedError(code, summary, stage=stage, findings=findings)
                self._reporter.refused(session.request_id, error)
        return {}

    def _lookup(self, pod_uid: str, container_id: str) -> AppPolicy | None:
        """Serve this pod's containers whose key waits, and nobody else."""
        if pod_uid != self._pod_uid or not self._releases.waits(container_id):
            return None
        return self._policy

    def _take(self, session: _Session) -> Release:
        release = self._releases.take(session.handshake.container_id)
        session.release, session.request_id = release, release.request_id
        return Release(release.fdk, release.manifest_sha256, release.launch.to_bytes())

    def _session(self, context: CallContext) -> _Session:
        with self._lock:
            session = self._sessions.get(context.connection)
        if session is None:
            raise InvalidInputError(
                "local-attestation-refused", "no handshake on this connection", stage=Stage.LOCAL_ATTESTATION
            )
        return session

    def _refuse(self, session: _Session, error: EnclaveCcError) -> None:
        """Tell the owner under the container's request where it is known, else under a fresh id."""
        container_id = session.handshake.container_id
        request_id = session.request_id or self._releases.request_of(container_id) or fresh_request_id()
        self._reporter.refused(request_id, error)

    def _forget(self, connection: int) -> None:
        with self._lock:
            self._sessions.pop(connection, None)


def _refused(reason: str) -> RefusedError:
    return RefusedError(
        "local-attestation-refused",
        "the local attestation handshake was refused",
        stage=Stage.LOCAL_ATTESTATION,
        detail=reason,
    )
