"""Authorization: which, when again, and for whom not."""

import os

import pytest
from tests.simulators.clock import FakeClock
from tests.simulators.registry import TOKEN, running_registry

from enclave_cc.core.errors import InvalidInputError
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.registries.credentials import Credentials
from enclave_cc.transport.patience.deadline import Patience
from enclave_cc.transport.registry.client import RegistryClient


@pytest.fixture
def simulator():
    with running_registry() as running:
        running.auth = "bearer"
        running.add_manifest("team/app", "1", b"{}")
        yield running


@pytest.fixture
def reference(simulator):
    return Reference.parse(f"{simulator.host}/team/app:1")


@pytest.fixture
def open_client(simulator):
    clients = []

    def client(credentials=Credentials("alice", "secret"), clock=None):  # noqa: B008  # a value
        clock = clock or FakeClock()
        patience = Patience(clock.never(), sleep=clock.sleep)
        made = RegistryClient(
            insecure_http=[simulator.host], credentials=lambda _: credentials, patience=patience, deadline_s=5
        )
        clients.append(made)
        return made

    yield client
    for client in clients:
        client.close()


def _tokens(simulator):
    return len([path for path in simulator.paths("GET") if path.startswith("/token")])


def test_credentials_are_looked_up_by_the_image_and_not_by_the_host_alone(simulator, reference):
    asked = []

    def find(image):
        asked.append(str(image))
        return Credentials("alice", "secret")

    client = RegistryClient(insecure_http=[simulator.host], credentials=find)
    client.manifest(reference, digest_or_tag="1")
    assert asked == [str(reference)]
    client.close()


def test_a_token_that_ends_in_the_middle_of_a_pull_is_renewed(open_client, simulator, reference):
    data = os.urandom(1_000_000)
    digest = simulator.add_blob(data)
    simulator.breaks, simulator.token_uses = [300_000, 300_000], 1
    assert b"".join(open_client().blob(reference, digest)) == data
    assert _tokens(simulator) == 3


def test_a_token_is_renewed_once_and_then_it_is_denied(open_client, simulator, reference):
    simulator.token_uses = 0
    with pytest.raises(InvalidInputError) as caught:
        open_client().manifest(reference, digest_or_tag="1")
    assert caught.value.code == "registry-access-denied"
    assert _tokens(simulator) == 1


def test_a_token_is_renewed_before_it_expires(open_client, simulator, reference):
    clock = FakeClock()
    client = open_client(clock=clock)
    simulator.token_answer = b'{"token":"%s","expires_in":300}' % TOKEN.encode()
    client.manifest(reference, digest_or_tag="1")
    clock.now = 280
    client.manifest(reference, digest_or_tag="1")
    assert _tokens(simulator) == 1
    clock.now = 295
    before = len(simulator.requests)
    client.manifest(reference, digest_or_tag="1")
    assert [path for _, path, _ in simulator.requests[before:]] == [
        "/token?scope=repository%3Ateam%2Fapp%3Apull&service=s",
        "/v2/team/app/manifests/1",
    ]


def test_an_identity_token_is_exchanged(open_client, simulator, reference):
    simulator.identity_token = "identity"
    client = open_client(Credentials(identity_token="identity"))
    assert client.manifest(reference, digest_or_tag="1").body == b"{}"
    assert simulator.forms == [
        {
            "grant_type": "refresh_token",
            "client_id": "enclave-cc",
            "service": "s",
            "scope": "repository:team/app:pull",
            "refresh_token": "identity",
        }
    ]


def test_an_identity_token_that_was_replaced_is_not_used_again(open_client, simulator, reference):
    simulator.identity_token = "first"
    simulator.token_answer = b'{"access_token":"%s","refresh_token":"second"}' % TOKEN.encode()
    client = open_client(Credentials(identity_token="first"))
    client.manifest(reference, digest_or_tag="1")
    simulator.identity_token, simulator.token_uses, simulator.uses_left = "second", 5, 0
    client.manifest(reference, digest_or_tag="1")
    assert [form["refresh_token"] for form in simulator.forms] == ["first", "second"]


def test_an_identity_token_that_is_not_good_any_more_is_denied(open_client, simulator, reference):
    simulator.identity_token = "identity"
    with pytest.raises(InvalidInputError) as caught:
        open_client(Credentials(identity_token="stale")).manifest(reference, digest_or_tag="1")
    assert caught.value.code == "registry-access-denied"


def test_a_registry_token_is_shown_as_it_is(open_client, simulator, reference):
    assert open_client(Credentials(registry_token=TOKEN)).manifest(reference, digest_or_tag="1").body == b"{}"
    assert _tokens(simulator) == 0


def test_what_is_public_stays_public_with_a_stale_password(open_client, simulator, reference):
    simulator.user, simulator.password = None, None
    simulator.accepts_anonymous = True
    assert open_client(Credentials("alice", "stale")).manifest(reference, digest_or_tag="1").body == b"{}"


def test_nobody_pushes_without_the_password_he_has(open_client, simulator, reference):
    simulator.accepts_anonymous = True
    with pytest.raises(InvalidInputError) as caught:
        open_client(Credentials("alice", "stale")).put_manifest(reference, "2", b"{}", "application/x")
    assert caught.value.code == "registry-access-denied"


def test_basic_is_found_behind_schemes_that_nobody_speaks(open_client, simulator, reference):
    simulator.auth, simulator.challenges = (
        "basic",
        ["Negotiate", 'Digest realm="x", nonce=y', "BASIC realm=r"],
    )
    assert open_client().manifest(reference, digest_or_tag="1").body == b"{}"


@pytest.mark.parametrize("challenge", ["Bearer", 'Bearer service="s"', "", "garbage \x7f", 'Bearer realm=""'])
def test_a_challenge_that_makes_no_sense_is_a_denial(open_client, simulator, reference, challenge):
    simulator.challenges = [challenge]
    with pytest.raises(InvalidInputError) as caught:
        open_client().manifest(reference, digest_or_tag="1")
    assert caught.value.code == "registry-access-denied"


NO_ADDRESSES = [
    "no url",
    "https://[",
    "ftp://127.0.0.1/",
    "https://user@127.0.0.1/",
    "https://storage.example:http/",
    "https://storage.example:99999/",
    "https://storage\t.example/",
    "https://storage.example/\x01",
]


@pytest.mark.parametrize("realm", NO_ADDRESSES)
def test_a_realm_that_is_none_is_refused(open_client, simulator, reference, realm):
    simulator.challenges = [f'Bearer realm="{realm}"']
    with pytest.raises(InvalidInputError) as caught:
        open_client().manifest(reference, digest_or_tag="1")
    assert caught.value.code in {"registry-response-invalid", "registry-insecure"}


def test_insufficient_scope_is_answered_with_a_wider_token(open_client, simulator, reference):
    client = open_client()
    client.manifest(reference, digest_or_tag="1")
    told = (
        f'Bearer realm="http://{simulator.host}/token",service="s",error="insufficient_scope",'
        'scope="repository:team/base:pull,push"'
    )
    simulator.statuses = [(403, {"WWW-Authenticate": told})]
    assert client.manifest(reference, digest_or_tag="1").body == b"{}"
    asked = [path for path in simulator.paths("GET") if path.startswith("/token")][-1]
    assert "scope=repository%3Ateam%2Fapp%3Apull&scope=repository%3Ateam%2Fbase%3Apull&" in asked


def test_a_redirect_within_the_registry_keeps_the_authorization(open_client, simulator, reference):
    digest = simulator.add_blob(b"content")
    simulator.redirect_once = f"http://{simulator.host}"
    assert b"".join(open_client().blob(reference, digest)) == b"content"


@pytest.mark.parametrize("location", NO_ADDRESSES[1:])
def test_a_redirect_to_no_address_is_refused(open_client, simulator, reference, location):
    simulator.auth = ""
    simulator.statuses = [(307, {"Location": location})]
    with pytest.raises(InvalidInputError) as caught:
        open_client().manifest(reference, digest_or_tag="1")
    assert caught.value.code in {"registry-response-invalid", "registry-insecure"}
