"""
Where the verifier gets its collateral from, and how long it keeps it.

Collateral is untrusted whatever brought it; keeping it only saves a fetch. The age is bounded
so that a revocation is seen within the hour, not at the end of its validity.
"""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import InvalidInputError, RefusedError, Stage
from enclave_cc.formats.dcap.certificates import split_chain
from enclave_cc.formats.dcap.collateral import MAX_COLLATERAL_BYTES, Collateral, InvalidCollateralError
from enclave_cc.formats.sgx.quote import QuoteV3
from enclave_cc.formats.sgx.structure import InvalidStructureError
from enclave_cc.transport.pcs import PcsClient

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

MAX_AGE: Final = timedelta(hours=1)
# 40 kB each; a machine has one PCK chain.
_MAX_ENTRIES: Final = 256
# How a source says that it is a service and not a file.
URL_SCHEMES: Final = ("http://", "https://")
INTEL_PCS: Final = "https://api.trustedservices.intel.com"
_INTEL_ROOT_CRL: Final = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"


@dataclass(frozen=True, slots=True)
class CollateralFile:
    """Collateral of one platform in a file, read anew for each quote so that it can be replaced."""

    path: Path

    def __call__(self, quote: bytes) -> Collateral:  # noqa: ARG002 -- the verifier checks what the file is about
        """Read the file; raise ``InvalidInputError`` (``collateral-invalid``)."""
        try:
            with self.path.open("rb") as file:
                return Collateral.from_json(file.read(MAX_COLLATERAL_BYTES + 1))
        except (OSError, InvalidCollateralError) as error:
            raise InvalidInputError(
                "collateral-invalid",
                "the collateral file is not usable",
                stage=Stage.ATTEST,
                detail=str(error),
            ) from error


@dataclass(slots=True)
class CollateralCache:
    """Keeps what ``fetch`` returned for at most ``MAX_AGE``, by the PCK chain inside the quote."""

    fetch: Callable[[bytes], Collateral]
    now: Callable[[], datetime]
    _entries: dict[bytes, tuple[datetime, Collateral]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, quote: bytes) -> Collateral:
        """Return collateral for a quote; raise ``RefusedError`` (``evidence-malformed``) when it is none."""
        now, platform = self.now(), _platform(quote)
        with self._lock:
            kept = self._entries.get(platform)
        if kept is not None and timedelta() <= now - kept[0] < MAX_AGE:
            return kept[1]
        collateral = self.fetch(quote)
        with self._lock:
            if len(self._entries) >= _MAX_ENTRIES:
                self._entries.clear()
            self._entries[platform] = (now, collateral)
        return collateral


def collateral_service(url: str, now: Callable[[], datetime]) -> CollateralCache:
    """Fetch from Intel's PCS, a PCCS or a simulated platform at this URL."""
    # Intel keeps the root's revocation list beside its PCS; others serve it themselves.
    root_crl = _INTEL_ROOT_CRL if url.rstrip("/") == INTEL_PCS else ""
    return CollateralCache(PcsClient(url, root_crl_url=root_crl).collateral, now)


def _platform(quote: bytes) -> bytes:
    """Name a platform by its certificates: their text can be written in any number of ways."""
    try:
        pem = QuoteV3.parse(quote).certification_data.rstrip(b"\0").decode("ascii")
        return hashlib.sha256(b"".join(split_chain(pem))).digest()
    except (InvalidStructureError, ValueError) as error:
        raise RefusedError(
            "evidence-malformed", "the evidence cannot be read", stage=Stage.ATTEST, detail=str(error)
        ) from error
