"""Trust in authorities and logs, from the policy to the verdict, in both forms of signatures."""

import base64
import dataclasses
import json

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tests.image.signatures.test_bundles import Attachments
from tests.simulators.sigstore import ISSUER, SIGNER, SigstoreSimulator, new_key, public_pem

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import InvalidInputError, RefusedError
from enclave_cc.core.findings import Outcome
from enclave_cc.formats.oci.descriptor import Descriptor
from enclave_cc.formats.oci.manifest import Manifest
from enclave_cc.formats.sigstore.cosign import PAYLOAD_MEDIA_TYPE, signature_tag
from enclave_cc.formats.sigstore.statement import write_statement


def _data(text):
    return base64.b64encode(text).decode()


class World(Attachments):
    """An image, a sigstore, and what an owner pins of it."""

    def __init__(self, world):
        super().__init__(world)
        self.sigstore = SigstoreSimulator()

    def by_root(self, root=None, **members):
        pinned = {
            "trustedRootData": _data(root or self.sigstore.trusted_root()),
            "certificateIdentity": SIGNER,
            "certificateOidcIssuer": ISSUER,
        }
        return self.world.policy(keyPath=None, **{**pinned, **members})

    def by_fulcio(self, **members):
        authority = self.sigstore.authority.root.public_bytes(Encoding.PEM).decode()
        fulcio = {"caData": authority, "oidcIssuer": ISSUER, "subjectEmail": SIGNER}
        log = public_pem(self.sigstore.log.key).decode()
        return self.world.policy(keyPath=None, **{"fulcio": fulcio, "rekorPublicKeyData": log, **members})

    def sign_bundle(self, **changes):
        bundle = self.sigstore.sign_statement(write_statement(self.claim()))
        self.attach(json.dumps({**bundle, **changes}).encode())

    def sign_tag(self, key=None, without=()):
        payload = self.claim().to_bytes()
        annotations = self.sigstore.annotations(payload, key)
        for name in without:
            del annotations[f"dev.sigstore.cosign/{name}"]
        layer = Descriptor(PAYLOAD_MEDIA_TYPE, Digest.of(payload), len(payload), annotations)
        self.world.registry.blobs[str(layer.digest)] = payload
        manifest = Manifest(Descriptor("application/x", Digest.of(b""), 0), (layer,))
        tag = signature_tag(self.digest)
        self.world.registry.put_manifest(self.world.reference, tag, manifest.to_bytes(), "")

    def refused(self, policy, code, rule):
        with pytest.raises(RefusedError) as caught:
            self.world.verify(policy=policy)
        assert caught.value.code == code
        (failed,) = [finding for finding in caught.value.findings if finding.outcome is Outcome.FAILED]
        assert failed.rule == rule


@pytest.fixture
def beside(world):
    return World(world)


def test_a_keyless_bundle_is_accepted_by_a_trusted_root_and_by_an_authority(world, beside):
    beside.sign_bundle()
    # The authority's own intermediate is pinned in a trusted root; bundles bring none along.
    world.verify(policy=beside.by_root())
    chain = (beside.sigstore.authority.certificate, beside.sigstore.authority.root)
    pinned = "".join(one.public_bytes(Encoding.PEM).decode() for one in chain)
    fulcio = {"caData": pinned, "oidcIssuer": ISSUER, "subjectEmail": SIGNER}
    world.verify(policy=beside.by_fulcio(fulcio=fulcio))


def test_a_keyless_signature_under_the_tag_is_accepted_by_both(world, beside):
    beside.sign_tag()
    world.verify(policy=beside.by_root())
    world.verify(policy=beside.by_fulcio())


@pytest.mark.parametrize(
    ("without", "code", "rule"),
    [
        ("certificate", "signature-certificate-refused", "image.signature.certificate"),
        ("bundle", "signature-log-refused", "image.signature.log"),
        ("chain", "signature-certificate-refused", "image.signature.certificate"),
    ],
)
def test_what_stands_beside_a_keyless_signature_is_needed(beside, without, code, rule):
    beside.sign_tag(without=[without])
    beside.refused(beside.by_fulcio(), code, rule)


def test_another_signer_than_the_policy_names_is_refused(beside):
    beside.sign_bundle()
    policy = beside.by_root(certificateIdentity="other@team.example")
    beside.refused(policy, "signature-signer-refused", "image.signature.signer")
    policy = beside.by_root(certificateOidcIssuer="https://other.example")
    beside.refused(policy, "signature-signer-refused", "image.signature.issuer")


def test_another_instance_of_sigstore_is_refused(beside):
    beside.sign_bundle()
    policy = beside.by_root(SigstoreSimulator().trusted_root())
    beside.refused(policy, "signature-log-refused", "image.signature.log")


def test_keyless_signatures_have_to_name_the_image_too(beside):
    subject = {"digest": {"sha256": beside.digest.hex}, "name": "registry.example/team/other"}
    statement = json.loads(write_statement(beside.claim()))
    bundle = beside.sigstore.sign_statement(json.dumps({**statement, "subject": [subject]}).encode())
    beside.attach(json.dumps(bundle).encode())
    beside.refused(beside.by_root(), "signature-identity-refused", "image.signature.identity")


@pytest.mark.parametrize("form", ["tag", "bundle"])
def test_a_key_may_be_asked_for_together_with_a_log(world, beside, form):
    key = new_key()
    log = public_pem(beside.sigstore.log.key).decode()
    policy = world.policy(keyPath=None, keyData=public_pem(key).decode(), rekorPublicKeyData=log)
    another = world.policy(
        keyPath=None, keyData=public_pem(key).decode(), rekorPublicKeyData=public_pem(new_key()).decode()
    )
    if form == "tag":
        beside.sign_tag(key)
    else:
        body = world.registry.manifests[world.reference.name, str(beside.digest)].body
        signature, _, entry = beside.sigstore.sign_message(body, key)
        bundle = {
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": {"publicKey": {}, "tlogEntries": [entry]},
            "messageSignature": {"signature": _data(signature)},
        }
        beside.attach(json.dumps(bundle).encode())
        policy, another = (
            dataclasses.replace(one, default=_any_name(world, one)) for one in (policy, another)
        )
    world.verify(policy=policy)
    beside.refused(another, "signature-log-refused", "image.signature.log")


def _any_name(world, policy):
    any_name = world.policy(signedIdentity={"type": "insecureAnyName"}).default[0].identity
    return tuple(dataclasses.replace(one, identity=any_name) for one in policy.default)


def test_a_key_without_the_log_that_is_asked_for_is_refused(world, beside):
    key = new_key()
    beside.sign_tag(key, without=["bundle"])
    log = public_pem(beside.sigstore.log.key).decode()
    policy = world.policy(keyPath=None, keyData=public_pem(key).decode(), rekorPublicKeyData=log)
    beside.refused(policy, "signature-log-refused", "image.signature.log")
    world.verify(policy=world.policy(keyPath=None, keyData=public_pem(key).decode()))


@pytest.mark.parametrize(
    ("member", "code"),
    [
        ({"trustedRootData": _data(b"{}")}, "trust-root-invalid"),
        ({"trustedRootData": _data(b"-----BEGIN")}, "trust-root-invalid"),
    ],
)
def test_a_trust_root_that_is_none_is_bad_input(world, beside, member, code):
    beside.sign_bundle()
    with pytest.raises(InvalidInputError) as caught:
        world.verify(policy=beside.by_root(**member))
    assert caught.value.code == code


def test_an_authority_that_is_none_is_bad_input(world, beside):
    for data in (b"x", public_pem(new_key())):
        fulcio = {"caData": _data(data), "oidcIssuer": ISSUER, "subjectEmail": SIGNER}
        with pytest.raises(InvalidInputError) as caught:
            world.verify(policy=beside.by_fulcio(fulcio=fulcio))
        assert caught.value.code == "trust-root-invalid"


@pytest.mark.parametrize("text", ["", "{", '{"Payload":{}}', "x" * 200_000])
def test_a_log_entry_that_does_not_parse_makes_its_signature_none(beside, text):
    beside.sign_tag()
    tag = signature_tag(beside.digest)
    manifest = Manifest.parse(beside.world.registry.manifests[beside.world.reference.name, tag].body)
    layer = manifest.layers[0]
    annotations = {**layer.annotations, "dev.sigstore.cosign/bundle": text}
    bent = dataclasses.replace(manifest, layers=(dataclasses.replace(layer, annotations=annotations),))
    beside.world.registry.put_manifest(beside.world.reference, tag, bent.to_bytes(), "")
    with pytest.raises(RefusedError):
        beside.world.verify(policy=beside.by_fulcio())
