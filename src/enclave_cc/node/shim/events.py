"""
Events to containerd, in the order in which they happened.

containerd may restart while pods run, so an event is tried again for a while; it is dropped
when nobody takes it, and the queue is bounded, because containerd asks for state on its return.
"""

from __future__ import annotations

import time

from enclave_cc.formats.protobuf import encode
from enclave_cc.node.shim.failures import Failure
from enclave_cc.node.shim.log import log
from enclave_cc.node.shim.reactor import DeadlineExceeded
from enclave_cc.node.shim.rpc_client import RpcClient
from enclave_cc.node.shim.task_messages import EVENTS, timestamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final

    from enclave_cc.node.shim.reactor import Reactor
    from enclave_cc.node.shim.task_messages import Event

# As containerd's own shims: 5 s for a call, five attempts with growing pauses.
_CALL_S: Final = 5.0
_ATTEMPTS: Final = 5
# A pod makes a handful of events a second at most; this is minutes of them.
_MAX_QUEUED: Final = 2048


class EventPublisher:
    """Forwards events over one connection that is made again when it breaks."""

    def __init__(self, reactor: Reactor, address: str, namespace: str) -> None:
        self._reactor = reactor
        self._path = address.removeprefix("unix://")
        self._namespace = namespace
        self._queue: list[dict[str, Any]] = []
        self._client: RpcClient | None = None
        self._running = False

    @property
    def idle(self) -> bool:
        """Tell whether everything was delivered or given up."""
        return not self._queue

    def publish(self, event: Event, values: dict[str, Any]) -> None:
        """Queue one event."""
        if not self._path:
            return
        if len(self._queue) >= _MAX_QUEUED:
            log("event-dropped", topic=event.topic, reason="queue full")
            return
        packed = {"type_url": event.type_url, "value": encode(event.schema, values)}
        self._queue.append(
            {
                "timestamp": timestamp(time.time_ns()),
                "namespace": self._namespace,
                "topic": event.topic,
                "event": packed,
            }
        )
        if not self._running:
            self._running = True
            self._reactor.spawn(self._deliver())

    async def _deliver(self) -> None:
        try:
            while self._queue:
                if not await self._delivered(self._queue[0]):
                    log("event-dropped", topic=self._queue[0]["topic"], reason="containerd does not answer")
                self._queue.pop(0)
        finally:
            self._running = False

    async def _delivered(self, envelope: dict[str, Any]) -> bool:
        for attempt in range(_ATTEMPTS):
            if attempt:
                await self._reactor.sleep(attempt)
            try:
                if self._client is None or not self._client.open:
                    self._client = RpcClient(self._reactor, self._path)
                await self._client.call(EVENTS, "Forward", {"envelope": envelope}, _CALL_S)
            except (Failure, DeadlineExceeded, OSError) as error:
                log("event-delayed", topic=envelope["topic"], error=f"{type(error).__name__}: {error}")
            else:
                return True
        return False
