"""Bytes on their way from a place: counted and digested while they pass, judged at their end."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from enclave_cc.core.errors import RefusedError, Stage
from enclave_cc.core.findings import Outcome, equal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from enclave_cc.core.digest import Digest
    from enclave_cc.core.findings import Finding
    from enclave_cc.formats.oci.descriptor import Descriptor


def checked(chunks: Iterable[bytes], descriptor: Descriptor) -> Iterator[bytes]:
    """Pass a blob on; raise ``RefusedError`` (digest-mismatch) as soon as it is too long, or at its end."""
    digest, size = hashlib.new(descriptor.digest.algorithm), 0
    for chunk in chunks:
        size += len(chunk)
        if size > descriptor.size:
            break
        digest.update(chunk)
        yield chunk
    require(equal("blob.size", expected=str(descriptor.size), actual=str(size)))
    actual = f"{descriptor.digest.algorithm}:{digest.hexdigest()}"
    require(equal("blob.digest", expected=str(descriptor.digest), actual=actual))


def require_digest(actual: Digest, wanted: Digest | None) -> None:
    """Refuse a stored blob that is not the one announced."""
    if wanted is not None:
        require(equal("blob.digest", expected=str(wanted), actual=str(actual)))


def require(finding: Finding) -> None:
    """Raise ``RefusedError`` (digest-mismatch) for a finding that failed."""
    if finding.outcome is not Outcome.PASSED:
        raise RefusedError(
            "digest-mismatch",
            "bytes do not match their digest",
            stage=Stage.VERIFY,
            detail=f"{finding.rule}: expected {finding.expected}, found {finding.actual}",
            findings=(finding,),
        )
