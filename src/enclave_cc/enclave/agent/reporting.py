"""
Two audiences for every refusal: the host's log gets code, stage and ids; the owner gets the findings.

The findings travel in an attested session to the broker's audit log, under the request's id. Where that
fails the values are dropped, never written where the host reads.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import EnclaveCcError, Stage
from enclave_cc.core.findings import Finding, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from enclave_cc.enclave.agent.broker import BrokerSession
    from enclave_cc.enclave.agent.event_log import EventLog

# A person reads these; the failed ones come first, so a cut loses only what passed.
MAX_FINDINGS: Final = 100
# Half of what a broker takes; foreign texts in a hundred findings could be more than all of it.
MAX_FINDINGS_BYTES: Final = 512 << 10
# Each costs the broker an attestation; a host that provokes more of them gets no further ones.
MAX_SESSIONS_FOR_REPORTS: Final = 256
# How long a refusal waits for a report that needs an attestation of its own; callers give up after 10 s.
PATIENCE_S: Final = 5.0
# A failure to reach or convince the broker cannot be told to the broker; it kept its own record of a refusal.
_OF_THE_BROKER: Final = frozenset({Stage.ATTEST, Stage.BROKER})


class Reporter:
    """Tells both audiences; never raises, because the refusal itself must reach its caller."""

    def __init__(self, open_session: Callable[[str], BrokerSession], log: EventLog) -> None:
        self._open_session = open_session
        self._log = log
        self._sessions = itertools.count(1)

    def refused(self, request_id: str, error: EnclaveCcError, session: BrokerSession | None = None) -> None:
        """Report one refusal, through ``session`` if there is one already."""
        self._log.event("refused", request=request_id, code=error.code, stage=str(error.stage))
        if session is None and error.stage in _OF_THE_BROKER:
            return
        if session is None and next(self._sessions) > MAX_SESSIONS_FOR_REPORTS:
            self._log.event("report-undelivered", request=request_id, code=error.code, stage=str(error.stage))
            return
        if session is not None:
            self._tell(request_id, error, session)
            return
        telling = threading.Thread(target=self._tell, args=(request_id, error, None), daemon=True)
        telling.start()
        telling.join(PATIENCE_S)

    def _tell(self, request_id: str, error: EnclaveCcError, session: BrokerSession | None) -> None:
        try:
            if session is not None:
                session.report(error, _for_the_owner(error))
                return
            with contextlib.closing(self._open_session(request_id)) as own:
                own.report(error, _for_the_owner(error))
        except EnclaveCcError as fault:
            self._log.event("report-undelivered", request=request_id, code=fault.code, stage=str(fault.stage))


def _for_the_owner(error: EnclaveCcError) -> list[Finding]:
    findings = list(
        _fitting(sorted(error.findings, key=lambda finding: finding.outcome is not Outcome.FAILED))
    )
    if not any(finding.outcome is Outcome.FAILED for finding in findings):
        findings.insert(
            0, Finding(error.code, Outcome.FAILED, "", error.detail or error.summary, error.remedy)
        )
    return findings


def _fitting(findings: list[Finding]) -> Iterator[Finding]:
    """Yield as many as one report may hold."""
    room = MAX_FINDINGS_BYTES
    for finding in findings[:MAX_FINDINGS]:
        room -= len(json.dumps(finding.to_json()))
        if room < 0:
            return
        yield finding
