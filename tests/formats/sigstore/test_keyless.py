"""Each check of a keyless signature, with a test that only that check fails."""

import base64
import datetime as dt
import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.simulators.sigstore import (
    ISSUER,
    NOW,
    ORIGIN,
    SIGNER,
    Authority,
    SigstoreSimulator,
    b64,
    log_key,
    new_key,
    unrecognized,
)

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import InvalidInputError
from enclave_cc.core.findings import Outcome
from enclave_cc.formats.signatures.claim import SignedClaim
from enclave_cc.formats.signatures.signer import SignerIdentity
from enclave_cc.formats.sigstore.bundle import parse_bundle
from enclave_cc.formats.sigstore.certificate import SigningCertificate
from enclave_cc.formats.sigstore.keyless import (
    CERTIFICATE_LOG_RULE,
    CERTIFICATE_RULE,
    ISSUER_RULE,
    KEY_RULE,
    LOG_RULE,
    SIGNER_RULE,
    verify_keyless,
)
from enclave_cc.formats.sigstore.rekor import LogError, verify_entry
from enclave_cc.formats.sigstore.statement import write_statement
from enclave_cc.formats.sigstore.trusted_root import parse_trusted_root

MINUTE = dt.timedelta(minutes=1)
STATEMENT = write_statement(SignedClaim(Digest.of(b"manifest"), "registry.example/team/app"))
ASKED = SignerIdentity(SIGNER, ISSUER)


@pytest.fixture
def sigstore():
    return SigstoreSimulator()


def _findings(bundle, root, signer=ASKED):
    found = parse_bundle(json.dumps(bundle).encode(), artifact=b"manifest")
    return list(verify_keyless(found, parse_trusted_root(root), signer))


def _accepted(bundle, root, signer=ASKED):
    return all(finding.outcome is Outcome.PASSED for finding in _findings(bundle, root, signer))


def _fails(rule, bundle, root, signer=ASKED):
    """Require one failed finding, of this rule, and return what was found."""
    findings = _findings(bundle, root, signer)
    (failed,) = [finding for finding in findings if finding.outcome is Outcome.FAILED]
    assert failed.rule == rule
    assert failed.expected
    return failed.actual


def _entry(bundle):
    return bundle["verificationMaterial"]["tlogEntries"][0]


def _changed(bundle, name, change):
    """Change the bytes of a base64 member of the log entry (``a.b`` for one inside another)."""
    *path, last = name.split(".")
    place = _entry(bundle)
    for step in path:
        place = place[step]
    place[last] = b64(change(base64.b64decode(place[last])))


def _flipped(data):
    return bytes((data[0] ^ 1,)) + data[1:]


def test_a_keyless_signature_is_accepted(sigstore):
    findings = _findings(sigstore.sign_statement(STATEMENT), sigstore.trusted_root())
    assert all(finding.outcome is Outcome.PASSED for finding in findings)
    assert [finding.rule for finding in findings] == [
        LOG_RULE,
        CERTIFICATE_RULE,
        CERTIFICATE_LOG_RULE,
        SIGNER_RULE,
        ISSUER_RULE,
        KEY_RULE,
    ]


# --- (1) the certificate's profile


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("purposes", [ExtendedKeyUsageOID.SERVER_AUTH]),
        ("digital_signature", False),
        ("is_authority", True),
        ("names", [x509.RFC822Name(SIGNER), x509.RFC822Name("other@team.example")]),
        ("names", [x509.DNSName("team.example")]),
        ("issuer_v1", "https://other.example"),
        ("extra", [(unrecognized("1.2.3.4", b"\x05\x00"), True)]),
    ],
)
def test_a_certificate_of_another_profile_is_refused(sigstore, member, value):
    setattr(sigstore.leaf, member, value)
    _fails(CERTIFICATE_RULE, sigstore.sign_statement(STATEMENT), sigstore.trusted_root())


def test_a_certificate_without_an_issuer_of_identities_is_refused(sigstore):
    sigstore.leaf.issuer_v1 = sigstore.leaf.issuer_v2 = None
    _fails(CERTIFICATE_RULE, sigstore.sign_statement(STATEMENT), sigstore.trusted_root())


def test_either_spelling_of_the_issuer_will_do(sigstore):
    for member in ("issuer_v1", "issuer_v2"):
        simulator = SigstoreSimulator()
        setattr(simulator.leaf, member, None)
        assert _accepted(simulator.sign_statement(STATEMENT), simulator.trusted_root())


def test_a_key_is_no_certificate(sigstore):
    bundle = sigstore.sign_statement(STATEMENT)
    del bundle["verificationMaterial"]["certificate"]
    bundle["verificationMaterial"]["publicKey"] = {}
    _fails(CERTIFICATE_RULE, bundle, sigstore.trusted_root())


@pytest.mark.parametrize("der", [b"", b"\x30\x00", os.urandom(100)])
def test_bytes_that_are_no_certificate_are_refused(sigstore, der):
    bundle = sigstore.sign_statement(STATEMENT)
    bundle["verificationMaterial"]["certificate"]["rawBytes"] = b64(der)
    _fails(CERTIFICATE_RULE, bundle, sigstore.trusted_root())


# --- (2) the log


def test_an_entry_of_a_log_that_is_not_pinned_is_refused(sigstore):
    root = sigstore.trusted_root(tlogs=[log_key(new_key())])
    _fails(LOG_RULE, sigstore.sign_statement(STATEMENT), root)


@pytest.mark.parametrize("period", [{"start": "2026-06-01T00:00:00Z"}, {"end": "2025-06-01T00:00:00Z"}])
def test_an_entry_from_when_the_log_was_not_in_use_is_refused(sigstore, period):
    root = sigstore.trusted_root(tlogs=[log_key(sigstore.log.key, **period)])
    assert "not in use" in _fails(LOG_RULE, sigstore.sign_statement(STATEMENT), root)


@pytest.mark.parametrize(
    "member",
    [
        "inclusionPromise.signedEntryTimestamp",
        "inclusionProof.rootHash",
        "logId.keyId",
    ],
)
def test_a_changed_log_entry_is_refused(sigstore, member):
    bundle = sigstore.sign_statement(STATEMENT)
    _changed(bundle, member, _flipped)
    _fails(LOG_RULE, bundle, sigstore.trusted_root())


def test_another_time_than_the_log_promised_is_refused(sigstore):
    bundle = sigstore.sign_statement(STATEMENT)
    _entry(bundle)["integratedTime"] = str(int(NOW.timestamp()) + 1)
    assert "promise" in _fails(LOG_RULE, bundle, sigstore.trusted_root())


def test_times_that_cannot_be_written_are_refused(sigstore):
    bundle = sigstore.sign_statement(STATEMENT)
    _entry(bundle)["integratedTime"] = str(1 << 40)
    with pytest.raises(InvalidInputError):
        _findings(bundle, sigstore.trusted_root())


@pytest.mark.parametrize("number", [0, -1])
def test_a_path_that_leads_elsewhere_is_refused(sigstore, number):
    bundle = sigstore.sign_statement(STATEMENT)
    path = _entry(bundle)["inclusionProof"]["hashes"]
    path[number] = b64(_flipped(base64.b64decode(path[number])))
    assert "root" in _fails(LOG_RULE, bundle, sigstore.trusted_root())


@pytest.mark.parametrize(
    "change",
    [
        {"hashes": []},
        {"hashes": [b64(bytes(31))] * 4},
        {"hashes": [b64(bytes(32))] * 60},
        {"logIndex": "9"},
        {"logIndex": "6"},
        {"treeSize": "8"},
    ],
)
def test_a_proof_of_another_shape_is_refused(sigstore, change):
    bundle = sigstore.sign_statement(STATEMENT)
    _entry(bundle)["inclusionProof"].update(change)
    _fails(LOG_RULE, bundle, sigstore.trusted_root())


@pytest.mark.parametrize(
    "note",
    [
        "",
        "no signature",
        f"{ORIGIN}\n9\nAAAA\n\n",
        f"{ORIGIN}\n9\nAAAA\n\n\N{EM DASH} rekor.example !!!\n",
        f"{ORIGIN}\n9\nAAAA\n\nrekor.example AAAA\n",
        "x" * 20_000,
    ],
)
def test_a_checkpoint_that_the_log_did_not_sign_is_refused(sigstore, note):
    bundle = sigstore.sign_statement(STATEMENT)
    _entry(bundle)["inclusionProof"]["checkpoint"]["envelope"] = note
    assert "checkpoint" in _fails(LOG_RULE, bundle, sigstore.trusted_root())


def test_a_checkpoint_of_another_log_or_tree_is_refused(sigstore):
    for key, size in ((new_key(), 9), (sigstore.log.key, 10)):
        bundle = sigstore.sign_statement(STATEMENT)
        proof = _entry(bundle)["inclusionProof"]
        root = base64.b64decode(proof["rootHash"])
        proof["checkpoint"]["envelope"] = sigstore.log.checkpoint(size, root, key=key)
        assert "checkpoint" in _fails(LOG_RULE, bundle, sigstore.trusted_root())


@pytest.mark.parametrize("text", ["\n9\nAAAA\n", f"{ORIGIN}\nnine\nAAAA\n", f"{ORIGIN}\n09\nAAAA\n", "x\n"])
def test_a_signed_note_that_is_no_checkpoint_is_refused(sigstore, text):
    bundle = sigstore.sign_statement(STATEMENT)
    envelope = sigstore.log.checkpoint(9, b"", text=text)
    _entry(bundle)["inclusionProof"]["checkpoint"]["envelope"] = envelope
    assert "malformed" in _fails(LOG_RULE, bundle, sigstore.trusted_root())


def test_an_entry_that_states_no_signed_time_is_refused(sigstore):
    bundle = sigstore.sign_statement(STATEMENT)
    del _entry(bundle)["inclusionPromise"]
    assert "time" in _fails(LOG_RULE, bundle, sigstore.trusted_root())


def test_a_time_beside_a_proof_alone_says_nothing_of_when_the_log_was_in_use(sigstore):
    """Whoever has the key of a log that was retired can still make proofs, and write any time beside them."""
    bundle = sigstore.sign_statement(STATEMENT)
    del _entry(bundle)["inclusionPromise"]
    found = parse_bundle(json.dumps(bundle).encode(), artifact=b"")
    (entry,) = found.log_entries
    log = parse_trusted_root(sigstore.trusted_root()).logs[0]
    retired = replace(log, end=entry.integrated_time + 1)
    pem = SigningCertificate.from_der(found.certificates[0]).pem
    assert verify_entry(entry, found, pem, [retired], stamped=entry.integrated_time + 1) is None
    with pytest.raises(LogError, match="in use"):
        verify_entry(entry, found, pem, [retired], stamped=entry.integrated_time + 2)


def test_an_entry_with_nothing_to_prove_it_is_refused(sigstore):
    bundle = sigstore.sign_statement(STATEMENT)
    del _entry(bundle)["inclusionPromise"], _entry(bundle)["inclusionProof"]
    assert "neither" in _fails(LOG_RULE, bundle, sigstore.trusted_root())


def test_a_promise_alone_is_enough(sigstore):
    bundle = sigstore.sign_statement(STATEMENT)
    del _entry(bundle)["inclusionProof"]
    assert _accepted(bundle, sigstore.trusted_root())


def test_no_entry_at_all_is_refused(sigstore):
    bundle = sigstore.sign_statement(STATEMENT)
    bundle["verificationMaterial"]["tlogEntries"] = []
    _fails(LOG_RULE, bundle, sigstore.trusted_root())


def test_a_bad_entry_does_not_hide_a_good_one(sigstore):
    bundle, another = sigstore.sign_statement(STATEMENT), SigstoreSimulator().sign_statement(STATEMENT)
    bundle["verificationMaterial"]["tlogEntries"].insert(0, _entry(another))
    assert _accepted(bundle, sigstore.trusted_root())


@pytest.mark.parametrize(
    "spec",
    [
        {"payloadHash": {"algorithm": "sha256", "value": "00" * 32}},
        {"payloadHash": {"algorithm": "md5", "value": "00"}},
        {"signatures": []},
        {"signatures": [{"signature": b64(b"another"), "verifier": ""}]},
    ],
)
def test_an_authentic_entry_about_something_else_is_refused(sigstore, spec):
    _fails(LOG_RULE, sigstore.sign_statement(STATEMENT, spec=spec), sigstore.trusted_root())


def test_an_authentic_entry_of_somebody_elses_certificate_is_refused(sigstore):
    bundle, another = sigstore.sign_statement(STATEMENT), sigstore.sign_statement(STATEMENT)
    certificate = another["verificationMaterial"]["certificate"]
    bundle["verificationMaterial"]["certificate"] = certificate
    assert "certificate" in _fails(LOG_RULE, bundle, sigstore.trusted_root())


# --- (3) the chain


@pytest.mark.parametrize("shift", [-10 * MINUTE, 10 * MINUTE])
def test_a_signature_from_when_the_certificate_was_not_valid_is_refused(sigstore, shift):
    sigstore.signed_at = NOW + shift
    assert "not valid" in _fails(
        CERTIFICATE_RULE, sigstore.sign_statement(STATEMENT), sigstore.trusted_root()
    )


def test_a_certificate_of_another_authority_is_refused(sigstore):
    root = sigstore.trusted_root()
    sigstore.authority = Authority()
    _fails(CERTIFICATE_RULE, sigstore.sign_statement(STATEMENT), root)


@pytest.mark.parametrize(
    "options",
    [
        {"ca": False, "path": None},
        {"may_sign": False},
        {"purpose": ExtendedKeyUsageOID.SERVER_AUTH},
        {"end": NOW - MINUTE},
        {"start": NOW + MINUTE},
        {"constraints": True},
    ],
)
def test_an_intermediate_that_may_not_issue_is_refused(sigstore, options):
    authority, path = sigstore.authority, options.pop("path", 0)
    authority.certificate = authority.issue_authority(
        "ca.example", authority.key, "root.example", authority.root_key, path, **options
    )
    _fails(CERTIFICATE_RULE, sigstore.sign_statement(STATEMENT), sigstore.trusted_root())


def test_a_root_that_allows_no_intermediate_is_heard(sigstore):
    authority = sigstore.authority
    authority.root = authority.issue_authority(
        "root.example", authority.root_key, "root.example", authority.root_key, 0
    )
    _fails(CERTIFICATE_RULE, sigstore.sign_statement(STATEMENT), sigstore.trusted_root())


def test_a_chain_with_a_weak_hash_is_refused(sigstore):
    authority = sigstore.authority
    authority.certificate = authority.issue_authority(
        "ca.example", authority.key, "root.example", authority.root_key, 0, hash=hashes.SHA224()
    )
    _fails(CERTIFICATE_RULE, sigstore.sign_statement(STATEMENT), sigstore.trusted_root())


@pytest.mark.parametrize("period", [{"start": "2026-06-01T00:00:00Z"}, {"end": "2025-06-01T00:00:00Z"}])
def test_an_authority_that_was_not_in_use_is_refused(sigstore, period):
    entry = json.loads(sigstore.trusted_root())["certificateAuthorities"][0]
    root = sigstore.trusted_root(certificateAuthorities=[{**entry, "validFor": period}])
    _fails(CERTIFICATE_RULE, sigstore.sign_statement(STATEMENT), root)


# --- (4) the log of certificates


def test_a_certificate_without_a_promise_of_a_log_is_refused(sigstore):
    sigstore.leaf.has_sct = False
    bundle = sigstore.sign_statement(STATEMENT)
    _fails(CERTIFICATE_LOG_RULE, bundle, sigstore.trusted_root())
    assert _accepted(bundle, sigstore.trusted_root(ctlogs=[]))


def test_a_promise_of_a_log_of_certificates_that_is_not_pinned_is_refused(sigstore):
    root = sigstore.trusted_root(ctlogs=[log_key(new_key())])
    _fails(CERTIFICATE_LOG_RULE, sigstore.sign_statement(STATEMENT), root)


def test_a_promise_from_when_the_log_of_certificates_was_not_in_use_is_refused(sigstore):
    root = sigstore.trusted_root(ctlogs=[log_key(sigstore.ct_key, end="2025-06-01T00:00:00Z")])
    _fails(CERTIFICATE_LOG_RULE, sigstore.sign_statement(STATEMENT), root)


def test_a_promise_about_another_certificate_is_refused(sigstore):
    class Forger(Authority):
        def issue(self, public_key, leaf, ct_key, **options):
            """Take the promise of one certificate into another."""
            first = super().issue(public_key, leaf, ct_key, **options)
            oid = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")
            value = first.extensions.get_extension_for_oid(oid).value.public_bytes()
            leaf.has_sct, leaf.extra = False, [(unrecognized(oid.dotted_string, value), False)]
            return super().issue(public_key, leaf, ct_key, **options)

    sigstore.authority = Forger()
    _fails(CERTIFICATE_LOG_RULE, sigstore.sign_statement(STATEMENT), sigstore.trusted_root())


# --- (5) to (7) who it was, and the signature


def test_another_signer_is_refused(sigstore):
    signer = SignerIdentity("other@team.example", ISSUER)
    actual = _fails(SIGNER_RULE, sigstore.sign_statement(STATEMENT), sigstore.trusted_root(), signer)
    assert actual == SIGNER


def test_another_issuer_of_identities_is_refused(sigstore):
    signer = SignerIdentity(SIGNER, "https://other.example")
    actual = _fails(ISSUER_RULE, sigstore.sign_statement(STATEMENT), sigstore.trusted_root(), signer)
    assert actual == ISSUER


@pytest.mark.parametrize(
    "name", [x509.UniformResourceIdentifier("https://ci.example/workflow"), x509.RFC822Name("a@b.example")]
)
def test_identities_are_addresses_of_mail_or_of_workflows(sigstore, name):
    sigstore.leaf.names = [name]
    signer = SignerIdentity(name.value, ISSUER)
    assert _accepted(sigstore.sign_statement(STATEMENT), sigstore.trusted_root(), signer)


def test_a_signature_by_another_key_than_the_certificates_is_refused(sigstore):
    bundle = sigstore.sign_statement(STATEMENT, signing_key=new_key())
    _fails(KEY_RULE, bundle, sigstore.trusted_root())


# --- documents


@pytest.mark.parametrize(
    "change",
    [
        {"mediaType": "application/json"},
        {"tlogs": [{}]},
        {"tlogs": [log_key(new_key(), start="yesterday")]},
        {"tlogs": [log_key(new_key(), start="2026-01-01T00:00:00")]},
        {"certificateAuthorities": [{"certChain": {"certificates": []}}]},
        {"certificateAuthorities": [{"certChain": {"certificates": [{"rawBytes": "AAAA"}]}}]},
        {"ctlogs": [{"publicKey": {"rawBytes": "AAAA"}}]},
        {"tlogs": [log_key(new_key())] * 65},
        {"more": []},
    ],
)
def test_a_trust_root_that_is_not_understood_whole_is_refused(sigstore, change):
    with pytest.raises(InvalidInputError) as caught:
        parse_trusted_root(sigstore.trusted_root(**change))
    assert caught.value.code == "trust-root-invalid"


@given(st.binary())
def test_any_bytes_are_a_trust_root_or_refused(data):
    with pytest.raises(InvalidInputError):
        parse_trusted_root(data)


_SAMPLE = SigstoreSimulator().sign_statement(STATEMENT)


@pytest.mark.parametrize(
    "change",
    [
        {"mediaType": "application/vnd.dev.sigstore.bundle+json;version=0.1"},
        {"messageSignature": {"signature": "AAAA"}},
        {"dsseEnvelope": None},
        {"verificationMaterial": {}},
        {"verificationMaterial": {"publicKey": {}, "certificate": {"rawBytes": "AAAA"}}},
        {"verificationMaterial": {"x509CertificateChain": {"certificates": []}}},
        {"verificationMaterial": {"publicKey": {}, "tlogEntries": [{}] * 9}},
        {"verificationMaterial": {"publicKey": {}, "tlogEntries": [{"integratedTime": "-1"}]}},
        {"dsseEnvelope": {**_SAMPLE["dsseEnvelope"], "payloadType": "text/plain"}},
        {"dsseEnvelope": {**_SAMPLE["dsseEnvelope"], "signatures": []}},
        {"dsseEnvelope": {**_SAMPLE["dsseEnvelope"], "signatures": [{"sig": "AAAA"}] * 2}},
        {"dsseEnvelope": {**_SAMPLE["dsseEnvelope"], "payload": "?"}},
        {"more": 1},
    ],
)
def test_a_bundle_that_is_not_understood_whole_is_none(change):
    with pytest.raises(InvalidInputError) as caught:
        parse_bundle(json.dumps({**_SAMPLE, **change}).encode(), artifact=b"")
    assert caught.value.code == "signature-invalid"


@given(st.binary())
def test_any_bytes_are_a_bundle_or_refused(data):
    with pytest.raises(InvalidInputError):
        parse_bundle(data, artifact=b"")


@settings(max_examples=60)
@given(st.data())
def test_a_bundle_bent_anywhere_never_gives_another_error(data):
    text = bytearray(json.dumps(_SAMPLE).encode())
    place = data.draw(st.integers(0, len(text) - 1))
    text[place] = data.draw(st.integers(32, 126))
    try:
        found = parse_bundle(bytes(text), artifact=b"")
    except InvalidInputError as error:
        assert error.code == "signature-invalid"  # noqa: PT017  # either outcome is fine, another error is not
    else:
        root = parse_trusted_root(SigstoreSimulator().trusted_root())
        assert any(one.outcome is Outcome.FAILED for one in verify_keyless(found, root, ASKED))


# --- vectors made by others


# Who signed the vectors, in their own documentation.
CONFORMANCE = SignerIdentity(
    "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/"
    ".github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main",
    "https://token.actions.githubusercontent.com",
)


def _conformance(vectors):
    directory = vectors / "sigstore-conformance"
    if not directory.is_dir():
        pytest.skip("the bundles of sigstore-conformance are not among the vectors")
    return directory


def _our_kind(path: Path) -> bool:
    bundle = (path / "bundle.sigstore.json").read_bytes()
    return b"bundle.v0.3+json" in bundle or b"version=0.3" in bundle


def _cases(vectors, *, refused):
    for path in sorted(_conformance(vectors).iterdir()):
        root, artifact = path / "trusted_root.json", path / "artifact"
        if path.name.endswith("_fail") is not refused or not root.exists() or (path / "key.pub").exists():
            continue
        message = artifact.read_bytes() if artifact.exists() else (path.parent / "a.txt").read_bytes()
        yield path, root.read_bytes(), message


def test_bundles_made_to_be_refused_are_refused(vectors):
    for path, root, message in _cases(vectors, refused=True):
        try:
            found = parse_bundle((path / "bundle.sigstore.json").read_bytes(), artifact=message)
            findings = list(verify_keyless(found, parse_trusted_root(root), CONFORMANCE))
        except InvalidInputError:
            continue
        assert any(one.outcome is Outcome.FAILED for one in findings), path.name


def test_bundles_made_to_be_accepted_are_accepted(vectors):
    seen = 0
    for path, root, message in _cases(vectors, refused=False):
        if not _our_kind(path):
            continue
        found = parse_bundle((path / "bundle.sigstore.json").read_bytes(), artifact=message)
        findings = list(verify_keyless(found, parse_trusted_root(root), CONFORMANCE))
        assert all(one.outcome is Outcome.PASSED for one in findings), path.name
        seen += 1
    assert seen
