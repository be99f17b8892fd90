"""
The broker as an ASGI application: one door, through which every request passes the same way.

The body is bounded and has a deadline, the request id is checked or made, the handler runs in a
thread, and whatever happens the answer is the protocol's JSON with the request id. A refusal is
in the audit log before it is sent.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.utils import format_datetime
from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route as HttpRoute

from enclave_cc.core.errors import EnclaveCcError, InvalidInputError
from enclave_cc.core.request_id import RequestId, fresh_request_id, parse_request_id
from enclave_cc.formats.kbs.messages import MAX_MESSAGE_BYTES
from enclave_cc.trustee.audit.log import Event
from enclave_cc.trustee.broker.composition import Broker, compose
from enclave_cc.trustee.broker.errors import KbsRefusal
from enclave_cc.trustee.broker.exchange import JSON, Exchange, Reply
from enclave_cc.trustee.broker.sessions import COOKIE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from enclave_cc.trustee.broker.settings import BrokerSettings

REQUEST_ID_HEADER: Final = "X-Request-ID"
_PREFIX: Final = "/kbs/v0/"
_METHODS: Final = ("GET", "POST", "PUT", "DELETE")
# Slower than any link that could carry an image; faster than patience.
_BODY_DEADLINE_S: Final = 30.0
_TOO_LARGE: Final = 413
_FAULT: Final = 500

_log = logging.getLogger(__name__)


def build_app(settings: BrokerSettings) -> Starlette:
    """Compose the broker that the settings describe; it owns its store until the application shuts down."""
    broker = compose(settings)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(broker.close)

    door = _Door(broker)
    return Starlette(
        routes=[
            HttpRoute("/healthz", _health, methods=["GET"]),
            HttpRoute(_PREFIX + "{path:path}", door.answer, methods=list(_METHODS)),
        ],
        exception_handlers={HTTPException: _not_routed},
        lifespan=lifespan,
    )


@dataclass(frozen=True, slots=True)
class _Door:
    """Turns HTTP requests into exchanges and their outcome into responses."""

    broker: Broker

    async def answer(self, request: Request) -> Response:
        """Answer one request, whatever it holds."""
        request_id = _request_id(request)
        try:
            exchange = await _exchange(request, request_id)
            reply = await run_in_threadpool(self._handle, exchange)
            response = _response(reply)
        except KbsRefusal as refusal:
            response = Response(refusal.to_bytes(), refusal.status, media_type=JSON)
        response.headers[REQUEST_ID_HEADER] = request_id
        return response

    def _handle(self, exchange: Exchange) -> Reply:
        """Run the handler; every failure leaves here as a refusal."""
        try:
            return self._recorded(exchange)
        except KbsRefusal:
            raise
        except EnclaveCcError as error:
            # The log itself did not take part, so nothing may leave, and there is nowhere to write that down.
            _log.exception("log-unavailable", extra={"request_id": exchange.request_id})
            raise KbsRefusal.of(error, "InternalError") from error
        except Exception as error:
            # The outermost boundary: a fault of ours must not end the connection or show its text.
            _log.exception("request-failed", extra={"request_id": exchange.request_id})
            raise KbsRefusal("InternalError", sentence="internal error", status=_FAULT) from error

    def _recorded(self, exchange: Exchange) -> Reply:
        """Put a refusal into the log before anybody hears of it."""
        try:
            return self._dispatch(exchange)
        except KbsRefusal as refusal:
            self._record(exchange, refusal)
            raise

    def _dispatch(self, exchange: Exchange) -> Reply:
        route = self.broker.routes.get((exchange.method, exchange.segments[0]))
        if route is None:
            raise KbsRefusal("PluginNotFound", recorded=False)
        try:
            return route.handle(exchange)
        except EnclaveCcError as error:
            raise KbsRefusal.of(error, route.failure) from error

    def _record(self, exchange: Exchange, refusal: KbsRefusal) -> None:
        if not refusal.recorded:
            return
        if not self.broker.refusals.take(refusal.text_chars):
            _log.warning("refusal-not-recorded", extra={"request_id": exchange.request_id})
            return
        fields = {
            "code": refusal.code,
            "reason": refusal.reason,
            "route": f"{exchange.method} {exchange.segments[0]}",
            "detail": refusal.detail[:2048],
        }
        self.broker.audit.record(Event.REFUSAL, exchange.request_id, fields=fields, findings=refusal.findings)


async def _exchange(request: Request, request_id: RequestId) -> Exchange:
    authorization = request.headers.get("authorization", "")
    scheme, _, bearer = authorization.partition(" ")
    return Exchange(
        method=request.method,
        segments=tuple(request.path_params["path"].split("/")),
        query=dict(request.query_params),
        body=await _body(request),
        session_id=request.cookies.get(COOKIE, ""),
        bearer=bearer.strip() if scheme.lower() == "bearer" else "",
        request_id=request_id,
    )


async def _body(request: Request) -> bytes:
    """Read the body up to the bound and the deadline."""
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_DEADLINE_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_MESSAGE_BYTES:
                    raise KbsRefusal(
                        "SerdeError", sentence="the request is too large", status=_TOO_LARGE, recorded=False
                    )
    except (TimeoutError, ClientDisconnect) as error:
        raise KbsRefusal("SerdeError", sentence="the request did not arrive", recorded=False) from error
    return bytes(body)


def _request_id(request: Request) -> RequestId:
    """Take the client's id when it is one, else make one."""
    try:
        return parse_request_id(request.headers.get(REQUEST_ID_HEADER, ""))
    except InvalidInputError:
        return fresh_request_id()


def _response(reply: Reply) -> Response:
    response = Response(reply.body, media_type=reply.content_type)
    if reply.cookie is not None:
        expires = format_datetime(reply.cookie.expires, usegmt=True)
        response.headers["set-cookie"] = (
            f"{COOKIE}={reply.cookie.session_id}; Expires={expires}; Path=/kbs/v0; HttpOnly; SameSite=Strict"
        )
    return response


async def _health(_: Request) -> Response:
    return Response()


async def _not_routed(request: Request, error: Exception) -> Response:
    """Answer paths and methods outside of the protocol."""
    status = error.status_code if isinstance(error, HTTPException) else _FAULT
    refusal = KbsRefusal("InvalidRequestPath", sentence="Request path is invalid", status=status)
    headers = {REQUEST_ID_HEADER: _request_id(request)}
    return Response(refusal.to_bytes(), refusal.status, media_type=JSON, headers=headers)
