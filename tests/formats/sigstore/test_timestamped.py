"""Keyless signatures whose time comes from a time stamp, as with logs of version 2."""

import base64
import datetime as dt
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.simulators.sigstore import ISSUER, NOW, SIGNER, SigstoreSimulator, b64, log_key
from tests.simulators.timestamping import TimestampAuthority

from enclave_cc.core.digest import Digest
from enclave_cc.core.findings import Outcome
from enclave_cc.formats.signatures.claim import SignedClaim
from enclave_cc.formats.signatures.signer import SignerIdentity
from enclave_cc.formats.sigstore import authority
from enclave_cc.formats.sigstore.bundle import parse_bundle
from enclave_cc.formats.sigstore.keyless import CERTIFICATE_RULE, LOG_RULE, verify_keyless
from enclave_cc.formats.sigstore.statement import write_statement
from enclave_cc.formats.sigstore.timestamp import MAX_TIMESTAMP_BYTES, TimeStamp
from enclave_cc.formats.sigstore.trusted_root import parse_trusted_root

STATEMENT = write_statement(SignedClaim(Digest.of(b"manifest"), "registry.example/team/app"))
LOG_ID = bytes(range(32))
HOUR = dt.timedelta(hours=1)


class World:
    """A sigstore whose log states no time, and an authority for time stamps."""

    def __init__(self):
        self.sigstore = SigstoreSimulator()
        self.authority = TimestampAuthority(NOW)
        self.sigstore.log.version = 2
        self.sigstore.log.named = LOG_ID

    def bundle(self, when=NOW, **bends):
        bundle = self.sigstore.sign_statement(STATEMENT)
        signature = base64.b64decode(bundle["dsseEnvelope"]["signatures"][0]["sig"])
        stamp = bends.pop("authority", self.authority).stamp(signature, when, **bends)
        return _stamped(bundle, stamp)

    def root(self, *, chain=None, period=None, **changes):
        certificates = [
            {"rawBytes": b64(one.public_bytes(Encoding.DER))} for one in chain or self.authority.chain()
        ]
        authority = {"certChain": {"certificates": certificates}, "validFor": period or {}}
        log = {**log_key(self.sigstore.log.key), "logId": {"keyId": b64(LOG_ID)}}
        return self.sigstore.trusted_root(**{"timestampAuthorities": [authority], "tlogs": [log], **changes})


def _stamped(bundle, *stamps):
    entries = [{"signedTimestamp": b64(stamp)} for stamp in stamps]
    bundle["verificationMaterial"]["timestampVerificationData"] = {"rfc3161Timestamps": entries}
    return bundle


def _failed(bundle, root):
    found = parse_bundle(json.dumps(bundle).encode(), artifact=b"")
    findings = verify_keyless(found, parse_trusted_root(root), SignerIdentity(SIGNER, ISSUER))
    return next((one.rule for one in findings if one.outcome is Outcome.FAILED), "")


@pytest.fixture
def world():
    return World()


def test_a_stamped_signature_in_a_log_without_times_is_accepted(world):
    assert _failed(world.bundle(), world.root()) == ""


@pytest.mark.parametrize("kind", ["dsse", "hashedrekord"])
def test_both_kinds_of_entries_are_read(world, kind):
    world.sigstore.log.kind = kind
    assert _failed(world.bundle(), world.root()) == ""


def test_the_authoritys_certificate_may_come_along(world):
    bundle = world.bundle(certificates=[world.authority.certificate])
    assert _failed(bundle, world.root(chain=[world.authority.root])) == ""
    assert _failed(world.bundle(), world.root(chain=[world.authority.root])) == LOG_RULE


@pytest.mark.parametrize(
    "bends",
    [
        {"imprinted": b"another signature"},
        {"digested": b"another content"},
        {"content_type": "1.2.840.113549.1.7.1"},
        {"kind": "1.2.840.113549.1.7.3"},
        {"version": 2},
        {"status": 2},
        {"hash_oid": "1.3.14.3.2.26"},
        {"signature_oid": "1.2.840.10045.4.1"},
        {"key": ec.generate_private_key(ec.SECP256R1())},
    ],
)
def test_a_time_stamp_that_proves_something_else_is_none(world, bends):
    assert _failed(world.bundle(**bends), world.root()) == LOG_RULE


def test_a_time_stamp_of_an_authority_that_is_not_pinned_is_none(world):
    stranger = TimestampAuthority(NOW)
    bundle = world.bundle(authority=stranger, certificates=stranger.chain())
    assert _failed(bundle, world.root()) == LOG_RULE
    assert _failed(world.bundle(), world.root(timestampAuthorities=[])) == LOG_RULE


@pytest.mark.parametrize(
    "purposes",
    [
        [ExtendedKeyUsageOID.CODE_SIGNING],
        [ExtendedKeyUsageOID.TIME_STAMPING, ExtendedKeyUsageOID.CODE_SIGNING],
    ],
)
def test_a_certificate_that_is_not_for_time_stamps_alone_makes_none(world, purposes):
    world.authority = TimestampAuthority(NOW, purposes=purposes)
    assert _failed(world.bundle(), world.root()) == LOG_RULE


def test_a_certificate_that_was_not_valid_makes_none(world):
    world.authority = TimestampAuthority(NOW - 100 * HOUR, days=1)
    assert _failed(world.bundle(), world.root()) == LOG_RULE


@pytest.mark.parametrize("period", [{"start": "2026-06-01T00:00:00Z"}, {"end": "2025-06-01T00:00:00Z"}])
def test_an_authority_that_was_not_in_use_makes_none(world, period):
    assert _failed(world.bundle(), world.root(period=period)) == LOG_RULE


@pytest.mark.parametrize("shift", [-HOUR, HOUR])
def test_the_signing_certificate_has_to_hold_at_the_stamped_time(world, shift):
    assert _failed(world.bundle(NOW + shift), world.root()) == CERTIFICATE_RULE


def test_the_log_has_to_be_in_use_at_the_stamped_time(world):
    log = {**log_key(world.sigstore.log.key, end="2025-06-01T00:00:00Z"), "logId": {"keyId": b64(LOG_ID)}}
    assert _failed(world.bundle(), world.root(tlogs=[log])) == LOG_RULE


def test_both_times_have_to_fit_where_the_log_states_one_too(world):
    world.sigstore.log.version, world.sigstore.log.named = 1, b""
    root = world.root(tlogs=[log_key(world.sigstore.log.key)])
    assert _failed(world.bundle(), root) == ""
    assert _failed(world.bundle(NOW + HOUR), root) == CERTIFICATE_RULE
    world.sigstore.signed_at = NOW + HOUR
    assert _failed(world.bundle(), root) == CERTIFICATE_RULE


def test_authorities_that_issued_each_other_in_every_order_cost_little(world, monkeypatch):
    """Anybody who may push can bring time stamps of his own authorities, 256 of them beside one image."""
    stranger = TimestampAuthority(NOW)
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
    name = stranger.certificate.issuer
    offered = []
    for _ in range(8):
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
        builder = builder.public_key(stranger.root_key.public_key()).serial_number(7)
        builder = builder.not_valid_before(NOW - HOUR).not_valid_after(NOW + HOUR + HOUR * len(offered))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        builder = builder.add_extension(usage, critical=True)
        offered.append(builder.sign(stranger.root_key, hashes.SHA256()))
    stranger.key, stranger.certificate = stranger.root_key, offered[0]
    bundle = world.bundle(authority=stranger, certificates=offered)
    asked = []
    require_valid = authority.require_valid
    monkeypatch.setattr(authority, "require_valid", lambda *args: (asked.append(1), require_valid(*args))[1])
    assert _failed(bundle, world.root()) == LOG_RULE
    assert 0 < len(asked) < 100


def test_rubbish_beside_a_good_time_stamp_does_not_hide_it(world):
    bundle = world.bundle()
    good = bundle["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"][0]
    stamps = (b"", b"\x30\x00", bytes(MAX_TIMESTAMP_BYTES + 1), base64.b64decode(good["signedTimestamp"]))
    assert _failed(_stamped(bundle, *stamps), world.root()) == ""


def test_a_log_without_a_start_is_no_part_of_a_trust_root(world):
    log = log_key(world.sigstore.log.key)
    del log["publicKey"]["validFor"]["start"]
    with pytest.raises(Exception, match="trust root"):
        parse_trusted_root(world.root(tlogs=[log]))


_STAMP = TimestampAuthority(NOW).stamp(b"signature", NOW)


@settings(max_examples=100)
@given(st.data())
def test_a_bent_time_stamp_is_refused_or_none(data):
    bent = bytearray(_STAMP)
    bent[data.draw(st.integers(0, len(bent) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ValueError, match=r"\w"):
        TimeStamp.parse(bytes(bent)).verify(b"signature", ())


@settings(max_examples=50)
@given(st.binary(max_size=200))
def test_any_bytes_are_no_time_stamp(data):
    with pytest.raises(ValueError, match=r"\w"):
        TimeStamp.parse(data)
