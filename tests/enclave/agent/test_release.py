"""A key waits for one container, leaves once, and not for ever."""

from __future__ import annotations

import pytest

from enclave_cc.core.errors import RefusedError
from enclave_cc.core.secret import Secret
from enclave_cc.enclave.agent.release import START_TIMEOUT_S, PendingRelease, PendingReleases
from enclave_cc.formats.launch import LaunchConfiguration

LAUNCH = LaunchConfiguration(("/bin/x",), (), "/", "", "sha256:aa")


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def releases(clock):
    return PendingReleases(clock=clock)


def pending(container="c1", token="t"):
    return PendingRelease(container, "request", "key", Secret(b"k" * 32), b"m" * 32, LAUNCH, token)


def test_a_key_leaves_once(releases):
    release = pending()
    releases.keep(release)
    assert releases.waits("c1")
    assert releases.take("c1") is release
    assert not releases.waits("c1")
    with pytest.raises(RefusedError) as caught:
        releases.take("c1")
    assert caught.value.code == "key-release-refused"


def test_a_key_of_another_container_does_not_leave(releases):
    releases.keep(pending("c1"))
    with pytest.raises(RefusedError):
        releases.take("c2")
    assert releases.waits("c1")


def test_a_key_that_nobody_fetched_in_time_is_wiped(releases, clock):
    release = pending()
    releases.keep(release)
    clock.now += START_TIMEOUT_S - 1
    assert releases.waits("c1")
    clock.now += 1
    with pytest.raises(RefusedError):
        releases.take("c1")
    assert len(release.fdk) == 0


def test_a_newer_key_of_the_same_container_voids_the_older(releases):
    older, newer = pending(), pending()
    releases.keep(older)
    releases.keep(newer)
    assert len(older.fdk) == 0
    assert releases.take("c1") is newer


def test_a_discarded_key_is_wiped(releases):
    release = pending()
    releases.keep(release)
    releases.discard("c1")
    releases.discard("c1")
    assert len(release.fdk) == 0
    assert not releases.waits("c1")


def test_the_newest_token_and_the_request_are_known(releases):
    assert releases.newest_token() == ""
    releases.keep(pending("c1", "old"))
    releases.keep(pending("c2", "new"))
    assert releases.newest_token() == "new"
    assert releases.request_of("c1") == "request"
    assert releases.request_of("c3") == ""
