"""One scene for all tests here: the whole chain, started once, taken down at the end."""

from __future__ import annotations

import pytest

from enclave_cc.core.findings import Outcome
from enclave_cc.demo.cri.kubelet import wait_for
from enclave_cc.demo.owner.publish import Tenant
from enclave_cc.demo.scene.requirements import missing_requirements
from enclave_cc.demo.scene.scene import Scene
from enclave_cc.demo.scene.sweep import leftovers
from enclave_cc.demo.story.cast import WRITABLE_WISHES, build_images, publish


@pytest.fixture(scope="session")
def scene():
    """All actors, running."""
    missing = missing_requirements()
    if missing:
        pytest.skip("; ".join(f"{finding.rule}: {finding.remedy}" for finding in missing))
    with Scene() as running:
        yield running
    assert not leftovers(running.paths)
    assert not running.paths.root.exists()


@pytest.fixture(scope="session")
def cast(scene):
    """The owner's images are in the registry, keys and policies in the broker."""
    tenant = Tenant(scene.paths.tenant, scene.registry)
    return publish(scene, tenant, build_images(scene, tenant))


@pytest.fixture(scope="session")
def hello(cast):
    """The small image's pod, running."""
    kubelet = cast.scene.kubelet()
    pod = kubelet.run(cast.pod("hello", cast.hello, wishes=WRITABLE_WISHES))
    # Its last process is there before anybody counts.
    wait_for("the workload's rest", lambda: _sleeps(cast.scene), within_s=10)
    yield pod
    kubelet.remove(pod)


def _sleeps(scene):
    # The pause container sleeps for another time.
    return any("sleep 7200" in process for process in leftovers(scene.paths).processes)


@pytest.fixture(scope="session")
def server(cast):
    """The server image's pod, running."""
    kubelet = cast.scene.kubelet()
    pod = kubelet.run(cast.pod("server", cast.server))
    yield pod
    kubelet.remove(pod)


@pytest.fixture
def failed():
    """The rules that failed among findings, by name."""

    def by_name(findings):
        return {finding.rule: finding for finding in findings if finding.outcome is Outcome.FAILED}

    return by_name
