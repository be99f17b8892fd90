"""Every way to cheat is refused for the right reason, told to both audiences, and leaves nothing."""

from __future__ import annotations

import pytest

from enclave_cc.demo.scene.sweep import leftovers
from enclave_cc.demo.story import acts
from enclave_cc.demo.story.refusals import REFUSALS, attempt

# The first test waits for the whole scene, and on a fresh machine for the download of packages.
pytestmark = [pytest.mark.root, pytest.mark.scene, pytest.mark.timeout(600)]


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.name.replace(" ", "-"))
def test_it_is_refused_for_the_right_reason_and_leaves_nothing(cast, refusal):
    before = leftovers(cast.scene.paths)
    report = attempt(cast, refusal)
    assert report.ok, (report.problems, report.host, report.owner)
    acts.wait_until_gone(cast, before)


def test_a_refused_create_can_be_followed_by_a_good_one(cast, failed):
    unsigned = next(refusal for refusal in REFUSALS if refusal.expected_code == "signature-missing")
    report = attempt(cast, unsigned)
    assert "image.signature.present" in failed(report.owner)
    kubelet = cast.scene.kubelet()
    kubelet.remove(kubelet.run(cast.pod("after-a-refusal", cast.hello)))
