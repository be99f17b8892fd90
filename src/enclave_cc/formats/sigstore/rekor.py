"""
Entries of a Rekor transparency log, version 1 or 2, and what they prove offline.

An entry proves that the log saw a signature: by the log's promise (SET, a signature over the entry with
its time), by an inclusion proof up to a signed checkpoint, or by both. It means something only if
its body is about the very signature, key and message at hand; ``verify_entry`` does all of that.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enclave_cc.core import strict_json
from enclave_cc.formats.sigstore import checkpoint, merkle, rekor_body

if TYPE_CHECKING:
    from collections.abc import Collection

    from enclave_cc.formats.signatures.public_key import PublicKey
    from enclave_cc.formats.sigstore.detached import DetachedSignature


# The last second of the year 9999, beyond which times cannot be written.
MAX_TIME: Final = 253_402_300_799


class LogError(ValueError):
    """A log entry does not prove what it has to."""


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """A path from the entry to the root of a tree, and the log's signed word for that root."""

    log_index: int
    tree_size: int
    root_hash: bytes
    hashes: tuple[bytes, ...]
    checkpoint: str


@dataclass(frozen=True, slots=True)
class LogEntry:
    """An entry as it was found; ``integrated_time`` is zero where the log states none."""

    log_id: bytes
    log_index: int
    integrated_time: int
    body: bytes
    promise: bytes = b""
    proof: InclusionProof | None = None


@dataclass(frozen=True, slots=True)
class LogKey:
    """
    A pinned log: its key and, in seconds, the time in which it was in use.

    ``named`` is what it calls itself in entries and checkpoints, if that is not the SHA-256 of its key.
    """

    key: PublicKey
    start: int = 0
    end: int | None = None
    named: bytes = b""

    @property
    def log_id(self) -> bytes:
        """Return what entries name the log by."""
        return self.named or self.key.key_id

    @property
    def is_limited(self) -> bool:
        """Tell whether there are times at which the log was not in use."""
        return self.start > 0 or self.end is not None

    def covers(self, when: int) -> bool:
        """Tell whether the log was in use at a time."""
        return self.start <= when and (self.end is None or when <= self.end)


def verify_entry(
    entry: LogEntry,
    found: DetachedSignature,
    signer_pem: bytes,
    logs: Collection[LogKey],
    *,
    stamped: int | None = None,
) -> int | None:
    """
    Verify that a pinned log saw this signature; return the time it vouches for, None without one.

    ``stamped`` is a time that somebody else vouches for: a log of version 2 states none.

    (1) The log is pinned and was in use at the time.
    (2) It promised the entry with its time (SET), and the promise verifies where there is one.
    (3) The entry is in its tree, up to a checkpoint that it signed, where there is a proof.
    (4) One of both is there.
    (5) The entry is about this signature, this key and this message.

    Raises ``LogError``.
    """
    # (1) The log. Only a promise covers the entry's time; beside a proof alone it is anybody's word.
    stated = entry.integrated_time if entry.promise else None
    log = _pinned(entry, logs, stated or stamped)
    # (4) Something proves it.
    if not entry.promise and entry.proof is None:
        raise LogError("the log entry has neither a promise nor a proof")
    # (2) The promise.
    if entry.promise and not log.key.has_signed(promised_bytes(entry), entry.promise):
        raise LogError("the log's promise does not verify")
    try:
        # (3) The tree.
        if entry.proof is not None:
            _verify_inclusion(entry, entry.proof, log)
        # (5) What the entry is about.
        rekor_body.verify_about(entry.body, found, signer_pem)
    except ValueError as error:
        raise LogError(str(error)) from error
    return stated


def _pinned(entry: LogEntry, logs: Collection[LogKey], when: int | None) -> LogKey:
    for log in logs:
        if log.log_id == entry.log_id:
            if when is None and log.is_limited:
                raise LogError("neither the log nor a pinned authority states the time")
            if when is not None and not log.covers(when):
                raise LogError("the log was not in use at the time of the entry")
            return log
    raise LogError("the entry is of a log that is not pinned")


def promised_bytes(entry: LogEntry) -> bytes:
    """Return what the log signs as its promise: canonical JSON of four members."""
    return strict_json.canonical(
        {
            "body": base64.b64encode(entry.body).decode("ascii"),
            "integratedTime": entry.integrated_time,
            "logID": entry.log_id.hex(),
            "logIndex": entry.log_index,
        }
    )


def _verify_inclusion(entry: LogEntry, proof: InclusionProof, log: LogKey) -> None:
    """RFC 6962, 2.1.1, and the C2SP's tlog-checkpoint: the path leads to a root that the log signed."""
    signed = checkpoint.verify(proof.checkpoint, log.key, log_id=log.log_id)
    if (signed.size, signed.root_hash) != (proof.tree_size, proof.root_hash):
        raise ValueError("the checkpoint is of another tree than the proof")
    root = merkle.root_from_path(
        merkle.leaf_hash(entry.body), index=proof.log_index, size=proof.tree_size, path=proof.hashes
    )
    if root != proof.root_hash:
        raise ValueError("the inclusion proof does not lead to the tree's root")
