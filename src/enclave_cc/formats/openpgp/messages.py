"""
OpenPGP signatures over simple-signing payloads, verified by Sequoia under rules of our own on top.

Sequoia decides at the time a signature was made: a key that expired or was retired later still counts for
it. Here a key that is expired or revoked *now* is refused, because nothing proves when a signature was made.
What a message says about itself is read only to refuse, and to say why.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from enclave_cc.core.errors import InvalidInputError, Stage
from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.formats.openpgp.packets import plain_message
from enclave_cc.formats.sigstore.keyless import KEY_RULE

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator, Mapping, Sequence
    from types import ModuleType

    from pysequoia import Cert
    from pysequoia.packet import Packet

MESSAGE_RULE: Final = "image.signature.message"
HASH_RULE: Final = "image.signature.hash"
STATUS_RULE: Final = "image.signature.key-status"
EXPIRY_RULE: Final = "image.signature.expiry"

MAX_KEYRING_BYTES: Final = 1 << 20
_MAX_KEYS: Final = 64
_STRONG: Final = ("SHA256", "SHA384", "SHA512", "SHA3_256", "SHA3_512")


@dataclass(frozen=True, slots=True)
class Key:
    """
    One certificate of a keyring.

    ``problems`` has, by fingerprint, why its primary key or a subkey does not count, empty for those that do.
    """

    cert: Cert
    fingerprint: str
    problems: Mapping[str, str]

    def made(self, issuer: str) -> bool:
        """Tell whether an issuer, a fingerprint or a key id, names one of its keys."""
        return bool(issuer) and any(name.endswith(issuer) for name in self.problems)

    def problem(self, fingerprint: str) -> str:
        """Say why one of its keys does not count, empty if it does; an unknown one does not."""
        return self.problems.get(fingerprint, "a key that is not in the ring")


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys that a policy names."""

    keys: tuple[Key, ...]

    @classmethod
    def parse(cls, data: bytes, *, now: dt.datetime) -> Self:
        """Read certificates, binary or armored; raise ``InvalidInputError`` (signature-key-invalid)."""
        try:
            return cls(tuple(_key(cert, now) for cert in _certs(data)))
        except (ValueError, TypeError, RuntimeError, OverflowError) as error:
            raise InvalidInputError(
                "signature-key-invalid",
                "a signature verification key is malformed or of an unknown kind",
                stage=Stage.POLICY,
                detail=_first_line(error),
            ) from error


@dataclass(frozen=True, slots=True)
class SignedMessage:
    """A message as it was found; ``payload`` is authentic only after ``steps`` all passed."""

    data: bytes
    payload: bytes
    issuers: tuple[str, ...]
    hash_name: str
    expires: dt.datetime | None

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Read a message; raise ``ValueError`` for what is no message of the one accepted shape."""
        plain = plain_message(data)
        try:
            packets = list(_packets(plain))
            signature = next(one for one in packets if one.tag == _tag("Signature"))
            literal = next(one for one in packets if one.tag == _tag("Literal"))
            hinted = (signature.issuer_fingerprint, signature.issuer_key_id)
            return cls(
                data=plain,
                payload=literal.literal_data or b"",
                issuers=tuple(hint for hint in hinted if hint),
                hash_name=str(signature.hash_algorithm).rpartition(".")[2],
                expires=signature.signature_expiration_time,
            )
        except (RuntimeError, StopIteration, OverflowError) as error:
            raise ValueError(_first_line(error) or "an unreadable signature") from error


def verify_message(message: SignedMessage, keyring: Keyring, *, now: dt.datetime) -> Iterator[Finding]:
    """
    Verify a message under a keyring; yield the finding of each step, ending with the first that failed.

    (1) The hash is a strong one: no SHA-1, no MD5.
    (2) The issuer it names is in the keyring.
    (3) That certificate is neither revoked nor expired now.
    (4) The signature has not expired.
    (5) It verifies under that certificate, and covers the payload.
    (6) The subkey that signed, if it was one, is neither revoked nor expired now.
    """
    # (1) The hash.
    strong = message.hash_name in _STRONG
    yield Finding(HASH_RULE, _outcome(strong), " or ".join(_STRONG), message.hash_name)
    # (2) The issuer.
    expected = " or ".join(key.fingerprint for key in keyring.keys)
    known = next((key for key in keyring.keys if any(map(key.made, message.issuers))), None)
    if known is None:
        yield Finding(KEY_RULE, Outcome.FAILED, expected, " ".join(message.issuers) or "an unnamed key")
        return
    # (3) The state of the primary key, which everything else hangs on.
    copies = [key for key in keyring.keys if key.fingerprint == known.fingerprint]
    yield _state(copies, known.fingerprint)
    # (4) The signature's own end.
    ended = message.expires is not None and message.expires <= now
    shown = "never ends" if message.expires is None else message.expires.isoformat()
    yield Finding(EXPIRY_RULE, _outcome(not ended), f"later than {now.isoformat()}", shown)
    # (5) The signature.
    signer, problem = _signer(message, known)
    yield Finding(KEY_RULE, _outcome(not problem), expected, problem or signer)
    # (6) The state of the subkey that signed; only now is it known which one did.
    if not problem and signer != known.fingerprint:
        yield _state([key for key in copies if signer in key.problems], signer)


def _state(copies: Sequence[Key], fingerprint: str) -> Finding:
    """Hear every copy of a certificate: the revocation may stand in another keyring than the key."""
    problem = next((said for key in copies if (said := key.problem(fingerprint))), "")
    return Finding(STATUS_RULE, _outcome(not problem), "a valid key", problem or f"{fingerprint} is valid")


def _signer(message: SignedMessage, key: Key) -> tuple[str, str]:
    """Let Sequoia verify; return which key signed, or why nothing verifies."""
    try:
        result = _sequoia().verify(message.data, lambda _: [key.cert])
    except (RuntimeError, ValueError, TypeError, OverflowError) as error:
        return "", _first_line(error)
    signers = [one.signing_key for one in result.valid_sigs if one.certificate == key.fingerprint]
    if len(signers) != 1:
        return "", "a signature by another key"
    if result.bytes != message.payload:
        return "", "a signature over another payload"
    return signers[0], ""


def _certs(data: bytes) -> list[Cert]:
    if len(data) > MAX_KEYRING_BYTES:
        raise ValueError("larger than any keyring")
    secret = (_tag("SecretKey"), _tag("SecretSubkey"))
    if any(packet.tag in secret for packet in _packets(data)):
        raise ValueError("a secret key")
    certs: list[Cert] = _sequoia().Cert.split_bytes(data)
    if not 0 < len(certs) <= _MAX_KEYS:
        raise ValueError("no key, or too many")
    return certs


def _key(cert: Cert, now: dt.datetime) -> Key:
    """Read a certificate; the packets after a key, up to the next one, are about it."""
    problems, parts = {}, [cert.fingerprint]
    by_key: dict[str, list[Packet]] = {cert.fingerprint: []}
    for packet in _packets(bytes(cert)):
        if packet.tag == _tag("PublicSubkey") and packet.fingerprint:
            parts.append(packet.fingerprint)
        by_key.setdefault(parts[-1], []).append(packet)
    for fingerprint, packets in by_key.items():
        problems[fingerprint] = _subkey_problem(packets, now)
    problems[cert.fingerprint] = _primary_problem(cert, by_key[cert.fingerprint], now)
    return Key(cert, cert.fingerprint, problems)


def _primary_problem(cert: Cert, packets: list[Packet], now: dt.datetime) -> str:
    """
    Say why a certificate does not count now, empty if it does.

    Any revocation is heard, also one that Sequoia would limit to later signatures: in a keyring that an owner
    chose, nobody else's is.
    """
    if cert.is_revoked or "KeyRevocation" in _kinds(packets):
        return "a revoked key"
    if cert.expiration is not None and cert.expiration <= now:
        return f"a key that expired at {cert.expiration.isoformat()}"
    return ""


def _subkey_problem(packets: list[Packet], now: dt.datetime) -> str:
    """Say why a subkey does not count now; its newest binding says when it ends."""
    if "SubkeyRevocation" in _kinds(packets):
        return "a revoked subkey"
    created = next((one.key_created for one in packets if one.key_created), None)
    bindings = [one for one in packets if one.tag == _tag("Signature") and one.signature_created]
    newest = max(bindings, key=_created, default=None)
    period = newest.key_validity_period if newest is not None else None
    if created is not None and period and created + period <= now:
        return f"a subkey that expired at {(created + period).isoformat()}"
    return ""


def _created(packet: Packet) -> float:
    return packet.signature_created.timestamp() if packet.signature_created else 0.0


def _kinds(packets: list[Packet]) -> set[str]:
    """Name the kinds of signatures among packets."""
    signatures = (one for one in packets if one.tag == _tag("Signature"))
    return {str(one.signature_type).rpartition(".")[2] for one in signatures}


def _packets(data: bytes) -> Iterator[Packet]:
    from pysequoia.packet import PacketPile  # noqa: PLC0415  # as in _sequoia

    yield from PacketPile.from_bytes(data)


def _tag(name: str) -> object:
    from pysequoia.packet import Tag  # noqa: PLC0415  # as in _sequoia

    return getattr(Tag, name)


def _sequoia() -> ModuleType:
    """Load the library when the first policy asks for it: nine megabytes that few pods need."""
    import pysequoia  # noqa: PLC0415  # as the docstring says

    return pysequoia


def _outcome(passed: bool) -> Outcome:  # noqa: FBT001  # the one value is what is translated
    return Outcome.PASSED if passed else Outcome.FAILED


def _first_line(error: Exception) -> str:
    """Cut a message of Sequoia's, which goes on with a stack of the library's own."""
    return str(error).partition("\n")[0][:512]
