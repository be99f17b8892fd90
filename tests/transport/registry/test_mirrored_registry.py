"""Mirrors: who is asked next, who is left alone, and who has the last word."""

import json

import pytest
from tests.simulators.clock import FakeClock

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import InvalidInputError, RefusedError, Stage, UnavailableError
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.registries.configuration import Registries
from enclave_cc.transport.registry.client import FetchedManifest
from enclave_cc.transport.registry.mirrored import COOL_DOWN_S, MirroredRegistry, MirrorHealth

CONFIG = b"""
[[registry]]
prefix = "registry.example"
[[registry.mirror]]
location = "m1.example"
[[registry.mirror]]
location = "m2.example/cache"
[[registry]]
prefix = "blocked.example"
blocked = true
"""
IMAGE = Reference.parse("registry.example/app:1")
BODY = b'{"right":1}'
DIGEST = str(Digest.of(BODY))
EMPTY = FetchedManifest(b'{"manifests":[]}', "index")


def _error(kind, code):
    return kind(code, code, stage=Stage.FETCH, detail=f"detail of {code}")


AWAY = _error(UnavailableError, "registry-unavailable")
ABSENT = _error(InvalidInputError, "image-not-found")
DENIED = _error(InvalidInputError, "registry-access-denied")
CANCELLED = _error(UnavailableError, "cancelled")


class Client:
    """Answers by registry: an error, bytes, or chunks of a blob that may end in an error."""

    def __init__(self, answers):
        self.answers = answers
        self.asked = []
        self.closed = False

    def _answer(self, reference, what):
        self.asked.append((reference.name, what))
        answer = self.answers.get(reference.registry, ABSENT)
        if isinstance(answer, Exception):
            raise type(answer)(answer.code, answer.summary, stage=answer.stage, detail=answer.detail)
        return answer

    def manifest(self, reference, *, digest_or_tag):
        return FetchedManifest(self._answer(reference, digest_or_tag), "m")

    def referrers(self, reference, *, digest):
        return self._answer(reference, digest)

    def blob(self, reference, digest, *, offset=0):
        for chunk in self._answer(reference, offset):
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk

    def close(self):
        self.closed = True


class World:
    def __init__(self, **answers):
        self.client = Client({f"{name}.example": answer for name, answer in answers.items()})
        self.clock = FakeClock()
        self.health = MirrorHealth(clock=self.clock)
        self.registry = self.open()

    def open(self):
        return MirroredRegistry(
            Registries.parse(CONFIG, strict=True), self.client, quick=self.client, health=self.health
        )

    def manifest(self, target="1"):
        return self.registry.manifest(IMAGE, digest_or_tag=target).body

    def asked(self):
        names = [name for name, _ in self.client.asked]
        self.client.asked.clear()
        return names


ALL = ["m1.example/app", "m2.example/cache/app", "registry.example/app"]


def test_the_first_mirror_that_has_it_is_enough():
    world = World(m1=BODY, registry=BODY)
    assert world.manifest() == BODY
    assert world.asked() == ALL[:1]


@pytest.mark.parametrize("reason", [AWAY, ABSENT])
def test_the_next_one_is_asked_when_a_mirror_is_away_or_lacks_it(reason):
    world = World(m1=reason, m2=reason, registry=BODY)
    assert world.manifest() == BODY
    assert world.asked() == ALL


@pytest.mark.parametrize("reason", [DENIED, CANCELLED])
def test_other_failures_stand(reason):
    world = World(m1=reason, registry=BODY)
    with pytest.raises(type(reason)) as caught:
        world.manifest()
    assert caught.value.code == reason.code
    assert world.asked() == ALL[:1]


def test_a_mirror_that_was_away_is_left_alone_for_a_while_also_in_the_next_pull():
    world = World(m1=AWAY, registry=BODY)
    world.manifest()
    world.asked()
    world.registry = world.open()
    world.manifest()
    assert world.asked() == ALL[1:]
    world.clock.now += COOL_DOWN_S
    world.manifest()
    assert world.asked() == ALL


def test_a_mirror_that_lacks_something_is_not_left_alone():
    world = World(m1=ABSENT, registry=BODY)
    world.manifest()
    world.manifest()
    assert world.asked() == ALL * 2


def test_a_mirror_that_serves_another_manifest_than_named_is_passed_over():
    world = World(m1=b'{"wrong":1}', m2=BODY)
    assert world.manifest(DIGEST) == BODY
    world.asked()
    world.manifest(DIGEST)
    assert world.asked() == ALL[1:2]


def test_what_the_last_one_serves_is_the_callers_to_judge():
    assert World(registry=b'{"wrong":1}').manifest(DIGEST) == b'{"wrong":1}'


def test_the_last_ones_failure_names_all_that_were_tried():
    world = World(m1=AWAY, registry=ABSENT)
    with pytest.raises(InvalidInputError) as caught:
        world.manifest()
    assert caught.value.code == "image-not-found"
    assert [part.partition(":")[0] for part in caught.value.detail.split("; ")] == ALL


def test_nothing_is_called_absent_while_its_own_registry_is_away():
    with pytest.raises(UnavailableError):
        World(m1=ABSENT, m2=ABSENT, registry=AWAY).manifest()


def test_a_blocked_registry_is_not_asked():
    world = World(blocked=BODY)
    with pytest.raises(RefusedError) as caught:
        world.registry.manifest(Reference.parse("blocked.example/app:1"), digest_or_tag="1")
    assert caught.value.code == "registry-blocked"
    with pytest.raises(RefusedError):
        list(world.registry.blob(Reference.parse("blocked.example/app:1"), DIGEST))
    assert world.asked() == []


def test_a_blob_goes_on_where_a_mirror_stopped():
    world = World(m1=[b"0123", AWAY], m2=AWAY, registry=[b"456789"])
    assert b"".join(world.registry.blob(IMAGE, DIGEST)) == b"0123456789"
    assert [offset for _, offset in world.client.asked] == [0, 4, 4]


def test_a_mirror_that_gave_a_wrong_blob_is_not_asked_again():
    world = World(m1=[b"wrong"], registry=[b"right"])
    list(world.registry.blob(IMAGE, DIGEST))
    assert world.registry.reject(DIGEST)
    world.asked()
    assert b"".join(world.registry.blob(IMAGE, DIGEST)) == b"right"
    assert world.asked() == ALL[1:]
    assert not world.registry.reject(DIGEST)


def test_a_mirror_that_gave_an_empty_blob_is_not_asked_again():
    world = World(m1=[], registry=[b"right"])
    assert b"".join(world.registry.blob(IMAGE, DIGEST)) == b""
    assert world.registry.reject(DIGEST)
    assert b"".join(world.registry.blob(IMAGE, DIGEST)) == b"right"


def test_nobody_is_to_blame_for_a_blob_that_was_never_asked_for():
    assert not World().registry.reject(DIGEST)


def test_referrers_come_from_the_first_that_lists_any():
    listed = FetchedManifest(json.dumps({"manifests": [{"digest": DIGEST}]}).encode(), "index")
    world = World(m1=EMPTY, m2=AWAY, registry=listed)
    assert world.registry.referrers(IMAGE, digest=DIGEST) == listed
    assert world.asked() == ALL


def test_nobody_lists_anything():
    assert World(m1=EMPTY, m2=EMPTY, registry=EMPTY).registry.referrers(IMAGE, digest=DIGEST) == EMPTY


def test_closing_closes_the_clients():
    world = World()
    world.registry.close()
    assert world.client.closed
