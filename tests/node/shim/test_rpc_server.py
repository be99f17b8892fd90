"""What arrives on the shim's socket gets a status, and the connection stays usable."""

from __future__ import annotations

import _socket
import socket
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enclave_cc.formats import ttrpc
from enclave_cc.formats.protobuf import decode, encode
from enclave_cc.node.shim.failures import Failure
from enclave_cc.node.shim.reactor import Reactor
from enclave_cc.node.shim.rpc_server import RpcServer
from enclave_cc.node.shim.task_messages import TASK_V2


class Served:
    """A server on a thread of its own."""

    def __init__(self, path):
        self.path = str(path / "s")
        self.reactor = Reactor()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        listener.listen()
        # The reactor's side works on the interpreter's plain socket, as the shim's does.
        plain = self.listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, listener.detach())
        self.server = RpcServer(self.reactor, plain, frozenset({"Wait"}))
        handlers = dict.fromkeys(TASK_V2.methods, self.fail)
        mine = {"Connect": self.connect, "Wait": self.wait, "Start": self.wait, "Pids": self.nonsense}
        self.server.add(TASK_V2, {**handlers, **mine})
        self.thread = threading.Thread(target=self.reactor.run, daemon=True)
        self.thread.start()

    async def connect(self, request):
        return {"version": request["id"]}

    async def wait(self, request):
        await self.reactor.sleep(30)

    async def nonsense(self, request):
        return {"processes": 7}

    async def fail(self, request):
        raise Failure(ttrpc.NOT_FOUND, "nothing here", None) if request["id"] else RuntimeError("our fault")

    def open(self):
        return Client(self.path)


class Client:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(path)
        self.reader = ttrpc.FrameReader()
        self.frames = []

    def send(self, stream_id, data, type_=ttrpc.TYPE_REQUEST, flags=0):
        self.socket.sendall(ttrpc.pack_frame(stream_id, type_, data, flags))

    def ask(self, stream_id, method, timeout_nano=0, **request):
        payload = encode(TASK_V2.methods[method].request, request)
        envelope = {
            "service": TASK_V2.name,
            "method": method,
            "payload": payload,
            "timeout_nano": timeout_nano,
        }
        self.send(stream_id, encode(ttrpc.REQUEST, envelope))

    def receive(self):
        while not self.frames:
            data = self.socket.recv(65536)
            assert data, "the server hung up"
            self.frames += self.reader.feed(data)
        frame = self.frames.pop(0)
        return frame.stream_id, decode(ttrpc.RESPONSE, frame.data)

    def status(self):
        return self.receive()[1]["status"]["code"]

    def works(self, stream_id):
        self.ask(stream_id, "Connect", id="hello")
        answered, response = self.receive()
        assert answered == stream_id
        assert decode(TASK_V2.methods["Connect"].response, response["payload"])["version"] == "hello"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    served = Served(tmp_path_factory.mktemp("rpc"))
    yield served
    served.reactor.soon(lambda: setattr(served.reactor, "stopped", True))
    last = served.open()
    served.thread.join(5)
    last.socket.close()
    served.listener.close()
    for calls in list(served.server._connections):
        calls._connection.close()


@pytest.fixture
def client(served):
    client = served.open()
    yield client
    client.socket.close()


def test_an_oversize_frame_is_refused_and_the_connection_stays_usable(client):
    client.socket.sendall(ttrpc.HEADER.pack(ttrpc.MAX_DATA_BYTES + 1, 1, ttrpc.TYPE_REQUEST, 0))
    client.socket.sendall(bytes(ttrpc.MAX_DATA_BYTES + 1))
    assert client.status() == ttrpc.RESOURCE_EXHAUSTED
    client.works(3)


@pytest.mark.parametrize(
    ("data", "type_", "flags"),
    [
        (b"\xff\xff\xff", ttrpc.TYPE_REQUEST, 0),
        (b"", ttrpc.TYPE_DATA, 0),
        (b"", ttrpc.TYPE_REQUEST, ttrpc.FLAG_REMOTE_OPEN),
        (b"", 99, 0),
    ],
)
def test_what_is_no_unary_request_is_refused(client, data, type_, flags):
    client.send(1, data, type_, flags)
    assert client.status() == ttrpc.INVALID_ARGUMENT
    client.works(3)


def test_even_and_repeated_stream_ids_are_refused(client):
    client.works(5)
    for stream_id in (2, 5, 3):
        client.ask(stream_id, "Connect", id="hello")
        assert client.status() == ttrpc.INVALID_ARGUMENT
    client.works(7)


def test_unknown_methods_are_unimplemented(client):
    client.send(1, encode(ttrpc.REQUEST, {"service": "containerd.task.v2.Task", "method": "Fly"}))
    assert client.status() == ttrpc.UNIMPLEMENTED
    client.works(3)


def test_a_malformed_request_is_refused(client):
    envelope = {"service": TASK_V2.name, "method": "Connect", "payload": b"\x0a\xff"}
    client.send(1, encode(ttrpc.REQUEST, envelope))
    assert client.status() == ttrpc.INVALID_ARGUMENT
    client.works(3)


def test_failures_keep_their_status_and_our_own_faults_are_internal(client):
    client.ask(1, "State", id="x")
    assert client.status() == ttrpc.NOT_FOUND
    client.ask(3, "State", id="")
    assert client.status() == ttrpc.INTERNAL


def test_an_answer_that_cannot_be_written_is_our_own_fault_and_still_an_answer(client):
    client.ask(1, "Pids", id="x")
    assert client.status() == ttrpc.INTERNAL
    client.works(3)


def test_a_deadline_beyond_all_bounds_is_none(client):
    client.ask(1, "Connect", timeout_nano=(1 << 63) - 1, id="hello")
    assert client.receive()[0] == 1
    client.works(3)


@pytest.mark.parametrize("method", ["Wait", "Start"])
def test_the_callers_deadline_is_honoured(client, method):
    client.ask(1, method, timeout_nano=50_000_000, id="x")
    assert client.status() == ttrpc.DEADLINE_EXCEEDED
    client.works(3)


def test_a_waiting_call_does_not_hold_up_others(client):
    client.ask(1, "Wait", id="x")
    client.works(3)


def test_a_peer_that_does_not_read_is_not_read_from(served):
    client = served.open()
    client.socket.settimeout(1)
    payload = encode(TASK_V2.methods["Connect"].request, {"id": "x" * 100_000})
    envelope = encode(ttrpc.REQUEST, {"service": TASK_V2.name, "method": "Connect", "payload": payload})
    frames = b"".join(ttrpc.pack_frame(number, ttrpc.TYPE_REQUEST, envelope) for number in range(1, 401, 2))
    with pytest.raises(TimeoutError):
        client.socket.sendall(frames)
    other = served.open()
    other.works(1)
    other.socket.close()
    client.socket.close()


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_leave_the_server_usable(served, data):
    noise = served.open()
    noise.socket.sendall(data)
    noise.socket.close()
    client = served.open()
    client.works(1)
    client.socket.close()
