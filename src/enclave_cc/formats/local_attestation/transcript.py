"""Messages and the running digest over them.

Every digest starts with the protocol's version and a label, and every part carries its length, so that no
value can be moved from one place of the protocol to another.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from enclave_cc.formats.framing import FramingError, lp, unlp
from enclave_cc.formats.jose.jws import MAX_TOKEN_CHARS
from enclave_cc.formats.local_attestation.port import refused
from enclave_cc.formats.sgx.report import REPORT_BYTES, TARGET_INFO_BYTES, Report, TargetInfo
from enclave_cc.formats.sgx.structure import InvalidStructureError

_VERSION: Final = b"enclave-cc local attestation 3"
_SUITE: Final = b"X25519 HKDF-SHA256 ChaCha20-Poly1305"
NONCE_BYTES: Final = 32
SESSION_BYTES: Final = 16
SHARE_BYTES: Final = 32
# Pod and container ids have 64 characters in containerd; Kubernetes allows names of up to 253.
_MAX_NAME_BYTES: Final = 253
# A broker's token has 1 to 4 kB, and the whole initdata besides.
MAX_TOKEN_BYTES: Final = MAX_TOKEN_CHARS
# The largest message carries a launch configuration.
MAX_MESSAGE_BYTES: Final = 1 << 20


def digest(label: bytes, *parts: bytes) -> bytes:
    """Digest of labelled parts under the protocol's version."""
    return hashlib.sha256(lp(_VERSION, label, *parts)).digest()


def report_data(label: bytes, transcript: bytes) -> bytes:
    """64 bytes of report data that bind a REPORT to a role and a transcript."""
    return hashlib.sha512(lp(_VERSION, label, transcript)).digest()


@dataclass(frozen=True, slots=True)
class Hello:
    """M1."""

    nonce: bytes
    share: bytes
    target: TargetInfo
    pod_uid: str
    container_id: str

    def pack(self) -> bytes:
        """Return the message."""
        names = (self.pod_uid.encode(), self.container_id.encode())
        return lp(_VERSION, _SUITE, self.nonce, self.share, self.target.pack(), *names)

    @classmethod
    def parse(cls, data: bytes) -> Hello:
        """Read the message; RefusedError for anything else."""
        nonce, share, target, pod_uid, container_id = _parts(data, 5)
        _sized(nonce, NONCE_BYTES)
        _sized(share, SHARE_BYTES)
        _sized(target, TARGET_INFO_BYTES)
        try:
            return cls(nonce, share, TargetInfo.parse(target), _name(pod_uid), _name(container_id))
        except InvalidStructureError as error:
            raise refused(str(error)) from error


@dataclass(frozen=True, slots=True)
class HelloReply:
    """M2 without its REPORT."""

    nonce: bytes
    session: bytes
    share: bytes
    token: bytes

    def pack(self) -> bytes:
        """Return the part of the message that the REPORT covers."""
        return lp(_VERSION, _SUITE, self.nonce, self.session, self.share, self.token)

    @classmethod
    def parse(cls, data: bytes) -> HelloReply:
        """Read that part; RefusedError for anything else."""
        nonce, session, share, token = _parts(data, 4)
        _sized(nonce, NONCE_BYTES)
        _sized(session, SESSION_BYTES)
        _sized(share, SHARE_BYTES)
        if len(token) > MAX_TOKEN_BYTES:
            raise refused("token: too long")
        return cls(nonce, session, share, token)


def split_reply(data: bytes) -> tuple[bytes, bytes]:
    """Split M2 into what its REPORT covers and the REPORT."""
    bounded(data)
    try:
        reply, report = unlp(data, count=2)
    except FramingError as error:
        raise refused(f"reply: {error}") from error
    return reply, report


def parse_report(data: bytes) -> Report:
    """Read a REPORT; RefusedError for anything else."""
    _sized(data, REPORT_BYTES)
    try:
        return Report.parse(data)
    except InvalidStructureError as error:
        raise refused(str(error)) from error


def bounded(data: bytes) -> None:
    """Refuse a message that is longer than any of ours."""
    if len(data) > MAX_MESSAGE_BYTES:
        raise refused("message: too long")


def _parts(data: bytes, count: int) -> tuple[bytes, ...]:
    bounded(data)
    try:
        version, suite, *parts = unlp(data, count=count + 2)
    except FramingError as error:
        raise refused(f"message: {error}") from error
    if (version, suite) != (_VERSION, _SUITE):
        raise refused("message: another protocol version or suite")
    return tuple(parts)


def _sized(data: bytes, length: int) -> None:
    if len(data) != length:
        raise refused(f"message: a part of {len(data)} bytes instead of {length}")


def _name(data: bytes) -> str:
    if not 1 <= len(data) <= _MAX_NAME_BYTES or not data.isascii():
        raise refused("message: a name is empty, too long or not ASCII")
    return data.decode("ascii")
