"""Uploads that are interrupted, and bodies that can be read only once."""

import hashlib
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.simulators.clock import FakeClock
from tests.simulators.registry import running_registry

from enclave_cc.core.errors import InvalidInputError, UnavailableError
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.registries.credentials import Credentials
from enclave_cc.transport.patience.deadline import Patience
from enclave_cc.transport.registry import upload as registry_upload
from enclave_cc.transport.registry.client import RegistryClient
from enclave_cc.transport.registry.upload import pieces

DATA = os.urandom(25_000)
DIGEST = f"sha256:{hashlib.sha256(DATA).hexdigest()}"


@pytest.fixture
def simulator():
    with running_registry() as running:
        yield running


@pytest.fixture
def reference(simulator):
    return Reference.parse(f"{simulator.host}/team/app:1")


@pytest.fixture
def client(simulator, monkeypatch):
    monkeypatch.setattr(registry_upload, "PIECE_BYTES", 10_000)
    clock = FakeClock()
    client = RegistryClient(
        insecure_http=[simulator.host], patience=Patience(clock.never(), sleep=clock.sleep), deadline_s=5
    )
    yield client
    client.close()


def _upload(client, reference, data=DATA):
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    client.upload_blob(reference, digest, iter([data[:3], data[3:]]), size=len(data))


def _methods(simulator):
    return [method for method, _, _ in simulator.requests]


def test_a_body_goes_in_pieces_and_a_small_one_in_two_requests(client, simulator, reference):
    _upload(client, reference)
    assert simulator.blobs[DIGEST] == DATA
    assert _methods(simulator) == ["POST", "PATCH", "PATCH", "PATCH", "PUT"]
    simulator.requests.clear()
    _upload(client, reference, b"small")
    _upload(client, reference, b"")
    assert _methods(simulator) == ["POST", "PUT"] * 2


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT", "GET", "HEAD"])
@pytest.mark.parametrize("fault", ["before", "half", "after"])
def test_an_interrupted_upload_is_completed_though_it_is_read_once(
    client, simulator, reference, method, fault
):
    simulator.faults = {method: [fault] * 2, "PATCH": [fault] if method == "GET" else []}
    simulator.faults |= {"PUT": [fault] if method == "HEAD" else []}
    simulator.faults |= {method: [fault] * 2}
    _upload(client, reference)
    assert simulator.blobs[DIGEST] == DATA


@pytest.mark.parametrize("fault", ["before", "half", "after"])
def test_a_small_body_that_was_interrupted_is_sent_again(client, simulator, reference, fault):
    simulator.faults = {"PUT": [fault]}
    _upload(client, reference, b"small")
    assert b"small" in simulator.blobs.values()


def test_a_registry_that_always_breaks_is_unavailable(client, simulator, reference):
    simulator.faults = {"PATCH": ["before"] * 20}
    with pytest.raises(UnavailableError):
        _upload(client, reference)


def test_a_registry_that_wants_larger_pieces_gets_them(client, simulator, reference):
    simulator.least_piece_bytes = 20_000
    _upload(client, reference)
    assert _methods(simulator) == ["POST", "PATCH", "PATCH", "PUT"]
    assert simulator.blobs[DIGEST] == DATA


@pytest.mark.parametrize(
    ("location", "code"),
    [
        ("http://storage.example/x", "registry-insecure"),
        ("http://[", "registry-response-invalid"),
        ("https://storage.example:x/", "registry-response-invalid"),
    ],
)
def test_an_upload_does_not_leave_tls_for_another_host(client, simulator, reference, location, code):
    simulator.statuses = [(202, {"Location": location})]
    with pytest.raises(InvalidInputError) as caught:
        _upload(client, reference)
    assert caught.value.code == code


def test_another_host_gets_the_body_and_no_authorization(client, simulator, reference):
    with running_registry() as storage:
        client = RegistryClient(insecure_http=[simulator.host, storage.host])
        simulator.statuses = [(202, {"Location": f"http://{storage.host}/v2/team/app/blobs/uploads/1"})]
        _upload(client, reference)
        assert storage.blobs[DIGEST] == DATA
        assert all("Authorization" not in headers for _, _, headers in storage.requests)
        client.close()


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_another_host_that_asks_for_credentials_gets_none(simulator, reference, auth):
    with running_registry() as storage:
        storage.auth = auth
        client = RegistryClient(
            insecure_http=[simulator.host, storage.host],
            credentials=lambda _: Credentials("alice", "secret"),
            attempts=1,
        )
        simulator.statuses = [(202, {"Location": f"http://{storage.host}/v2/team/app/blobs/uploads/1"})]
        with pytest.raises(InvalidInputError) as caught:
            _upload(client, reference)
        assert caught.value.code == "registry-access-denied"
        assert storage.requests
        assert all("Authorization" not in headers for _, _, headers in storage.requests)
        client.close()


def test_mounting_asks_for_a_token_that_may_read_the_source(simulator, reference):
    simulator.auth, simulator.accepts_anonymous = "bearer", True
    client = RegistryClient(insecure_http=[simulator.host])
    digest = simulator.add_blob(DATA)
    assert client.mount_blob(reference, digest, source="team/base")
    asked = [path for path in simulator.paths("GET") if path.startswith("/token")]
    assert asked == [
        "/token?scope=repository%3Ateam%2Fapp%3Apull%2Cpush&scope=repository%3Ateam%2Fbase%3Apull&service=s"
    ]
    client.close()


@given(st.lists(st.binary(max_size=30), max_size=10), st.integers(1, 20))
def test_pieces_are_the_body_in_pieces(chunks, size):
    cut = list(pieces(chunks, lambda: size))
    assert b"".join(cut) == b"".join(chunks)
    assert all(len(piece) == size for piece in cut[:-1])
    assert len(cut[-1]) < size
