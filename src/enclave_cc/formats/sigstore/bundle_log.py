"""A log entry inside a bundle: protobuf's JSON of dev.sigstore.rekor.v1.TransparencyLogEntry."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from enclave_cc.formats.oci.edge import decode_base64
from enclave_cc.formats.sigstore.merkle import MAX_PATH
from enclave_cc.formats.sigstore.rekor import MAX_TIME, InclusionProof, LogEntry

if TYPE_CHECKING:
    from enclave_cc.core.fields import Fields

_INTEGER: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


def read_log_entry(fields: Fields) -> LogEntry:
    """Read an entry; raise ``ValueError``."""
    fields.only(
        "logIndex",
        "logId",
        "kindVersion",
        "integratedTime",
        "inclusionPromise",
        "inclusionProof",
        "canonicalizedBody",
    )
    promise = fields.object("inclusionPromise")
    promise.only("signedEntryTimestamp")
    integrated = _integer(fields, "integratedTime")
    if integrated > MAX_TIME:
        raise fields.error("integratedTime", "is no time")
    return LogEntry(
        log_id=decode_base64(fields.object("logId").text("keyId"), "logId"),
        log_index=_integer(fields, "logIndex"),
        integrated_time=integrated,
        body=decode_base64(fields.text("canonicalizedBody"), "canonicalizedBody"),
        promise=decode_base64(promise.text("signedEntryTimestamp", default=""), "promise"),
        proof=_proof(fields.object("inclusionProof")) if fields.has("inclusionProof") else None,
    )


def _proof(fields: Fields) -> InclusionProof:
    fields.only("logIndex", "rootHash", "treeSize", "hashes", "checkpoint")
    hashes = fields.texts("hashes")
    if len(hashes) > MAX_PATH:
        raise fields.error("hashes", "is longer than any path")
    checkpoint = fields.object("checkpoint")
    checkpoint.only("envelope")
    return InclusionProof(
        log_index=_integer(fields, "logIndex"),
        tree_size=_integer(fields, "treeSize"),
        root_hash=decode_base64(fields.text("rootHash"), "rootHash"),
        hashes=tuple(decode_base64(text, "hashes") for text in hashes),
        checkpoint=checkpoint.text("envelope"),
    )


def _integer(fields: Fields, name: str) -> int:
    """Read a 64-bit integer, which protobuf's JSON writes as a text; an absent one is zero."""
    value = fields.raw(name)
    if value is None:
        return 0
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise fields.error(name, "is not an unsigned integer")
