from __future__ import annotations

import socket
import threading
import time

import pytest

from enclave_cc.core.errors import InternalError, InvalidInputError, RefusedError, Stage, UnavailableError
from enclave_cc.formats import ttrpc
from enclave_cc.formats.messages.service import Method, Service
from enclave_cc.formats.protobuf import STRING, Schema, decode, encode
from enclave_cc.transport import ttrpc_server
from enclave_cc.transport.ttrpc_client import TtrpcClient
from enclave_cc.transport.ttrpc_server import CallContext, TtrpcServer

_TEXT = Schema("Text", {1: ("request_id", STRING), 2: ("text", STRING)})
ECHO = Service("test.Echo", {name: Method(_TEXT, _TEXT) for name in ("Say", "Refuse", "Break", "Slow")})


def _refuse(request, context):
    raise RefusedError("deadline-exceeded", "no", stage=Stage.VERIFY, detail="the value")


def _break(request, context):
    raise ZeroDivisionError


def _slow(request, context):
    time.sleep(0.3)
    return request


@pytest.fixture
def server(short_tmp):
    path = str(short_tmp / "s")
    server = TtrpcServer(path)
    server.add(ECHO, {"Say": lambda request, _: request, "Refuse": _refuse, "Break": _break, "Slow": _slow})
    server.start()
    yield path
    server.stop()


def test_a_call_is_answered(server):
    with TtrpcClient(server) as client:
        assert client.call(ECHO, "Say", {"text": "hello"})["text"] == "hello"
        assert client.call(ECHO, "Say", {"text": "again"})["text"] == "again"


def test_a_refusal_keeps_class_code_and_stage_and_loses_the_detail(server):
    with TtrpcClient(server) as client:
        with pytest.raises(RefusedError) as caught:
            client.call(ECHO, "Refuse", {"request_id": "ID"})
        assert (caught.value.code, caught.value.stage) == ("deadline-exceeded", Stage.VERIFY)
        assert "the value" not in caught.value.detail
        assert "request=ID" in caught.value.detail
        assert client.call(ECHO, "Say", {"text": "still here"})["text"] == "still here"


def test_a_fault_of_ours_is_internal_and_says_nothing_else(server):
    with TtrpcClient(server) as client, pytest.raises(InternalError) as caught:
        client.call(ECHO, "Break", {})
    assert "ZeroDivision" not in caught.value.detail


def test_a_slow_peer_is_unavailable(server):
    with TtrpcClient(server) as client, pytest.raises(UnavailableError) as caught:
        client.call(ECHO, "Slow", {}, timeout_s=0.05)
    assert caught.value.code == "deadline-exceeded"


def test_an_absent_peer_is_unavailable(short_tmp):
    with pytest.raises(UnavailableError):
        TtrpcClient(str(short_tmp / "nobody"))


def test_an_unknown_method_is_a_status(server):
    service = Service("test.Other", {"Say": Method(_TEXT, _TEXT)})
    with TtrpcClient(server) as client:
        with pytest.raises(InvalidInputError):
            client.call(service, "Say", {})
        assert client.call(ECHO, "Say", {"text": "x"})["text"] == "x"


@pytest.mark.parametrize(
    ("stream_id", "type_", "data"),
    [
        (1, ttrpc.TYPE_REQUEST, b"\xff" * 20),
        (2, ttrpc.TYPE_REQUEST, b""),
        (1, ttrpc.TYPE_DATA, b"x"),
        (1, 77, b""),
    ],
    ids=["garbage", "even-stream", "data-frame", "unknown-type"],
)
def test_any_frame_is_answered_and_the_connection_stays_usable(server, stream_id, type_, data):
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(server)
        client.sendall(ttrpc.pack_frame(stream_id, type_, data))
        reader = ttrpc.FrameReader()
        assert decode(ttrpc.RESPONSE, _next(client, reader).data)["status"]["code"] == ttrpc.INVALID_ARGUMENT
        payload = encode(_TEXT, {"text": "ok"})
        request = encode(ttrpc.REQUEST, {"service": "test.Echo", "method": "Say", "payload": payload})
        client.sendall(ttrpc.pack_frame(3, ttrpc.TYPE_REQUEST, request))
        assert decode(_TEXT, decode(ttrpc.RESPONSE, _next(client, reader).data)["payload"])["text"] == "ok"


def test_calls_on_one_connection_run_side_by_side(server):
    begun = time.monotonic()
    threads = [threading.Thread(target=_one_slow_call, args=(server,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - begun < 4 * 0.3


def _one_slow_call(path):
    with TtrpcClient(path) as client:
        client.call(ECHO, "Slow", {})


def _next(client, reader):
    while True:
        frames = reader.feed(client.recv(4096))
        if frames:
            return frames[0]


def test_the_end_of_a_connection_is_heard_also_by_those_who_ask_too_late():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        context, heard = CallContext(peer_pid=1, peer_uid=1, connection=1, socket=ours), []
        context.when_closed(lambda: heard.append("in time"))
        assert heard == []
        context.close()
        context.when_closed(lambda: heard.append("late"))
        context.close()
        assert heard == ["in time", "late"]


def test_a_client_that_does_not_read_holds_nobody_else_up(monkeypatch, short_tmp):
    monkeypatch.setattr(ttrpc_server, "_SEND_TIMEOUT_S", 1)
    server = TtrpcServer(str(short_tmp / "s"))
    server.add(ECHO, dict.fromkeys(ECHO.methods, lambda request, _: request))
    server.start()
    payload = encode(_TEXT, {"text": "x" * (1 << 20)})
    request = encode(ttrpc.REQUEST, {"service": ECHO.name, "method": "Say", "payload": payload})
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.connect(str(short_tmp / "s"))
        for number in range(40):
            deaf.sendall(ttrpc.pack_frame(2 * number + 1, ttrpc.TYPE_REQUEST, request))
        with TtrpcClient(str(short_tmp / "s"), timeout_s=8) as client:
            assert client.call(ECHO, "Say", {"text": "hello"})["text"] == "hello"
    server.stop()
