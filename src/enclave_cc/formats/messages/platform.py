"""What the simulated SGX platform answers; who asks is known from the socket, never from the message."""

from __future__ import annotations

from enclave_cc.formats.messages.service import Method, Service
from enclave_cc.formats.protobuf import BYTES, EMPTY, STRING, UINT, Schema

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

PLATFORM_SERVICE: Final = Service(
    "enclavecc.platform.v1.SimulatedSgx",
    {
        # ECREATE and EINIT in one: only the superuser may launch, and only another process.
        "Launch": Method(
            Schema(
                "LaunchRequest",
                {1: ("pid", UINT), 2: ("bundle", STRING), 3: ("initdata", BYTES), 4: ("config_id", BYTES)},
            ),
            Schema("LaunchResponse", {1: ("mr_enclave", BYTES)}),
        ),
        "Identity": Method(
            EMPTY, Schema("IdentityResponse", {1: ("body", BYTES), 2: ("initdata_digest", BYTES)})
        ),
        "Report": Method(
            Schema("ReportRequest", {1: ("target_info", BYTES), 2: ("report_data", BYTES)}),
            Schema("ReportResponse", {1: ("report", BYTES)}),
        ),
        "GetKey": Method(
            Schema("GetKeyRequest", {1: ("key_request", BYTES)}),
            Schema("GetKeyResponse", {1: ("key", BYTES)}),
        ),
        "Quote": Method(
            Schema("QuoteRequest", {1: ("report_data", BYTES)}),
            Schema("QuoteResponse", {1: ("quote", BYTES)}),
        ),
        "Collateral": Method(
            EMPTY, Schema("CollateralResponse", {1: ("collateral", BYTES), 2: ("root", BYTES)})
        ),
    },
)
