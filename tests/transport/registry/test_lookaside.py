"""Signatures from a store on loopback that misbehaves on request."""

import threading
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import EnclaveCcError, InvalidInputError, UnavailableError
from enclave_cc.core.fields import FieldError, Fields
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.owner.lookaside import LookasideSettings
from enclave_cc.transport.registry.lookaside import MAX_SIGNATURE_BYTES, MAX_SIGNATURES, LookasideClient

REFERENCE = Reference.parse("registry.example:5000/team/app:1")
DIGEST = Digest.of(b"manifest")
FOLDER = f"/store/team/app@sha256={DIGEST.hex}"


@contextmanager
def _store(files, status=404):
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = files(self.path)
            self.send_response(status if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def _read(host, scope="default", *, insecure=True):
    settings = LookasideSettings({scope: f"http://{host}/store"})
    with closing(LookasideClient(settings, insecure_http=[host] if insecure else [])) as client:
        return list(client.signatures(REFERENCE, DIGEST))


def test_signatures_are_read_in_order_until_there_is_none():
    held = {f"{FOLDER}/signature-{number}": b"%d" % number for number in (1, 2, 4)}
    with _store(held.get) as (host, asked):
        assert _read(host) == [b"1", b"2"]
        assert asked == [f"{FOLDER}/signature-{number}" for number in (1, 2, 3)]


def test_a_store_without_end_is_left_in_time():
    with _store(lambda _: b"x") as (host, asked):
        assert len(_read(host)) == MAX_SIGNATURES
        assert len(asked) == MAX_SIGNATURES


def test_a_signature_that_is_too_large_is_not_read_on():
    with _store(lambda _: bytes(MAX_SIGNATURE_BYTES + 1)) as (host, _), pytest.raises(InvalidInputError):
        _read(host)


@pytest.mark.parametrize(
    ("status", "error"),
    [(500, UnavailableError), (403, InvalidInputError), (302, InvalidInputError), (204, InvalidInputError)],
)
def test_another_answer_is_not_the_end_of_the_list(status, error):
    with _store(lambda _: None, status) as (host, _), pytest.raises(error):
        _read(host)


def test_plain_http_is_for_hosts_that_were_listed():
    with _store(lambda _: b"x") as (host, asked), pytest.raises(EnclaveCcError):
        _read(host, insecure=False)
    assert asked == []


def test_no_place_means_no_signatures_and_no_request():
    with _store(lambda _: b"x") as (host, asked):
        assert _read(host, scope="other.example") == []
    assert asked == []


@pytest.mark.parametrize(
    ("scope", "chosen"),
    [
        ("registry.example:5000/team/app:1", "a"),
        ("registry.example:5000/team", "b"),
        ("*.example", "c"),
        ("default", "d"),
    ],
)
def test_the_most_specific_scope_names_the_place(scope, chosen):
    table = {scope: f"https://{chosen}.example", "default": "https://d.example"}
    settings = LookasideSettings.parse(Fields(table, "lookaside"))
    assert settings.base_for(REFERENCE) == f"https://{chosen}.example"
    assert settings.base_for(Reference.parse("other.test/x")) == "https://d.example"


@pytest.mark.parametrize(
    "url",
    [
        1,
        "",
        "sig.example",
        "file:///var/lib",
        "http://sig.example/x",
        "https://user@sig.example",
        "https://sig.example/?q",
        "https://sig.example/#f",
        "https://[",
        "https://sig.example/a b",
        "https://sig.example/" + "x" * 2000,
    ],
)
def test_an_address_that_is_not_plain_and_safe_is_refused(url):
    with pytest.raises(FieldError):
        LookasideSettings.parse(Fields({"default": url}, "lookaside"))


def test_plain_http_is_allowed_by_name():
    table = Fields({"default": "http://sig.example:8080/x/"}, "lookaside")
    settings = LookasideSettings.parse(table, plain_http_hosts=["sig.example:8080"])
    assert settings.base_for(REFERENCE) == "http://sig.example:8080/x"


def test_the_number_of_scopes_is_bounded():
    table = {f"r{number}.example": "https://sig.example" for number in range(65)}
    with pytest.raises(FieldError):
        LookasideSettings.parse(Fields(table, "lookaside"))
