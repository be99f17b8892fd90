"""Fetches collateral for a quote from Intel's PCS v4, a PCCS, or the simulated platform.

Nothing is checked here: collateral is untrusted whatever channel brought it, and the quote verifier checks
all of it.
"""

from __future__ import annotations

import time
import urllib.parse
from typing import TYPE_CHECKING, Final

import urllib3
from cryptography import x509
from cryptography.x509.oid import NameOID

from enclave_cc.core.errors import InvalidInputError, Stage, UnavailableError
from enclave_cc.formats.dcap.collateral import Collateral, InvalidCollateralError
from enclave_cc.formats.sgx.pck_extension import SGX_EXTENSION_OID, PckExtension
from enclave_cc.formats.sgx.quote import PCK_CHAIN_PEM, QuoteV3

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

_PATH: Final = "/sgx/certification/v4/"
# The largest document (TCB information) has 20 kB.
_MAX_BODY_BYTES: Final = 1 << 20
_MAX_CHAIN_CHARS: Final = 32 << 10
_SIGNATURE_HEX_CHARS: Final = 128
_OK: Final = 200
_READ_BYTES: Final = 64 << 10
_EXTENSION: Final = x509.ObjectIdentifier(SGX_EXTENSION_OID)


class PcsClient:
    """Client of one collateral service.

    `root_crl_url`: where the root's revocation list is; a PCCS serves it itself, Intel's PCS does not.
    """

    def __init__(
        self, base_url: str, *, ca_pem: str = "", root_crl_url: str = "", timeout_s: float = 10
    ) -> None:
        self._timeout_s = timeout_s
        self._base = base_url.rstrip("/") + _PATH
        self._root_crl_url = root_crl_url or f"{self._base}rootcacrl"
        # Collateral is signed, but a wrong answer costs an outage: certificates are checked too.
        self._http = urllib3.PoolManager(
            num_pools=2,
            timeout=urllib3.Timeout(total=timeout_s),
            retries=False,
            ca_cert_data=ca_pem or None,
        )

    def collateral(self, quote: bytes) -> Collateral:
        """Fetch what verifying `quote` needs; InvalidInputError for a quote without a PCK chain."""
        fmspc, ca = _platform_of(quote)
        pck_crl, crl_headers = self._get(f"{self._base}pckcrl?ca={ca}&encoding=der")
        root_crl, _ = self._get(self._root_crl_url)
        tcb, tcb_headers = self._get(f"{self._base}tcb?fmspc={fmspc}")
        identity, identity_headers = self._get(f"{self._base}qe/identity")
        tcb_text, tcb_signature = _signed(tcb, "tcbInfo")
        identity_text, identity_signature = _signed(identity, "enclaveIdentity")
        try:
            return Collateral(
                pck_crl_issuer_chain=_chain(crl_headers, "SGX-PCK-CRL-Issuer-Chain"),
                root_ca_crl=_der(root_crl),
                pck_crl=_der(pck_crl),
                tcb_info_issuer_chain=_chain(
                    tcb_headers, "TCB-Info-Issuer-Chain", "SGX-TCB-Info-Issuer-Chain"
                ),
                tcb_info=tcb_text,
                tcb_info_signature=tcb_signature,
                qe_identity_issuer_chain=_chain(identity_headers, "SGX-Enclave-Identity-Issuer-Chain"),
                qe_identity=identity_text,
                qe_identity_signature=identity_signature,
            )
        except InvalidCollateralError as error:
            raise _unavailable("the collateral service answered nonsense", str(error)) from error

    def _get(self, url: str) -> tuple[bytes, urllib3.HTTPHeaderDict]:
        try:
            response = self._http.request("GET", url, preload_content=False, redirect=False)
            try:
                return _body(response, url, time.monotonic() + self._timeout_s), response.headers
            finally:
                # A body that was not read to its end must not become the next answer.
                response.close()
        except urllib3.exceptions.HTTPError as error:
            raise _unavailable("the collateral service does not answer", f"{url}: {error}") from error


def _body(response: BaseHTTPResponse, url: str, deadline: float) -> bytes:
    if response.status != _OK:
        raise _unavailable("the collateral service refused a request", f"{url}: status {response.status}")
    body = bytearray()
    while chunk := response.read1(_READ_BYTES, decode_content=False):
        body += chunk
        if len(body) > _MAX_BODY_BYTES:
            raise _unavailable("the collateral service answered too much", url)
        if time.monotonic() > deadline:
            raise _unavailable("the collateral service is too slow", url)
    return bytes(body)


def _platform_of(quote: bytes) -> tuple[str, str]:
    """FMSPC in hexadecimal and kind of CA, both unchecked: they only choose what to fetch."""
    try:
        parsed = QuoteV3.parse(quote)
        if parsed.certification_type != PCK_CHAIN_PEM:
            raise ValueError("no PCK chain")  # noqa: TRY301 - one place turns all reasons into one error
        leaf = x509.load_pem_x509_certificates(parsed.certification_data.rstrip(b"\0"))[0]
        extension = leaf.extensions.get_extension_for_oid(_EXTENSION).value.public_bytes()
        names = leaf.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
        issuer = str(names[0].value) if names else ""
        return PckExtension.parse(extension).fmspc.hex().upper(), _ca_of(issuer)
    except (ValueError, TypeError, x509.ExtensionNotFound) as error:
        raise InvalidInputError(
            "quote-malformed", "the quote cannot be read", stage=Stage.ATTEST, detail=str(error)
        ) from error


def _ca_of(issuer: str) -> str:
    return "platform" if "Platform" in issuer else "processor"


def _signed(body: bytes, name: str) -> tuple[str, bytes]:
    """Cut the signed text out byte for byte: `{"<name>":<text>,"signature":"<hex>"}`."""
    prefix, middle, suffix = f'{{"{name}":', ',"signature":"', '"}'
    text = body.decode("utf-8", errors="replace").strip()
    inner = text[len(prefix) : -(len(middle) + _SIGNATURE_HEX_CHARS + len(suffix))]
    signature = text[-(_SIGNATURE_HEX_CHARS + len(suffix)) : -len(suffix)]
    if text != f"{prefix}{inner}{middle}{signature}{suffix}":
        raise _unavailable("the collateral service answered nonsense", f"{name}: unexpected form")
    try:
        return inner, bytes.fromhex(signature)
    except ValueError as error:
        raise _unavailable("the collateral service answered nonsense", f"{name}: signature") from error


def _chain(headers: urllib3.HTTPHeaderDict, *names: str) -> str:
    for name in names:
        value = headers.get(name)
        if value is not None and len(value) <= _MAX_CHAIN_CHARS:
            return urllib.parse.unquote(value)
    raise _unavailable("the collateral service answered nonsense", f"{names[0]} is missing")


def _der(body: bytes) -> bytes:
    """Read hexadecimal as a PCCS serves it, or DER as Intel's PCS does."""
    try:
        return bytes.fromhex(body.decode("ascii"))
    except ValueError:
        return body


def _unavailable(summary: str, detail: str) -> UnavailableError:
    return UnavailableError("collateral-unavailable", summary, stage=Stage.ATTEST, detail=detail)
