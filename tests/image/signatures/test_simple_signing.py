"""``signedBy``, from the policy to the verdict, with signatures from a store beside the registry."""

import base64
import datetime as dt
import json
import time

import pytest
from pysequoia import Tsk, sign

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import InvalidInputError, RefusedError, Stage, UnavailableError
from enclave_cc.core.findings import Outcome
from enclave_cc.formats.oci.media_types import OCI_INDEX, OCI_MANIFEST
from enclave_cc.formats.signatures.claim import PayloadType, SignedClaim

KEY, OTHER = Tsk.generate("owner@team.example"), Tsk.generate("other@team.example")
NAME = "registry.example/team/app:1"


class Store:
    """Signatures by digest; ``calls`` records what was asked for."""

    def __init__(self):
        self.held = {}
        self.calls = []
        self.failure = None

    def signatures(self, reference, digest):
        self.calls.append(str(digest))
        if self.failure is not None:
            raise self.failure
        yield from self.held.get(str(digest), ())


class World:
    def __init__(self, world):
        self.world = world
        self.digest = world.publish(signed_for="")
        self.store = Store()

    def sign(self, name=NAME, *, key=KEY, digest=None, payload=None, kind=PayloadType.ATOMIC):
        claim = SignedClaim(digest or self.digest, name)
        self.put(sign(key.signer(), payload or claim.to_bytes(kind), armor=False))

    def put(self, data):
        self.store.held.setdefault(str(self.digest), []).append(data)

    def policy(self, *keys, **members):
        ring = b"".join(bytes(key.extract_certificate()) for key in keys or (KEY,))
        data = base64.b64encode(ring).decode()
        signed_by = {"type": "signedBy", "keyType": "GPGKeys", "keyPath": None, "keyData": data}
        return self.world.policy(**{**signed_by, **members})

    def verify(self, policy=None):
        return self.world.verify(policy=policy or self.policy(), signature_store=self.store)

    def refused(self, code, rule, policy=None):
        with pytest.raises(RefusedError) as caught:
            self.verify(policy)
        assert caught.value.code == code
        (failed,) = [finding for finding in caught.value.findings if finding.outcome is Outcome.FAILED]
        assert failed.rule == rule
        return failed


@pytest.fixture
def owner(world):
    return World(world)


def test_a_simple_signature_is_accepted(owner):
    owner.sign()
    assert owner.verify().manifest_digest == owner.digest
    assert owner.verify(owner.policy(OTHER, KEY)).manifest_digest == owner.digest


def test_without_a_store_or_a_signature_the_image_is_refused(owner):
    owner.refused("signature-missing", "image.signature.present")
    owner.sign()
    with pytest.raises(RefusedError) as caught:
        owner.world.verify(policy=owner.policy())
    assert caught.value.code == "signature-missing"


def test_a_signature_by_another_key_is_refused(owner):
    owner.sign(key=OTHER)
    owner.refused("signature-key-refused", "image.signature.key")


def test_a_signature_of_another_image_is_refused(owner):
    owner.sign(digest=Digest.of(b"another"))
    owner.refused("signature-digest-refused", "image.signature.digest")


@pytest.mark.parametrize("name", ["registry.example/team/app", "registry.example/team/app:2", "x"])
def test_a_signature_under_another_name_is_refused(owner, name):
    owner.sign(name)
    owner.refused("signature-identity-refused", "image.signature.identity")


def test_the_policy_may_ask_for_the_repository_only(owner):
    owner.sign("registry.example/team/app")
    owner.verify(owner.policy(signedIdentity={"type": "matchRepository"}))


@pytest.mark.parametrize("payload", [b"{}", b"\xff", b'{"critical":{"type":"atomic container signature"}}'])
def test_an_authentic_payload_that_makes_no_sense_is_refused(owner, payload):
    owner.sign(payload=payload)
    owner.refused("signature-invalid", "image.signature.payload")


def test_cosigns_payload_is_no_simple_signature(owner):
    owner.sign(kind=PayloadType.COSIGN)
    owner.refused("signature-invalid", "image.signature.payload")


def test_an_expired_key_is_refused(owner):
    key = Tsk.generate("old@team.example")
    past = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1)
    cert = key.extract_certificate().set_expiration(past, key.certifier())
    owner.sign(key=key)
    data = base64.b64encode(bytes(cert)).decode()
    time.sleep(1.2)
    owner.refused("signature-key-expired", "image.signature.key-status", owner.policy(keyData=data))


def test_rubbish_beside_a_good_signature_does_not_hide_it(owner):
    for data in (b"", b"rubbish", b"\xff" * 1000):
        owner.put(data)
    owner.sign(key=OTHER)
    owner.sign(digest=Digest.of(b"another"))
    owner.sign()
    owner.verify()


def test_only_rubbish_is_refused_as_such(owner):
    owner.put(b"rubbish")
    owner.refused("signature-invalid", "image.signature.message")


def test_a_store_that_does_not_answer_is_not_an_empty_one(owner):
    owner.store.failure = UnavailableError("registry-unavailable", "gone", stage=Stage.FETCH)
    with pytest.raises(UnavailableError):
        owner.verify()


def test_other_policies_do_not_ask_the_store(owner):
    owner.sign()
    with pytest.raises(RefusedError):
        owner.verify(owner.world.policy())
    assert owner.store.calls == []


def test_a_keyring_that_is_none_is_bad_input(owner):
    owner.sign()
    with pytest.raises(InvalidInputError) as caught:
        owner.verify(owner.policy(keyData="eA=="))
    assert caught.value.code == "signature-key-invalid"


def test_two_keyrings_are_one(owner):
    owner.sign()
    rings = {
        f"kbs:///team/keys/{number}": bytes(key.extract_certificate())
        for number, key in enumerate((OTHER, KEY))
    }
    owner.world.resources.resources.update(rings)
    owner.verify(owner.policy(keyData=None, keyPaths=list(rings)))


def test_a_signature_over_the_index_covers_its_images(owner):
    registry, reference = owner.world.registry, owner.world.reference
    body = registry.manifests[reference.name, str(owner.digest)].body
    child = {"mediaType": OCI_MANIFEST, "digest": str(owner.digest), "size": len(body)}
    child["platform"] = {"os": "linux", "architecture": "amd64"}
    index = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [child]}).encode()
    for tag in ("1", str(Digest.of(index))):
        registry.put_manifest(reference, tag, index, OCI_INDEX)
    image, owner.digest = owner.digest, Digest.of(index)
    owner.sign()
    assert owner.verify().manifest_digest == image
    assert owner.store.calls == [str(image), str(owner.digest)]
