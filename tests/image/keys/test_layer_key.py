import base64
import dataclasses
import datetime as dt
import json

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.simulators.memory_registry import MemoryResources

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import EnclaveCcError, InvalidInputError, RefusedError, Stage, UnavailableError
from enclave_cc.core.secret import Secret
from enclave_cc.formats.oci.descriptor import Descriptor
from enclave_cc.formats.ocicrypt.annotation_packet import KEYS_ANNOTATION, AnnotationPacket
from enclave_cc.formats.ocicrypt.jwe_item import JWE_ANNOTATION, JweRecipient
from enclave_cc.formats.ocicrypt.layer_cipher import PUBLIC_OPTIONS_ANNOTATION, PrivateOptions, PublicOptions
from enclave_cc.formats.ocicrypt.pkcs7_item import CertificateRecipient
from enclave_cc.formats.ocicrypt.wrapping import KEYS_PREFIX, MAX_ITEMS, BrokerKey, wrapped_annotations
from enclave_cc.image.checks import Checks
from enclave_cc.image.keys.layer_key import MAX_ATTEMPTS, RULE, KeyRing
from enclave_cc.image.keys.schemes import Attempt

KID = "kbs:///default/key/1"
OTHER = "kbs:///default/key/2"
SAMPLE_KID = "kbs:///default/test-key/1"
SAMPLE_KEY = bytes.fromhex("d99b7705b0ba7a168295b3a3367270b0dd9b371bf514ca8b9ba7f0a33711daea")
KEK = bytes(range(32))
OPTIONS = PrivateOptions.fresh(Digest.of(b"x"))
PUBLIC = PublicOptions(bytes(32))


def broker_item(kid=KID, kek=KEK, options=OPTIONS):
    return base64.b64encode(BrokerKey(Secret(kek), kid).wrap(options)).decode()


def descriptor(keys="", **others):
    annotations = {PUBLIC_OPTIONS_ANNOTATION: PUBLIC.encode(), KEYS_ANNOTATION: keys, **others}
    return Descriptor("t", Digest.of(b"y"), 1, {name: text for name, text in annotations.items() if text})


def unwrap(layer, **resources):
    checks = Checks()
    ring = KeyRing(MemoryResources({KID: KEK, **resources}))
    try:
        return ring.unwrap(layer, checks).private, checks
    except EnclaveCcError as error:
        return error, checks


def outcomes(checks):
    assert all(finding.rule == RULE for finding in checks.findings)
    return [(str(finding.outcome), finding.expected) for finding in checks.findings]


class Scheme:
    """A scheme of a test: its items are the outcomes, in JSON."""

    annotation = f"{KEYS_PREFIX}test"

    def attempts(self, item):
        for number, outcome in enumerate(json.loads(item)):
            yield Attempt(f"key {number}", lambda outcome=outcome: self.result(outcome))

    def result(self, outcome):
        if outcome == "opens":
            return OPTIONS
        kind = {"refused": RefusedError, "unavailable": UnavailableError, "invalid": InvalidInputError}[
            outcome
        ]
        raise kind(f"test-{outcome}", "no", stage=Stage.DECRYPT)


def scheme_outcome(*items):
    texts = (base64.b64encode(json.dumps(item).encode()).decode() for item in items)
    checks = Checks()
    layer = descriptor(**{Scheme.annotation: ",".join(texts)})
    try:
        return KeyRing(schemes=[Scheme()]).unwrap(layer, checks).private, checks
    except EnclaveCcError as error:
        return error, checks


def test_recipients_of_one_scheme_share_an_annotation_in_their_order():
    recipients = [BrokerKey(Secret(KEK), kid) for kid in (OTHER, KID)]
    annotations = wrapped_annotations(OPTIONS, recipients)
    assert list(annotations) == [KEYS_ANNOTATION]
    items = [base64.b64decode(item) for item in annotations[KEYS_ANNOTATION].split(",")]
    assert [json.loads(item)["kid"] for item in items] == [OTHER, KID]


@pytest.mark.parametrize("rubbish", ["?", "", "!!!!", base64.b64encode(b"{}").decode(), "e30", "A" * 100_000])
@pytest.mark.parametrize("place", ["before", "after"])
def test_rubbish_beside_a_good_item_hides_nothing(rubbish, place):
    items = [rubbish, broker_item()] if place == "before" else [broker_item(), rubbish]
    private, checks = unwrap(descriptor(",".join(items)))
    assert private == OPTIONS
    assert outcomes(checks)[-1] == ("passed", KID)


def test_every_attempt_leaves_its_finding_in_order():
    private, checks = unwrap(descriptor(f"?,{broker_item(OTHER)},{broker_item()}"))
    assert private == OPTIONS
    name = "provider.attestation-agent, item 1"
    assert outcomes(checks) == [("skipped", name), ("skipped", OTHER), ("passed", KID)]


def test_a_scheme_nobody_here_has_a_key_for_is_named():
    error, checks = unwrap(
        descriptor(**{f"{KEYS_PREFIX}pgp": "AAAA", f"{KEYS_PREFIX}provider.other": "AAAA"})
    )
    assert isinstance(error, RefusedError)
    assert error.code == "layer-key-refused"
    assert "pgp, provider.other" in error.detail
    assert ("skipped", "pgp") in outcomes(checks)
    assert ("skipped", "provider.other") in outcomes(checks)


def test_a_packet_under_another_providers_name_is_not_the_brokers():
    error, _ = unwrap(descriptor(**{f"{KEYS_PREFIX}provider.attestation-agent2": broker_item()}))
    assert error.code == "layer-key-refused"


def test_the_published_sample_key_opens_nothing_unless_the_owner_stored_it():
    layer = descriptor(broker_item(SAMPLE_KID, SAMPLE_KEY))
    error, checks = unwrap(layer)
    assert isinstance(error, UnavailableError)
    assert outcomes(checks) == [("skipped", SAMPLE_KID)]
    private, _ = unwrap(layer, **{SAMPLE_KID: SAMPLE_KEY})
    assert private == OPTIONS


def test_unauthenticated_wrapping_opens_only_with_the_measured_switch():
    iv = bytes(16)
    encryptor = Cipher(algorithms.AES(KEK), modes.CTR(iv)).encryptor()
    packet = AnnotationPacket(KID, encryptor.update(OPTIONS.encode()), iv, "A256CTR")
    layer = descriptor(base64.b64encode(packet.encode()).decode())
    error, _ = unwrap(layer)
    assert error.code == "layer-key-refused"
    assert "A256CTR" in error.findings[-1].actual
    ring = KeyRing(MemoryResources({KID: KEK}), insecure_allow_a256ctr=True)
    assert ring.unwrap(layer, Checks()).private == OPTIONS


@pytest.mark.parametrize("missing", ["symkey", "digest", "cipheroptions"])
def test_wrapped_options_without_a_member_are_refused_even_beside_a_public_nonce(missing):
    members = json.loads(OPTIONS.encode())
    del members[missing]

    class Bare:
        def encode(self):
            return json.dumps(members).encode()

    members_public = {"cipher": "AES_256_CTR_HMAC_SHA256", "hmac": base64.b64encode(bytes(32)).decode()}
    members_public["cipheroptions"] = {"nonce": base64.b64encode(OPTIONS.nonce).decode()}
    layer = descriptor(broker_item(options=Bare()))
    public = base64.b64encode(json.dumps(members_public).encode()).decode()
    layer = dataclasses.replace(layer, annotations={**layer.annotations, PUBLIC_OPTIONS_ANNOTATION: public})
    error, _ = unwrap(layer)
    assert error.code == "layer-encryption-invalid"


def test_no_more_items_are_tried_than_anybody_writes():
    layer = descriptor(",".join([broker_item(OTHER)] * MAX_ITEMS + [broker_item()]))
    error, checks = unwrap(layer)
    assert isinstance(error, UnavailableError)
    assert len(checks.findings) == MAX_ITEMS + 1
    assert "first 16" in checks.findings[-1].actual


def test_no_more_keys_are_tried_than_a_bounded_number_per_scheme():
    error, checks = scheme_outcome(["refused"] * 40, ["refused"] * 40, ["opens"])
    assert error.code == "test-refused"
    tried = [finding for finding in checks.findings if finding.expected.startswith("key ")]
    assert len(tried) == MAX_ATTEMPTS
    assert any(finding.actual == f"after {MAX_ATTEMPTS} attempts" for finding in checks.findings)


def test_what_may_pass_with_time_is_reported_before_refusals_and_these_before_bad_input():
    for items, code in (
        ([["invalid", "refused", "unavailable"]], "test-unavailable"),
        ([["invalid", "refused"], ["invalid"]], "test-refused"),
        ([["invalid"], ["invalid"]], "test-invalid"),
    ):
        error, _ = scheme_outcome(*items)
        assert error.code == code


def test_a_failing_key_of_an_item_does_not_hide_the_next():
    private, checks = scheme_outcome(["unavailable", "refused"], ["invalid", "opens"])
    assert private == OPTIONS
    assert [str(finding.outcome) for finding in checks.findings] == ["skipped"] * 3 + ["passed"]


def test_a_refusal_carries_every_attempt_and_one_failure():
    error, _ = scheme_outcome(["refused"], ["refused"])
    assert [str(finding.outcome) for finding in error.findings] == ["skipped", "skipped", "failed"]


def test_a_layer_without_any_wrapped_key_is_bad_input():
    error, _ = unwrap(descriptor())
    assert isinstance(error, InvalidInputError)
    assert error.code == "layer-key-invalid"


RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
RSA_URI, EC_URI = "kbs:///owner/keys/rsa", "kbs:///owner/keys/ec"


def private_pem(key):
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_pem(key):
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def certificate():
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "owner.example")])
    now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    builder = x509.CertificateBuilder(name, name, RSA.public_key(), 7, now, now + dt.timedelta(days=1))
    return builder.sign(RSA, SHA256()).public_bytes(Encoding.PEM)


def owner_ring(resources, keys=(RSA_URI, EC_URI)):
    return KeyRing(MemoryResources(resources), decryption_keys=keys)


def layer_for(*recipients):
    return descriptor(**wrapped_annotations(OPTIONS, recipients))


@pytest.mark.parametrize(
    ("recipient", "name"),
    [
        (JweRecipient.parse(public_pem(RSA)), f"jwe, {RSA_URI}"),
        (JweRecipient.parse(public_pem(EC)), f"jwe, {EC_URI}"),
        (CertificateRecipient.parse(certificate()), f"pkcs7, {RSA_URI}"),
    ],
)
def test_layers_for_the_owners_private_keys_open_with_keys_that_the_broker_holds(recipient, name):
    checks = Checks()
    ring = owner_ring({RSA_URI: private_pem(RSA), EC_URI: private_pem(EC)})
    assert ring.unwrap(layer_for(recipient), checks).private == OPTIONS
    assert outcomes(checks)[-1] == ("passed", name)


def test_packets_are_tried_before_jwe_and_jwe_before_pkcs7():
    recipients = [
        CertificateRecipient.parse(certificate()),
        JweRecipient.parse(public_pem(EC)),
        BrokerKey(Secret(KEK), KID),
    ]
    checks = Checks()
    other = rsa.generate_private_key(65537, 2048)
    ring = owner_ring({RSA_URI: private_pem(other)}, keys=[RSA_URI])
    with pytest.raises(EnclaveCcError):
        ring.unwrap(layer_for(*recipients), checks)
    assert [name for _, name in outcomes(checks)][:3] == [KID, f"jwe, {RSA_URI}", f"pkcs7, {RSA_URI}"]


@pytest.mark.parametrize("bad", [None, b"no key", private_pem(RSA)[:-100]])
def test_a_private_key_that_cannot_be_had_does_not_hide_the_next(bad):
    resources = {EC_URI: private_pem(EC), **({RSA_URI: bad} if bad else {})}
    checks = Checks()
    assert owner_ring(resources).unwrap(layer_for(JweRecipient.parse(public_pem(EC))), checks)
    assert [outcome for outcome, _ in outcomes(checks)] == ["skipped", "passed"]


def test_a_private_key_is_fetched_once_for_all_layers_and_only_when_needed():
    resources = MemoryResources({RSA_URI: private_pem(RSA), KID: KEK})
    ring = KeyRing(resources, decryption_keys=[RSA_URI])
    ring.unwrap(layer_for(BrokerKey(Secret(KEK), KID)), Checks())
    assert resources.asked == [KID]
    for _ in range(3):
        ring.unwrap(layer_for(JweRecipient.parse(public_pem(RSA))), Checks())
    assert resources.asked == [KID, RSA_URI]


def test_without_the_owners_keys_jwe_is_a_scheme_that_is_not_known():
    error, checks = unwrap(layer_for(JweRecipient.parse(public_pem(RSA))))
    assert error.code == "layer-key-refused"
    assert ("skipped", "jwe") in outcomes(checks)


def test_rubbish_in_one_scheme_hides_no_other():
    annotations = wrapped_annotations(OPTIONS, [CertificateRecipient.parse(certificate())])
    rubbish = {KEYS_ANNOTATION: "?", JWE_ANNOTATION: "e30=,%%"}
    checks = Checks()
    ring = owner_ring({RSA_URI: private_pem(RSA)}, keys=[RSA_URI])
    assert ring.unwrap(descriptor(**{**annotations, **rubbish}), checks).private == OPTIONS
    assert [outcome for outcome, _ in outcomes(checks)] == ["skipped"] * 3 + ["passed"]


@settings(max_examples=60)
@given(st.text() | st.lists(st.binary().map(lambda data: base64.b64encode(data).decode())).map(",".join))
def test_any_annotation_ends_in_the_error_family(text):
    error, _ = unwrap(descriptor(text))
    assert isinstance(error, EnclaveCcError)
