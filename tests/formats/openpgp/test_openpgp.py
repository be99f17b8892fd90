import bz2
import datetime as dt
import struct
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pysequoia import SignatureMode, Tsk, sign

from enclave_cc.core.errors import InvalidInputError
from enclave_cc.core.findings import Outcome
from enclave_cc.formats.openpgp.messages import (
    EXPIRY_RULE,
    HASH_RULE,
    STATUS_RULE,
    Keyring,
    SignedMessage,
    verify_message,
)
from enclave_cc.formats.openpgp.packets import MAX_MESSAGE_BYTES, plain_message

NOW = dt.datetime.now(dt.UTC)
PAYLOAD = b'{"critical":{}}'
KEY, OTHER = Tsk.generate("owner@team.example"), Tsk.generate("other@team.example")


def _ring(*keys, now=NOW):
    return Keyring.parse(b"".join(bytes(key.extract_certificate()) for key in keys), now=now)


def _signed(key=KEY):
    return sign(key.signer(), PAYLOAD, armor=False)


def _failed(data, ring, now=NOW):
    findings = list(verify_message(SignedMessage.parse(data), ring, now=now))
    return [finding.rule for finding in findings if finding.outcome is Outcome.FAILED]


SIGNED = _signed()


def _new(tag, body):
    return bytes((0xC0 | tag, 255)) + struct.pack(">I", len(body)) + body


def _old_indeterminate(tag, body):
    return bytes((0x80 | tag << 2 | 3,)) + body


def _partial(tag, body):
    """Write a body as gpg streams it: 512 bytes at a time, then the rest."""
    out = bytes((0xC0 | tag,))
    while len(body) > 512:
        out, body = out + bytes((0xE9,)) + body[:512], body[512:]
    assert len(body) < 192 + 8192
    rest = len(body)
    head = bytes((rest,)) if rest < 192 else bytes(((rest - 192 >> 8) + 192, rest - 192 & 0xFF))
    return out + head + body


def test_a_message_of_a_key_in_the_ring_is_accepted():
    message = SignedMessage.parse(_signed())
    assert message.payload == PAYLOAD
    findings = list(verify_message(message, _ring(OTHER, KEY), now=NOW))
    assert [finding.outcome for finding in findings] == [Outcome.PASSED] * 5


def test_a_message_of_an_unknown_key_is_refused():
    assert _failed(_signed(), _ring(OTHER)) == ["image.signature.key"]


def test_a_changed_payload_is_refused():
    changed = _signed().replace(b"critical", b"CRITICAL")
    assert _failed(changed, _ring(KEY)) == ["image.signature.key"]


def test_a_message_that_names_another_key_of_the_ring_is_refused():
    ring = _ring(KEY, OTHER)
    certs = {key.fingerprint: key for key in ring.keys}
    swapped = Keyring(
        tuple(
            type(key)(another.cert, key.fingerprint, key.problems)
            for key, another in zip(certs.values(), reversed(certs.values()), strict=True)
        )
    )
    assert _failed(_signed(), swapped) == ["image.signature.key"]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda data: _new(8, b"\x01" + zlib.compressobj(wbits=-15).compress(b"")),
        lambda data: _new(8, b"\x03" + bz2.compress(data)),
        lambda data: _new(8, b""),
        lambda data: _new(8, b"\x02" + zlib.compress(data)[:-5]),
        lambda data: _new(8, b"\x02" + zlib.compress(data) + b"more"),
        lambda data: _new(8, b"\x02rubbish"),
        lambda data: _new(8, b"\x02" + zlib.compress(_new(8, b"\x02" + zlib.compress(data)))),
        lambda data: data + data,
        lambda data: data[:-1],
        lambda data: b"-----BEGIN PGP MESSAGE-----\n",
        lambda data: b"",
        lambda data: bytes(MAX_MESSAGE_BYTES + 1),
    ],
)
def test_a_message_of_another_shape_is_none(wrap):
    with pytest.raises(ValueError, match=r"\w"):
        SignedMessage.parse(wrap(_signed()))


def test_a_message_that_unpacks_to_more_than_any_signature_is_none():
    bomb = zlib.compress(bytes(100 << 20))
    assert len(bomb) < MAX_MESSAGE_BYTES
    with pytest.raises(ValueError, match="larger"):
        plain_message(_new(8, b"\x02" + bomb))


@pytest.mark.parametrize("write", [_new, _old_indeterminate, _partial])
@pytest.mark.parametrize("compressed", ["zip", "zlib"])
def test_messages_are_read_however_their_lengths_are_written(write, compressed):
    signed = _signed()
    if compressed == "zip":
        deflate = zlib.compressobj(wbits=-15)
        body = b"\x01" + deflate.compress(signed) + deflate.flush()
    else:
        body = b"\x02" + zlib.compress(signed)
    assert _failed(write(8, body), _ring(KEY)) == []


def test_a_detached_signature_is_no_message():
    detached = sign(KEY.signer(), PAYLOAD, mode=SignatureMode.DETACHED, armor=False)
    with pytest.raises(ValueError, match="not a signed"):
        SignedMessage.parse(detached)


def test_an_expired_key_is_refused_now_whatever_the_signature_says():
    expires = NOW + dt.timedelta(days=1)
    cert = KEY.extract_certificate().set_expiration(expires, KEY.certifier())
    before, after = expires - dt.timedelta(hours=1), expires + dt.timedelta(hours=1)
    assert _failed(_signed(), Keyring.parse(bytes(cert), now=before), before) == []
    assert STATUS_RULE in _failed(_signed(), Keyring.parse(bytes(cert), now=after), after)


def test_a_revoked_key_is_refused():
    key = Tsk.generate("gone@team.example")
    cert = key.extract_certificate()
    revoked = bytes(cert) + bytes(cert.revoke(key.certifier()))
    assert STATUS_RULE in _failed(_signed(key), Keyring.parse(revoked, now=NOW))


def test_a_revocation_in_another_keyring_than_the_key_is_heard():
    key = Tsk.generate("gone@team.example")
    cert = key.extract_certificate()
    revoked = bytes(cert) + bytes(cert.revoke(key.certifier()))
    rings = [Keyring.parse(data, now=NOW).keys for data in (bytes(cert), revoked)]
    assert STATUS_RULE in _failed(_signed(key), Keyring((*rings[0], *rings[1])))


def test_rules_for_weak_hashes_and_ended_signatures_are_findings_of_their_own():
    message = SignedMessage.parse(_signed())
    weak = type(message)(message.data, message.payload, message.issuers, "SHA1", None)
    ended = type(message)(message.data, message.payload, message.issuers, message.hash_name, NOW)
    for changed, rule in ((weak, HASH_RULE), (ended, EXPIRY_RULE)):
        findings = verify_message(changed, _ring(KEY), now=NOW)
        assert [one.rule for one in findings if one.outcome is Outcome.FAILED] == [rule]


@pytest.mark.parametrize("data", [b"", b"rubbish", bytes(2 << 20), bytes(KEY), b"\xff" * 10])
def test_a_keyring_that_is_none_or_holds_secrets_is_bad_input(data):
    with pytest.raises(InvalidInputError) as caught:
        Keyring.parse(data, now=NOW)
    assert caught.value.code == "signature-key-invalid"
    assert "\n" not in caught.value.detail


@settings(max_examples=80)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_none(data):
    with pytest.raises(ValueError, match=r"\w"):
        SignedMessage.parse(data)


@settings(max_examples=80)
@given(st.data())
def test_a_bent_message_is_refused_or_none(data):
    signed = bytearray(SIGNED)
    place = data.draw(st.integers(0, len(signed) - 1))
    signed[place] ^= data.draw(st.integers(1, 255))
    try:
        message = SignedMessage.parse(bytes(signed))
    except ValueError:
        return
    findings = list(verify_message(message, _ring(KEY), now=NOW))
    refused = any(finding.outcome is Outcome.FAILED for finding in findings)
    # Unhashed parts may change without harm; what was signed may not.
    assert refused or message.payload == PAYLOAD


@settings(max_examples=60)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_keyring_or_bad_input(data):
    with pytest.raises(InvalidInputError):
        Keyring.parse(data, now=NOW)
