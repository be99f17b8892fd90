"""One HTTP request and its answer as values: what the routes see of HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from enclave_cc.core.request_id import RequestId
    from enclave_cc.trustee.broker.sessions import SessionCookie

JSON: Final = "application/json"
OPAQUE: Final = "text/xml"


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request below ``/kbs/v0/``; ``segments`` are the path's, body and headers are bounded."""

    method: str
    segments: tuple[str, ...]
    query: Mapping[str, str]
    body: bytes
    session_id: str
    bearer: str
    request_id: RequestId

    @property
    def rest(self) -> str:
        """Return the path after its first segment."""
        return "/".join(self.segments[1:])


@dataclass(frozen=True, slots=True)
class Reply:
    """A success; failures are raised."""

    body: bytes = b""
    content_type: str = JSON
    cookie: SessionCookie | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """A handler, and the protocol's word for everything that goes wrong in it."""

    handle: Callable[[Exchange], Reply]
    failure: str
