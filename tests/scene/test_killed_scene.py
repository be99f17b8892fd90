"""A demo that was killed leaves a scene behind; the next one removes it, and only it."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from enclave_cc.demo.cri.kubelet import wait_for
from enclave_cc.demo.scene.paths import ScenePaths
from enclave_cc.demo.scene.sweep import leftovers, processes_of, sweep

# The first test waits for the whole scene, and on a fresh machine for the download of packages.
pytestmark = [pytest.mark.root, pytest.mark.scene, pytest.mark.timeout(600)]

_PROGRAM = """
import sys, time
from pathlib import Path
from enclave_cc.demo.story.cast import build_images, publish
from enclave_cc.demo.owner.publish import Tenant
from enclave_cc.demo.scene.scene import Scene

scene = Scene(Path(sys.argv[1]))
scene.start()
tenant = Tenant(scene.paths.tenant, scene.registry)
cast = publish(scene, tenant, build_images(scene, tenant))
scene.kubelet().run(cast.pod("left-behind", cast.hello))
print("running", flush=True)
time.sleep(600)
"""


@pytest.fixture
def scenes():
    # Shorter than the usual temporary directory: a pod's agent socket has a long name.
    path = Path(tempfile.mkdtemp(prefix="e", dir="/tmp"))
    yield path
    sweep(path)
    shutil.rmtree(path)


def test_what_a_killed_demo_left_is_removed_and_a_living_scene_stays(scene, hello, scenes):
    with subprocess.Popen([sys.executable, "-c", _PROGRAM, str(scenes)], stdout=subprocess.PIPE) as owner:
        assert owner.stdout.readline() == b"running\n"
        (root,) = (path for path in scenes.iterdir() if path.is_dir())
        dead = ScenePaths(root)
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    # The daemons died with their owner; the pod's processes did not.
    wait_for("the daemons' end", lambda: len(processes_of(dead)) < 10, within_s=10)
    assert leftovers(dead)
    assert sweep(scenes) == (root,)
    assert not leftovers(dead)
    assert list(scenes.iterdir()) == []
    assert scene.cri.exec_sync(hello.container_id, "true")[0] == 0
