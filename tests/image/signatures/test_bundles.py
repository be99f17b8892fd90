"""Signatures as cosign 3 keeps them: bundles that refer to the manifest."""

import base64
import dataclasses
import json

import pytest

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import InvalidInputError, RefusedError, Stage
from enclave_cc.core.findings import Outcome
from enclave_cc.formats.oci.descriptor import Descriptor
from enclave_cc.formats.oci.manifest import Index, Manifest
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.signatures.claim import SignedClaim
from enclave_cc.formats.sigstore.bundle import BUNDLE_MEDIA_TYPE, write_bundle
from enclave_cc.formats.sigstore.statement import (
    PAYLOAD_TYPE,
    pre_authentication_encoding,
    write_statement,
)
from enclave_cc.image.signatures.found import MAX_BUNDLES
from enclave_cc.tenant.signing.signing_key import SigningKey

EMPTY = Descriptor("application/vnd.oci.empty.v1+json", Digest.of(b"{}"), 2)


class Attachments:
    """Puts bundles beside the image of a world, under the tag that stands in for the referrers API."""

    def __init__(self, world):
        self.world = world
        self.digest = world.publish(signed_for="")
        self.key = SigningKey.load(world.private_key)
        self.entries = []

    def claim(self, name="registry.example/team/app", digest=None):
        return SignedClaim(digest or self.digest, name)

    def attach(self, bundle, **members):
        registry, reference = self.world.registry, self.world.reference
        layer = Descriptor(BUNDLE_MEDIA_TYPE, Digest.of(bundle), len(bundle))
        registry.blobs[str(layer.digest)] = bundle
        artifact = Manifest(EMPTY, members.pop("layers", (layer,)), artifact_type=BUNDLE_MEDIA_TYPE)
        body = artifact.to_bytes()
        registry.put_manifest(reference, str(Digest.of(body)), body, artifact.media_type)
        entry = Descriptor(artifact.media_type, Digest.of(body), len(body), artifact_type=BUNDLE_MEDIA_TYPE)
        self.entries.append(dataclasses.replace(entry, **members))
        index = Index(tuple(self.entries))
        registry.put_manifest(reference, f"sha256-{self.digest.hex}", index.to_bytes(), index.media_type)
        return layer

    def sign(self, statement, key=None):
        signature = (key or self.key).sign(pre_authentication_encoding(PAYLOAD_TYPE, statement))
        return write_bundle(statement, signature, key_hint="")


@pytest.fixture
def beside(world):
    return Attachments(world)


def _refused(world, code, rule, **options):
    with pytest.raises(RefusedError) as caught:
        world.verify(**options)
    assert caught.value.code == code
    (failed,) = [finding for finding in caught.value.findings if finding.outcome is Outcome.FAILED]
    assert failed.rule == rule
    return failed


def _statement(claim, **changes):
    document = json.loads(write_statement(claim))
    return json.dumps({**document, **changes}).encode()


def _without_name(claim):
    subject = {"digest": {"sha256": claim.manifest_digest.hex}, "annotations": {}}
    return _statement(claim, subject=[subject])


def test_a_bundle_is_a_signature(world, beside):
    beside.attach(beside.sign(write_statement(beside.claim())))
    world.verify()


def test_a_registry_may_leave_the_type_out_of_its_list(world, beside):
    beside.attach(beside.sign(write_statement(beside.claim())), artifact_type="")
    world.verify()


@pytest.mark.parametrize("size", [100, 1 << 30])
def test_an_artifact_that_the_registry_cannot_serve_hides_no_other(world, beside, size):
    registry, fetch = world.registry, world.registry.manifest
    wrong = Digest.of(b"too large")
    beside.entries.append(Descriptor("application/json", wrong, size, artifact_type=BUNDLE_MEDIA_TYPE))
    beside.attach(beside.sign(write_statement(beside.claim())))

    def manifest(reference, *, digest_or_tag):
        if digest_or_tag == str(wrong):
            raise InvalidInputError("registry-response-invalid", "more than 4 MiB", stage=Stage.FETCH)
        return fetch(reference, digest_or_tag=digest_or_tag)

    registry.manifest = manifest
    world.verify()


def test_what_refers_to_an_image_and_is_no_bundle_is_not_looked_at(world, beside):
    beside.attach(beside.sign(write_statement(beside.claim())), artifact_type="application/spdx+json")
    _refused(world, "signature-missing", "image.signature.present")


def test_a_bundle_by_another_key_is_refused(world, beside):
    beside.attach(beside.sign(write_statement(beside.claim()), SigningKey.generate()))
    _refused(world, "signature-key-refused", "image.signature.key")


def test_a_bundle_about_another_image_is_refused(world, beside):
    beside.attach(beside.sign(write_statement(beside.claim(digest=Digest.of(b"another")))))
    _refused(world, "signature-digest-refused", "image.signature.digest")


def test_a_bundle_for_another_name_is_refused(world, beside):
    beside.attach(beside.sign(write_statement(beside.claim("registry.example/team/other"))))
    _refused(world, "signature-identity-refused", "image.signature.identity")


def test_a_bundle_without_a_name_is_refused_unless_the_policy_says_any_name(world, beside):
    beside.attach(beside.sign(_without_name(beside.claim())))
    failed = _refused(world, "signature-identity-refused", "image.signature.identity")
    assert failed.actual == "the signature names no image"
    world.verify(policy=world.policy(signedIdentity={"type": "insecureAnyName"}))


def test_an_annotation_names_the_image_as_cosign_can_write_it(world, beside):
    claim = beside.claim()
    subject = {
        "digest": {"sha256": claim.manifest_digest.hex},
        "annotations": {"docker-reference": claim.docker_reference},
    }
    beside.attach(beside.sign(_statement(claim, subject=[subject])))
    world.verify()


@pytest.mark.parametrize(
    "changes",
    [
        {"predicateType": "https://slsa.dev/provenance/v1"},
        {"_type": "https://in-toto.io/Statement/v0.1"},
        {"subject": []},
        {"subject": [{"name": "registry.example/team/app", "digest": {"md5": "00"}}]},
        {"more": 1},
    ],
)
def test_an_authentic_statement_of_another_kind_is_no_signature(world, beside, changes):
    beside.attach(beside.sign(_statement(beside.claim(), **changes)))
    _refused(world, "signature-invalid", "image.signature.payload")


def test_two_names_that_contradict_each_other_are_none(world, beside):
    claim = beside.claim()
    subject = {
        "name": claim.docker_reference,
        "digest": {"sha256": claim.manifest_digest.hex},
        "annotations": {"docker-reference": "registry.example/team/other"},
    }
    beside.attach(beside.sign(_statement(claim, subject=[subject])))
    _refused(world, "signature-invalid", "image.signature.payload")


def test_a_changed_statement_does_not_verify(world, beside):
    bundle = json.loads(beside.sign(write_statement(beside.claim(digest=Digest.of(b"another")))))
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(write_statement(beside.claim())).decode()
    beside.attach(json.dumps(bundle).encode())
    _refused(world, "signature-key-refused", "image.signature.key")


def test_a_signature_of_the_manifest_itself_names_no_image(world, beside):
    body = world.registry.manifests[world.reference.name, str(beside.digest)].body
    bundle = {
        "mediaType": BUNDLE_MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {}},
        "messageSignature": {
            "messageDigest": {
                "algorithm": "SHA2_256",
                "digest": base64.b64encode(bytes.fromhex(beside.digest.hex)).decode(),
            },
            "signature": base64.b64encode(beside.key.sign(body)).decode(),
        },
    }
    beside.attach(json.dumps(bundle).encode())
    _refused(world, "signature-identity-refused", "image.signature.identity")
    world.verify(policy=world.policy(signedIdentity={"type": "insecureAnyName"}))


def test_rubbish_beside_a_good_bundle_does_not_hide_it(world, beside):
    for rubbish in (b"", b"{}", b"\xff", beside.sign(write_statement(beside.claim()), SigningKey.generate())):
        beside.attach(rubbish)
    beside.attach(b"x" * 100, layers=())
    lost = beside.attach(b"lost")
    del world.registry.blobs[str(lost.digest)]
    replaced = beside.attach(b"replaced")
    world.registry.lies[str(replaced.digest)] = b"by this"
    beside.attach(b"missing artifact", digest=Digest.of(b"nowhere"))
    beside.attach(beside.sign(write_statement(beside.claim())))
    world.verify()


def test_a_list_of_referrers_that_is_none_hides_no_signature_under_the_tag(world):
    digest = world.publish()
    world.registry.put_manifest(world.reference, f"sha256-{digest.hex}", b"rubbish", "")
    world.verify()


def test_a_signature_manifest_that_is_none_hides_no_bundle(world, beside):
    world.registry.put_manifest(world.reference, f"sha256-{beside.digest.hex}.sig", b"rubbish", "")
    beside.attach(beside.sign(write_statement(beside.claim())))
    world.verify()


def test_a_flood_of_bundles_costs_a_bounded_number_of_requests(world, beside):
    stranger = SigningKey.generate()
    bundle = beside.sign(write_statement(beside.claim()), stranger)
    for _ in range(3 * MAX_BUNDLES):
        beside.attach(bundle, annotations={})
    world.registry.calls.clear()
    failed = _refused(world, "signature-key-refused", "image.signature.key")
    assert failed.expected.startswith("sha256:")
    assert len(world.registry.calls) < 3 * MAX_BUNDLES


def test_a_second_requirement_fetches_nothing_again(world, beside):
    beside.attach(beside.sign(write_statement(beside.claim())))
    twice = dataclasses.replace(world.policy(), default=world.policy().default * 2)
    world.registry.calls.clear()
    world.verify(policy=twice)
    asked = [call for call in world.registry.calls if call[0] == "referrers"]
    assert len(asked) == 1


def test_the_bundle_of_an_index_covers_its_images(world, beside):
    child = Reference.parse("registry.example/team/app:1")
    assert child == world.reference
    body = world.registry.manifests[world.reference.name, str(beside.digest)].body
    entry = json.loads(
        Index((Descriptor(Manifest.parse(body).media_type, beside.digest, len(body)),)).to_bytes()
    )
    entry["manifests"][0]["platform"] = {"os": "linux", "architecture": "amd64"}
    index = json.dumps(entry).encode()
    for tag in ("1", str(Digest.of(index))):
        world.registry.put_manifest(world.reference, tag, index, entry["mediaType"])
    image, beside.digest = beside.digest, Digest.of(index)
    beside.attach(beside.sign(write_statement(beside.claim())))
    assert world.verify().manifest_digest == image


@pytest.mark.parametrize("size", [1, 2])
def test_any_of_several_keys_will_do(world, beside, size):
    beside.attach(beside.sign(write_statement(beside.claim())))
    keys = [SigningKey.generate().public.to_pem().decode() for _ in range(size)]
    keys.append(beside.key.public.to_pem().decode())
    world.verify(policy=world.policy(keyPath=None, keyDatas=keys))
