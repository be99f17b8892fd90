"""
A signature as it was found: what was signed, with what beside it. Nothing here is verified yet.

Every place that signatures come from is read into this one shape, so that they are verified in one way.
The claim inside means nothing before the signature over ``message`` verified; ``claims`` is for
callers that did that.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from enclave_cc.core.digest import Digest
from enclave_cc.formats.signatures.claim import SignedClaim
from enclave_cc.formats.sigstore.statement import read_statement

if TYPE_CHECKING:
    from enclave_cc.formats.sigstore.rekor import LogEntry


class Content(Enum):
    """What the signed bytes are."""

    PAYLOAD = "a cosign payload"
    STATEMENT = "an in-toto statement"
    MANIFEST = "the manifest itself"


@dataclass(frozen=True, slots=True)
class DetachedSignature:
    """
    A signature over ``message``; ``body`` is the document inside it.

    ``certificates`` are DER, the signer's first; without any, a key of the policy has to fit.
    """

    content: Content
    message: bytes
    body: bytes
    signature: bytes
    certificates: tuple[bytes, ...] = ()
    log_entries: tuple[LogEntry, ...] = ()
    timestamps: tuple[bytes, ...] = ()

    def claims(self) -> tuple[SignedClaim, ...]:
        """Read what an authentic signature says; raise ``InvalidInputError`` (signature-invalid)."""
        match self.content:
            case Content.PAYLOAD:
                return (SignedClaim.parse(self.body),)
            case Content.STATEMENT:
                return read_statement(self.body)
            case Content.MANIFEST:
                return (SignedClaim(Digest.of(self.body), ""),)
