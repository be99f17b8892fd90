"""SGX evidence as Confidential Containers' attester writes it: `{"quote": <standard base64>}`."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import InvalidInputError, Stage

if TYPE_CHECKING:
    from enclave_cc.enclave.attester.port import Evidence
    from enclave_cc.platform.port import Processor

_REPORT_DATA_BYTES: Final = 64


class SgxAttester:
    """Attester over a processor; simulated evidence carries its own TEE name, never `sgx`."""

    def __init__(self, processor: Processor) -> None:
        self._processor = processor

    @property
    def tee(self) -> str:
        """Kind of TEE as the broker's protocol names it."""
        return self._processor.tee.value

    def evidence(self, report_data: bytes) -> Evidence:
        """Quote over `report_data`; InvalidInputError if it is longer than 64 bytes."""
        if len(report_data) > _REPORT_DATA_BYTES:
            raise InvalidInputError(
                "invalid-request", "report data is longer than 64 bytes", stage=Stage.ATTEST
            )
        quote = self._processor.quote(report_data.ljust(_REPORT_DATA_BYTES, b"\0"))
        return {"quote": base64.b64encode(quote).decode("ascii")}
