"""Our key provider without its server: one document in, one document out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import Stage
from enclave_cc.formats.oci.edge import foreign
from enclave_cc.formats.ocicrypt.annotation_packet import AnnotationPacket
from enclave_cc.formats.ocicrypt.keyprovider import (
    UNWRAP,
    WRAP,
    UnwrapRequest,
    WrapRequest,
    encode_unwrapped,
    encode_wrapped,
    parse_request,
)
from enclave_cc.formats.ocicrypt.layer_cipher import PrivateOptions
from enclave_cc.image.keys.schemes import BrokerPackets
from enclave_cc.tenant.keyproviders.failures import refused
from enclave_cc.tenant.keyproviders.wrap_parameters import WrapParameters

if TYPE_CHECKING:
    from enclave_cc.tenant.keyproviders.served_keys import ServedKeys

_REQUEST: Final = "a request to the key provider cannot be read"


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back, and the name of the key that was used."""

    document: bytes
    key_id: str


class KeyProvider:
    """Wraps layer keys into packets of version 1, and opens packets of both versions."""

    def __init__(self, keys: ServedKeys) -> None:
        self._keys = keys

    def answer(self, method: str, document: bytes) -> Answer:
        """Answer one call; raise the error family. The method and the document must ask for the same."""
        with foreign("keyprovider-request-invalid", _REQUEST, stage=Stage.REQUEST):
            request = parse_request(document)
        match request:
            case WrapRequest() if method == WRAP:
                return self._wrap(request)
            case UnwrapRequest() if method == UNWRAP:
                return self._unwrap(request)
            case _:
                raise refused(f"{method}: the document asks for something else")

    def _wrap(self, request: WrapRequest) -> Answer:
        # Parsed first: what is wrapped here must be options that an agent can read.
        options = PrivateOptions.parse(request.options)
        key = self._keys.for_wrapping(WrapParameters.parse(request.parameters))
        try:
            return Answer(encode_wrapped(key.wrap(options)), key.kid)
        finally:
            key.kek.wipe()
            options.symkey.wipe()

    def _unwrap(self, request: UnwrapRequest) -> Answer:
        packet = AnnotationPacket.parse(request.item)
        (attempt,) = BrokerPackets(self._keys).attempts(request.item)
        options = attempt.unwrap()
        try:
            return Answer(encode_unwrapped(options.encode()), packet.kid)
        finally:
            options.symkey.wipe()
