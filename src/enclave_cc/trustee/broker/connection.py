"""
One client's connection: its request must arrive and its answer must be taken, both in bounded time and size.

The server under it bounds the number of connections and waits for each without end, so that a
handful of strangers who say nothing would keep everybody else out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from enclave_cc.formats.jose.jws import MAX_TOKEN_CHARS

if TYPE_CHECKING:
    import asyncio

# A bearer token, and what clients and proxies put beside it.
MAX_HEAD_BYTES: Final = MAX_TOKEN_CHARS + (64 << 10)
# From the end of an answer, or the connection's begin, to the end of the next request's head.
HEAD_DEADLINE_S: Final = 30.0
# From there to the end of the answer: a body's deadline, an appraisal that fetches collateral, a slow line.
ANSWER_DEADLINE_S: Final = 180.0


class BoundedConnection(HttpToolsProtocol):
    """The server's protocol with deadlines; whoever misses one is cut off."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._deadline: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._in_head = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in the base
        """Expect a request."""
        super().connection_made(transport)
        self._expect_within(HEAD_DEADLINE_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect nothing any more."""
        self._expect_nothing()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Count the bytes of the head from here."""
        self._in_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Expect our own answer."""
        self._in_head = False
        self._expect_within(ANSWER_DEADLINE_S)
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Expect the next request."""
        self._expect_within(HEAD_DEADLINE_S)
        super().on_response_complete()

    def data_received(self, data: bytes) -> None:
        """Take what has arrived, unless it is a head without end."""
        super().data_received(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.transport.abort()

    def _expect_within(self, seconds: float) -> None:
        self._expect_nothing()
        # Closing would wait for a peer that takes nothing.
        self._deadline = self.loop.call_later(seconds, self.transport.abort)

    def _expect_nothing(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
