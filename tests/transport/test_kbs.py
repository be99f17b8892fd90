"""The client of a key broker against brokers that do not behave."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from enclave_cc.core.errors import InvalidInputError, RefusedError, UnavailableError
from enclave_cc.formats.jose import jwe
from enclave_cc.formats.jose.jwk import parse_public_jwk
from enclave_cc.formats.kbs.resource_uri import ResourceUri
from enclave_cc.transport.https import HttpAnswer, HttpsPeer
from enclave_cc.transport.kbs import KbsClient

URI = ResourceUri.parse("kbs:///default/key/1")
PREFIX = "https://github.com/confidential-containers/kbs/errors/"


class Script:
    """A broker of which each answer can be replaced; ``seen`` has the requests."""

    def __init__(self):
        self.seen = []
        self.key = None
        self.answers = {"auth": self.challenge, "attest": self.token, "resource": self.secret}

    def challenge(self, _):
        return 200, {"nonce": "bm9uY2U=", "extra-params": ""}

    def token(self, body):
        self.key = parse_public_jwk(json.loads(body)["runtime-data"]["tee-pubkey"])
        return 200, {"token": "a.b.c"}

    def secret(self, _):
        return 200, jwe.seal(b"the key", self.key)

    def answer(self, handler, body):
        name = handler.path.removeprefix("/kbs/v0/").split("/")[0]
        self.seen.append((name, dict(handler.headers)))
        return self.answers[name](body)


@pytest.fixture
def script():
    return Script()


@pytest.fixture
def url(script):
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, reply = script.answer(self, body)
            if callable(reply):
                reply(self)
                return
            data = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Set-Cookie", "kbs-session-id=0123; Path=/kbs/v0")
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET  # noqa: N815  # the name that the base class looks for

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def client(url):
    client = KbsClient(
        url,
        tee="sgx-sim",
        evidence=lambda _: {"quote": "AA=="},
        request_id="0" * 26,
        timeout_s=2,
        insecure_http=True,
    )
    yield client
    client.close()


def error(reason):
    return lambda _: (401, {"type": PREFIX + reason, "detail": "sentence of the broker"})


def test_the_cookie_and_the_request_id_travel_with_every_request(client, script):
    assert client.resource(URI) == b"the key"
    names = [name for name, _ in script.seen]
    assert names == ["auth", "attest", "resource"]
    assert {headers["X-Request-ID"] for _, headers in script.seen} == {"0" * 26}
    assert "Cookie" not in script.seen[0][1]
    assert script.seen[2][1]["Cookie"] == "kbs-session-id=0123"


def test_evidence_is_made_for_the_report_data_of_the_handshake(url, script):
    asked = []
    client = KbsClient(
        url,
        tee="sgx",
        evidence=lambda data: asked.append(data) or {"quote": ""},
        request_id="0" * 26,
        insecure_http=True,
    )
    client.attest()
    client.close()
    assert [len(data) for data in asked] == [48]


def test_a_policy_that_denies_ends_it_at_once(client, script):
    script.answers["resource"] = error("PolicyDeny")
    with pytest.raises(RefusedError) as caught:
        client.resource(URI)
    assert caught.value.code == "broker-refused-resource"
    assert caught.value.summary == "the key broker refused: PolicyDeny"
    assert "sentence of the broker" in caught.value.detail
    assert "0" * 26 in caught.value.detail
    assert [name for name, _ in script.seen] == ["auth", "attest", "resource"]


@pytest.mark.parametrize("step", ["auth", "attest"])
def test_an_attestation_that_is_refused_ends_it(client, script, step):
    script.answers[step] = error("AttestationError")
    with pytest.raises(RefusedError) as caught:
        client.resource(URI)
    assert caught.value.code == "broker-refused-attestation"


def test_a_session_that_expired_is_renewed_once(client, script):
    client.resource(URI)
    script.answers["resource"] = error("TokenNotFound")
    with pytest.raises(RefusedError):
        client.resource(URI)
    assert [name for name, _ in script.seen].count("attest") == 2


@pytest.mark.parametrize("status", [500, 502, 503, 302])
def test_a_broker_in_trouble_is_unavailable(client, script, status):
    script.answers["resource"] = lambda _: (status, b"<html>")
    with pytest.raises(UnavailableError):
        client.resource(URI)


def test_a_refusal_without_the_protocols_body_is_still_a_refusal(client, script):
    script.answers["resource"] = lambda _: (403, b"<html>")
    with pytest.raises(RefusedError) as caught:
        client.resource(URI)
    assert "Unknown" in caught.value.summary


@pytest.mark.parametrize("step", ["auth", "attest", "resource"])
@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"\xff", b'{"nonce":7}'])
def test_an_answer_that_is_none_is_unavailable(client, script, step, body):
    script.answers[step] = lambda _: (200, body)
    with pytest.raises(UnavailableError) as caught:
        client.resource(URI)
    assert caught.value.code == "broker-answer-malformed"


def test_a_resource_sealed_to_another_key_does_not_open(client, script):
    client.attest()
    script.key = type(script.key).of(other_key(), algorithm=jwe.ECDH)
    with pytest.raises(UnavailableError):
        client.resource(URI)


def other_key():
    return ec.generate_private_key(ec.SECP256R1()).public_key()


def test_an_endless_answer_is_cut_off(client, script):
    def endless(handler):
        handler.send_response(200)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(bytes(1 << 20))
        except OSError:
            handler.close_connection = True

    script.answers["resource"] = lambda _: (200, endless)
    with pytest.raises(UnavailableError):
        client.resource(URI)


def test_an_answer_that_drips_is_not_waited_for(client, script):
    def drip(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        try:
            for _ in range(200):
                handler.wfile.write(b" ")
                time.sleep(0.1)
        except OSError:
            pass
        handler.close_connection = True

    script.answers["resource"] = lambda _: (200, drip)
    start = time.monotonic()
    with pytest.raises(UnavailableError):
        client.resource(URI)
    assert time.monotonic() - start < 8


def test_plain_http_needs_the_insecure_word():
    with pytest.raises(InvalidInputError):
        KbsClient("http://broker.example", tee="sgx", evidence=dict, request_id="0" * 26)


@pytest.mark.parametrize("option", [{"ca_pem": "no certificate"}, {"token_key": "no key"}])
def test_keys_that_are_none_are_refused(option):
    with pytest.raises(InvalidInputError):
        KbsClient("https://broker.example", tee="sgx", evidence=dict, request_id="0" * 26, **option)


def test_a_session_whose_renewal_was_refused_is_not_used_any_more(client, script):
    client.attest()
    script.answers["resource"] = error("TokenNotFound")
    script.answers["attest"] = error("AttestationError")
    with pytest.raises(RefusedError):
        client.resource(URI)
    script.answers["resource"] = script.secret
    with pytest.raises(RefusedError) as caught:
        client.resource(URI)
    assert caught.value.code == "broker-refused-attestation"


def test_a_detail_of_any_length_does_not_cost_the_findings(client, script):
    bodies = []
    script.answers["findings"] = lambda body: (bodies.append(body), (200, {}))[1]
    client.report_findings("0" * 26, "verify", "code", [], detail="x" * (4 << 20))
    assert len(bodies[0]) < 1 << 16


def test_a_cookie_that_would_end_its_header_is_not_sent_back(client, script, url):
    client._peer.request = answered(client._peer.request, 'kbs-session-id="a\\015\\012X: y"')
    assert client.resource(URI) == b"the key"
    assert all("Cookie" not in headers for _, headers in script.seen)


def answered(request, cookie):
    def send(*arguments, **options):
        answer = request(*arguments, **options)
        return HttpAnswer(answer.status, {**answer.headers, "set-cookie": cookie}, answer.body)

    return send


def test_the_environment_cannot_have_session_keys_written(tmp_path, monkeypatch):
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    HttpsPeer("https://127.0.0.1:9", timeout_s=1, max_answer_bytes=1).close()
    assert list(tmp_path.iterdir()) == []
