"""Progress of a preparation for the host's log: a line when a stage begins, and one every few seconds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from enclave_cc.enclave.agent.event_log import EventLog
    from enclave_cc.enclave.agent.prepare import PrepareRequest
    from enclave_cc.image.layers.progress import Progress

EVERY_S: Final = 5.0


class ProgressLog:
    """Sizes and counts only, which the host can see anyway: it carries the bytes."""

    def __init__(
        self,
        log: EventLog,
        request: PrepareRequest,
        progress: Progress,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._request = request
        self._progress = progress
        self._clock = clock
        self._stage = ""
        self._due_s = 0.0

    def look(self) -> None:
        """Write a line if it is time; to be called a few times per second."""
        seen = self._progress.snapshot()
        if seen.stage == self._stage and self._clock() < self._due_s:
            return
        self._stage, self._due_s = str(seen.stage), self._clock() + EVERY_S
        self._log.event(
            "progress",
            request=self._request.request_id,
            container=self._request.container_id,
            stage=str(seen.stage),
            layers=seen.layers,
            finished_layers=seen.finished_layers,
            reused_layers=seen.reused_layers,
            arrived_bytes=seen.arrived_bytes,
            total_bytes=seen.total_bytes,
        )
