"""
The documents of ocicrypt's key provider protocol: who wraps asks with one, who can answers with another.

Bytes in them are base64 when a Go program wrote them and arrays of integers when a Rust program did; both
are read. Requests are written in base64, which both read, answers as integers, because Rust reads nothing
else. A request to unwrap carries the parameters of its provider only: ocicrypt's own callers hand every
private key they have to every provider.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enclave_cc.formats.messages.service import Method, Service
from enclave_cc.formats.oci.edge import decode_base64, read_object
from enclave_cc.formats.ocicrypt.wrapping import KEYS_PREFIX, MAX_ITEM_BYTES
from enclave_cc.formats.protobuf import BYTES, Schema

if TYPE_CHECKING:
    from collections.abc import Mapping

    from enclave_cc.core.fields import Fields

PROVIDER_PREFIX: Final = f"{KEYS_PREFIX}provider."
# A byte as an integer takes at most four characters; what else is in a document is short.
MAX_DOCUMENT_BYTES: Final = 8 * MAX_ITEM_BYTES
WRAP: Final = "WrapKey"
UNWRAP: Final = "UnWrapKey"

_WRAP: Final = "keywrap"
_UNWRAP: Final = "keyunwrap"
_BYTE: Final = range(256)

_INPUT: Final = Schema("keyProviderKeyWrapProtocolInput", {1: ("document", BYTES)})
_OUTPUT: Final = Schema("keyProviderKeyWrapProtocolOutput", {1: ("document", BYTES)})
KEY_PROVIDER_SERVICE: Final = Service(
    "keyprovider.KeyProviderService", {name: Method(_INPUT, _OUTPUT) for name in (WRAP, UNWRAP)}
)

Parameters = dict[str, tuple[bytes, ...]]


@dataclass(frozen=True, slots=True)
class WrapRequest:
    """Wrap these private options; the parameters say for whom, in the provider's own words."""

    parameters: Parameters
    options: bytes

    def encode(self) -> bytes:
        """Write the document."""
        ec = {"Parameters": _texts(self.parameters), "DecryptConfig": {"Parameters": {}}}
        return _document(_WRAP, wrap={"ec": ec, "optsdata": _base64(self.options)})


@dataclass(frozen=True, slots=True)
class UnwrapRequest:
    """Open this item."""

    parameters: Parameters
    item: bytes

    def encode(self) -> bytes:
        """Write the document."""
        dc = {"Parameters": _texts(self.parameters)}
        return _document(_UNWRAP, unwrap={"dc": dc, "annotation": _base64(self.item)})


def parse_request(data: bytes) -> WrapRequest | UnwrapRequest:
    """Read what a caller sent; raise ``ValueError`` for anything that is no request."""
    fields = read_object(data, "request", max_bytes=MAX_DOCUMENT_BYTES)
    match fields.text("op"):
        case "keywrap":
            wrap = fields.object("keywrapparams")
            return WrapRequest(_parameters(wrap.object("ec")), _bytes(wrap, "optsdata"))
        case "keyunwrap":
            unwrap = fields.object("keyunwrapparams")
            return UnwrapRequest(_parameters(unwrap.object("dc")), _bytes(unwrap, "annotation"))
        case _:
            raise fields.error("op", "is not known here")


def encode_wrapped(item: bytes) -> bytes:
    """Write the answer to a request to wrap."""
    return json.dumps({"keywrapresults": {"annotation": list(item)}}, separators=(",", ":")).encode()


def encode_unwrapped(options: bytes) -> bytes:
    """Write the answer to a request to unwrap."""
    return json.dumps({"keyunwrapresults": {"optsdata": list(options)}}, separators=(",", ":")).encode()


def parse_wrapped(data: bytes) -> bytes:
    """Read the item from an answer; raise ``ValueError``."""
    fields = read_object(data, "answer", max_bytes=MAX_DOCUMENT_BYTES)
    return _bytes(fields.object("keywrapresults"), "annotation")


def parse_unwrapped(data: bytes) -> bytes:
    """Read the private options from an answer; raise ``ValueError``."""
    fields = read_object(data, "answer", max_bytes=MAX_DOCUMENT_BYTES)
    return _bytes(fields.object("keyunwrapresults"), "optsdata")


def _parameters(config: Fields) -> Parameters:
    """Read the parameters of all providers: each has a list of base64 texts."""
    fields = config.object("Parameters")
    return {
        name: tuple(decode_base64(text, f"Parameters.{name}") for text in fields.texts(name))
        for name in fields.names()
    }


def _bytes(fields: Fields, name: str) -> bytes:
    """Read a non-empty value in either form."""
    match fields.raw(name):
        case str() as text if text:
            return decode_base64(text, name)
        case list() as numbers if numbers:
            if not all(type(number) is int and number in _BYTE for number in numbers):
                raise fields.error(name, "holds something that is not a byte")
            return bytes(number for number in numbers if isinstance(number, int))
        case _:
            raise fields.error(name, "is missing")


def _document(
    operation: str,
    *,
    wrap: Mapping[str, object] | None = None,
    unwrap: Mapping[str, object] | None = None,
) -> bytes:
    """Write a request as Go does: the part that is not asked for is there and empty."""
    members = {
        "op": operation,
        "keywrapparams": wrap or {"ec": None, "optsdata": None},
        "keyunwrapparams": unwrap or {"dc": None, "annotation": None},
    }
    return json.dumps(members, separators=(",", ":")).encode()


def _texts(parameters: Parameters) -> dict[str, list[str]]:
    return {name: [_base64(value) for value in values] for name, values in parameters.items()}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
