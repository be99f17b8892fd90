import hashlib
import json
import os

import pytest
from tests.simulators.certificates import loopback_certificate
from tests.simulators.registry import OCI_INDEX, TOKEN, running_registry

from enclave_cc.core.errors import InvalidInputError, UnavailableError
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.registries.credentials import Credentials
from enclave_cc.transport.registry.client import MAX_MANIFEST_BYTES, RegistryClient


@pytest.fixture
def simulator():
    with running_registry() as running:
        yield running


@pytest.fixture
def client(simulator):
    client = RegistryClient(insecure_http=[simulator.host], credentials=_credentials, deadline_s=5)
    yield client
    client.close()


@pytest.fixture
def reference(simulator):
    return Reference.parse(f"{simulator.host}/team/app:1")


def _credentials(_reference):
    return Credentials("alice", "secret")


def _fetch(client, reference, digest, **options):
    return b"".join(client.blob(reference, digest, **options))


def test_a_manifest_comes_with_the_type_the_registry_claims(client, simulator, reference):
    simulator.add_manifest("team/app", "1", b"{}", "application/x; charset=utf-8")
    fetched = client.manifest(reference, digest_or_tag="1")
    assert (fetched.body, fetched.media_type) == (b"{}", "application/x")


def test_a_blob_is_streamed_whole(client, simulator, reference):
    data = os.urandom(3_000_000)
    assert _fetch(client, reference, simulator.add_blob(data)) == data


def test_a_blob_can_start_in_the_middle(client, simulator, reference):
    assert _fetch(client, reference, simulator.add_blob(b"0123456789"), offset=4) == b"456789"


def test_a_registry_that_ignores_ranges_still_gives_the_middle(client, simulator, reference):
    simulator.ignore_range = True
    assert _fetch(client, reference, simulator.add_blob(b"0123456789"), offset=4) == b"456789"


def test_a_broken_connection_is_resumed_where_it_stopped(client, simulator, reference):
    data = os.urandom(1_000_000)
    digest = simulator.add_blob(data)
    simulator.breaks = [400_000]
    assert _fetch(client, reference, digest) == data
    assert simulator.requests[-1][2]["Range"] == "bytes=400000-"


def test_a_connection_that_always_breaks_is_reported_as_unavailable(client, simulator, reference):
    digest = simulator.add_blob(b"x" * 1000)
    simulator.breaks = [0] * 10
    with pytest.raises(UnavailableError) as caught:
        _fetch(client, reference, digest)
    assert caught.value.code == "registry-unavailable"


def test_the_client_does_not_check_content(client, simulator, reference):
    digest = simulator.add_blob(b"true")
    simulator.lies[digest] = b"false"
    assert _fetch(client, reference, digest) == b"false"


def test_a_bearer_token_is_fetched_once_and_used_again(client, simulator, reference):
    simulator.auth = "bearer"
    simulator.add_manifest("team/app", "1", b"{}")
    client.manifest(reference, digest_or_tag="1")
    client.manifest(reference, digest_or_tag="1")
    token_requests = [path for path in simulator.paths("GET") if path.startswith("/token")]
    assert token_requests == ["/token?scope=repository%3Ateam%2Fapp%3Apull&service=s"]
    assert simulator.requests[-1][2]["Authorization"] == f"Bearer {TOKEN}"


def test_basic_credentials_answer_a_basic_challenge(client, simulator, reference):
    simulator.auth = "basic"
    simulator.add_manifest("team/app", "1", b"{}")
    assert client.manifest(reference, digest_or_tag="1").body == b"{}"


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_wrong_credentials_are_denied_access(client, simulator, reference, auth):
    simulator.auth, simulator.password = auth, "another"
    with pytest.raises(InvalidInputError) as caught:
        client.manifest(reference, digest_or_tag="1")
    assert caught.value.code == "registry-access-denied"


def test_a_missing_image_is_not_found(client, reference):
    with pytest.raises(InvalidInputError) as caught:
        client.manifest(reference, digest_or_tag="1")
    assert caught.value.code == "image-not-found"


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_transient_failure_is_tried_again(client, simulator, reference, status):
    simulator.add_manifest("team/app", "1", b"{}")
    simulator.statuses = [status]
    assert client.manifest(reference, digest_or_tag="1").body == b"{}"


def test_a_lasting_failure_is_reported_as_unavailable(client, simulator, reference):
    simulator.statuses = [503] * 10
    with pytest.raises(UnavailableError):
        client.manifest(reference, digest_or_tag="1")


def test_a_silent_registry_runs_into_the_deadline(simulator, reference):
    simulator.silence_s = 10
    client = RegistryClient(insecure_http=[simulator.host], deadline_s=0.1)
    with pytest.raises(UnavailableError):
        client.manifest(reference, digest_or_tag="1")
    client.close()


def test_nobody_listens_is_reported_as_unavailable():
    client = RegistryClient(insecure_http=["127.0.0.1:1"], deadline_s=1)
    with pytest.raises(UnavailableError):
        client.manifest(Reference.parse("127.0.0.1:1/a:1"), digest_or_tag="1")
    client.close()


def test_a_manifest_larger_than_any_is_refused(client, simulator, reference):
    simulator.add_manifest("team/app", "1", bytes(MAX_MANIFEST_BYTES + 1))
    with pytest.raises(InvalidInputError) as caught:
        client.manifest(reference, digest_or_tag="1")
    assert caught.value.code == "registry-response-invalid"


def test_plain_http_is_spoken_only_to_listed_hosts(simulator, reference):
    client = RegistryClient(deadline_s=1)
    with pytest.raises((InvalidInputError, UnavailableError)):
        client.manifest(reference, digest_or_tag="1")
    assert simulator.requests == []
    client.close()


def test_a_token_service_without_tls_gets_no_credentials(client, simulator, reference):
    simulator.auth, simulator.realm = "bearer", "http://tokens.example/token"
    with pytest.raises(InvalidInputError) as caught:
        client.manifest(reference, digest_or_tag="1")
    assert caught.value.code == "registry-insecure"


@pytest.mark.parametrize("answer", [b"no json", b"{}", b'{"token":"a\\r\\nX: y"}', b'{"token":7}'])
def test_a_token_answer_that_makes_no_sense_is_refused(client, simulator, reference, answer):
    simulator.auth, simulator.token_answer = "bearer", answer
    with pytest.raises(InvalidInputError) as caught:
        client.manifest(reference, digest_or_tag="1")
    assert caught.value.code == "registry-response-invalid"


def test_a_redirect_is_followed_without_the_authorization(simulator, reference):
    with running_registry() as storage:
        digest = storage.add_blob(b"content")
        simulator.blobs[digest] = b"content"
        simulator.auth, simulator.redirect_to = "bearer", f"http://{storage.host}"
        client = RegistryClient(insecure_http=[simulator.host, storage.host], credentials=_credentials)
        assert _fetch(client, reference, digest) == b"content"
        client.close()
        assert "Authorization" not in storage.requests[-1][2]


def test_a_redirect_out_of_tls_is_refused(simulator, client, reference):
    digest = simulator.add_blob(b"content")
    simulator.redirect_to = "http://storage.example"
    with pytest.raises(InvalidInputError) as caught:
        _fetch(client, reference, digest)
    assert caught.value.code == "registry-insecure"


def test_redirects_end_somewhere(simulator, client, reference):
    digest = simulator.add_blob(b"content")
    simulator.redirect_to = f"http://{simulator.host}"
    with pytest.raises(InvalidInputError) as caught:
        _fetch(client, reference, digest)
    assert caught.value.code == "registry-response-invalid"


@pytest.mark.parametrize("auth", ["", "bearer", "basic"])
def test_what_was_uploaded_is_there(client, simulator, reference, auth):
    simulator.auth = auth
    data = os.urandom(100_000)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert not client.has_blob(reference, digest)
    client.upload_blob(reference, digest, iter([data[:7], data[7:]]), size=len(data))
    client.put_manifest(reference, "1", b"{}", "application/x")
    assert client.has_blob(reference, digest)
    assert _fetch(client, reference, digest) == data
    assert client.manifest(reference, digest_or_tag="1").body == b"{}"


SUBJECT = f"sha256:{'ab' * 32}"
REFERRER = f'{{"subject":{{"digest":"{SUBJECT}"}},"artifactType":"application/x"}}'.encode()


def _listed(client, reference):
    return json.loads(client.referrers(reference, digest=SUBJECT).body)["manifests"]


def test_a_registry_with_the_referrers_api_says_so_and_lists_what_refers(client, simulator, reference):
    assert client.put_manifest(reference, "attached", REFERRER, "application/x")
    assert [entry["artifactType"] for entry in _listed(client, reference)] == ["application/x"]


def test_a_registry_without_it_is_asked_for_the_tag_that_stands_in(client, simulator, reference):
    simulator.has_referrers = False
    assert not client.put_manifest(reference, "attached", REFERRER, "application/x")
    assert _listed(client, reference) == []
    index = b'{"manifests":[1]}'
    client.put_manifest(reference, SUBJECT.replace(":", "-"), index, OCI_INDEX)
    assert client.referrers(reference, digest=SUBJECT).body == index


def test_a_front_page_is_no_list_of_referrers(client, simulator, reference):
    simulator.lists_as = "text/html"
    client.put_manifest(reference, SUBJECT.replace(":", "-"), b"{}", OCI_INDEX)
    assert client.referrers(reference, digest=SUBJECT).body == b"{}"


@pytest.mark.parametrize("status", [400, 405, 501])
def test_a_registry_that_finds_the_question_odd_has_no_referrers_api(client, simulator, reference, status):
    simulator.statuses = [status]
    assert _listed(client, reference) == []


def test_who_may_not_see_referrers_is_told(client, simulator, reference):
    simulator.auth, simulator.password = "bearer", "another"
    with pytest.raises(InvalidInputError) as caught:
        client.referrers(reference, digest=SUBJECT)
    assert caught.value.code == "registry-access-denied"


def test_tls_is_spoken_under_a_given_ca_and_no_other(tmp_path):
    context, ca_pem = loopback_certificate(tmp_path)
    with running_registry(context) as simulator:
        simulator.add_manifest("app", "1", b"{}")
        reference = Reference.parse(f"{simulator.host}/app:1")
        trusting, doubting = RegistryClient(ca_pem=ca_pem), RegistryClient()
        assert trusting.manifest(reference, digest_or_tag="1").body == b"{}"
        with pytest.raises(InvalidInputError) as caught:
            doubting.manifest(reference, digest_or_tag="1")
        assert caught.value.code == "registry-tls-refused"
        trusting.close()
        doubting.close()


def test_a_ca_that_is_none_is_refused():
    with pytest.raises(InvalidInputError) as caught:
        RegistryClient(ca_pem="-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    assert caught.value.code == "registry-ca-invalid"
