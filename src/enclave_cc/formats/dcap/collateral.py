"""What a verifier needs beside the quote: revocation lists, TCB information, the quoting enclave's identity.

All of it is untrusted, whatever channel brought it: the signatures inside count. The JSON form uses the
field names of dcap-qvl, so that collateral can be handed from one tool to the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from enclave_cc.core import strict_json
from enclave_cc.core.fields import FieldError, Fields

# Real collateral has about 40 kB; revocation lists grow by tens of bytes per revoked platform.
MAX_COLLATERAL_BYTES: Final = 4 << 20
# TCB information has 10 to 20 kB.
MAX_SIGNED_TEXT_CHARS: Final = 256 << 10
_MAX_DEPTH: Final = 3
_SIGNATURE_BYTES: Final = 64


class InvalidCollateralError(ValueError):
    """Collateral that cannot be read; the message names the member."""


@dataclass(frozen=True, slots=True)
class Collateral:
    """Issuer chains are PEM, leaf first; revocation lists are DER; both texts are the exact signed bytes."""

    pck_crl_issuer_chain: str
    root_ca_crl: bytes
    pck_crl: bytes
    tcb_info_issuer_chain: str
    tcb_info: str
    tcb_info_signature: bytes
    qe_identity_issuer_chain: str
    qe_identity: str
    qe_identity_signature: bytes

    def __post_init__(self) -> None:
        for text in (self.tcb_info, self.qe_identity):
            if len(text) > MAX_SIGNED_TEXT_CHARS:
                raise InvalidCollateralError("collateral: a signed text is too long")
        for signature in (self.tcb_info_signature, self.qe_identity_signature):
            if len(signature) != _SIGNATURE_BYTES:
                raise InvalidCollateralError("collateral: a signature has not 64 bytes")

    @classmethod
    def from_json(cls, data: bytes | str) -> Collateral:
        """Read the JSON form; a `pck_certificate_chain` in it is left out: the quote carries its own."""
        try:
            value = strict_json.loads(data, max_bytes=MAX_COLLATERAL_BYTES, max_depth=_MAX_DEPTH)
            fields = Fields(value, "collateral")
            return cls(
                pck_crl_issuer_chain=fields.text("pck_crl_issuer_chain"),
                root_ca_crl=_hex(fields, "root_ca_crl"),
                pck_crl=_hex(fields, "pck_crl"),
                tcb_info_issuer_chain=fields.text("tcb_info_issuer_chain"),
                tcb_info=fields.text("tcb_info"),
                tcb_info_signature=_hex(fields, "tcb_info_signature"),
                qe_identity_issuer_chain=fields.text("qe_identity_issuer_chain"),
                qe_identity=fields.text("qe_identity"),
                qe_identity_signature=_hex(fields, "qe_identity_signature"),
            )
        except (FieldError, strict_json.InvalidJsonError) as error:
            raise InvalidCollateralError(str(error)) from error

    def to_json(self) -> bytes:
        """Write the JSON form."""
        return strict_json.canonical(
            {
                "pck_crl_issuer_chain": self.pck_crl_issuer_chain,
                "root_ca_crl": self.root_ca_crl.hex(),
                "pck_crl": self.pck_crl.hex(),
                "tcb_info_issuer_chain": self.tcb_info_issuer_chain,
                "tcb_info": self.tcb_info,
                "tcb_info_signature": self.tcb_info_signature.hex(),
                "qe_identity_issuer_chain": self.qe_identity_issuer_chain,
                "qe_identity": self.qe_identity,
                "qe_identity_signature": self.qe_identity_signature.hex(),
            }
        )


def _hex(fields: Fields, name: str) -> bytes:
    try:
        return bytes.fromhex(fields.text(name))
    except ValueError as error:
        raise fields.error(name, "is not hexadecimal") from error
