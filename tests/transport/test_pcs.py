"""Fetching collateral: byte-exact, bounded, and mute about nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import threading

import pytest
from tests.simulators.sgx_machine import Machine

from enclave_cc.core.errors import InvalidInputError, UnavailableError
from enclave_cc.formats.sgx.quote import QuoteV3
from enclave_cc.platform.simulated.pcs_server import PcsServer
from enclave_cc.transport.pcs import PcsClient

MACHINE = Machine()
QUOTE = MACHINE.quote()
COLLATERAL = MACHINE.collateral()


@contextlib.contextmanager
def serving(answer):
    """A PCS that answers every request with what `answer(path)` returns: status, headers, body."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

        def do_GET(self):
            status, headers, body = answer(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def pcs():
    server = PcsServer(("127.0.0.1", 0), lambda: COLLATERAL)
    server.start()
    yield server.url
    server.stop()


def unavailable(url, **options):
    with pytest.raises(UnavailableError) as error:
        PcsClient(url, timeout_s=2, **options).collateral(QUOTE)
    assert error.value.code == "collateral-unavailable"


def test_collateral_arrives_byte_for_byte(pcs):
    assert PcsClient(pcs).collateral(QUOTE) == COLLATERAL


def test_collateral_of_another_platform_model_is_not_served(pcs):
    with pytest.raises(UnavailableError):
        PcsClient(f"{pcs}/other").collateral(QUOTE)


def test_nobody_there_is_an_error_that_can_be_retried():
    unavailable("http://127.0.0.1:1")


@pytest.mark.parametrize(
    "answer",
    [
        lambda path: (404, {}, b""),
        lambda path: (302, {"Location": "http://127.0.0.1:1/"}, b""),
        lambda path: (200, {}, b""),
        lambda path: (200, {"SGX-PCK-CRL-Issuer-Chain": "x" * 40_000}, b"00"),
        lambda path: (200, {"SGX-PCK-CRL-Issuer-Chain": "x"}, b"\xff" * 200),
        lambda path: (200, {}, bytes(2 << 20)),
        lambda path: (200, {}, b'{"tcbInfo":{},"signature":"' + b"zz" * 64 + b'"}'),
    ],
)
def test_nonsense_is_refused(answer):
    with serving(answer) as url:
        unavailable(url)


def test_a_root_list_elsewhere_is_fetched_from_there(pcs):
    with serving(lambda path: (200, {}, COLLATERAL.root_ca_crl)) as elsewhere:
        assert PcsClient(pcs, root_crl_url=elsewhere).collateral(QUOTE) == COLLATERAL


@pytest.mark.parametrize("quote", [b"", QUOTE[:500]])
def test_a_quote_that_cannot_be_read_is_the_callers_fault(pcs, quote):
    with pytest.raises(InvalidInputError):
        PcsClient(pcs).collateral(quote)


@pytest.mark.parametrize("chain", [b"", b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"])
def test_a_quote_without_a_readable_pck_is_the_callers_fault(pcs, chain):
    quote = dataclasses.replace(QuoteV3.parse(QUOTE), certification_data=chain)
    with pytest.raises(InvalidInputError):
        PcsClient(pcs).collateral(quote.pack())


def test_a_quote_with_an_encrypted_ppid_is_the_callers_fault(pcs):
    quote = dataclasses.replace(QuoteV3.parse(QUOTE), certification_type=3)
    with pytest.raises(InvalidInputError):
        PcsClient(pcs).collateral(quote.pack())


def test_collateral_is_served_on_loopback_only():
    with pytest.raises(ValueError, match="loopback"):
        PcsServer(("0.0.0.0", 0), lambda: COLLATERAL)
