"""An encrypted, signed image runs in enclaves on stock containerd, driven over the CRI socket."""

from __future__ import annotations

import json

import pytest

from enclave_cc.demo.cri.kubelet import wait_for
from enclave_cc.demo.cri.messages import ContainerState, SandboxState
from enclave_cc.demo.scene.sweep import leftovers
from enclave_cc.demo.story import acts

# The first test waits for the whole scene, and on a fresh machine for the download of packages.
pytestmark = [pytest.mark.root, pytest.mark.scene, pytest.mark.timeout(600)]


def test_containerd_is_stock_and_speaks_cri_v1(scene):
    version = scene.cri.runtime("Version")
    assert version["runtime_name"] == "containerd"
    assert version["runtime_api_version"] == "v1"


def test_the_workload_starts_with_the_images_own_entrypoint_environment_user_and_directory(cast, hello):
    assert acts.read_log(cast, hello)


def test_a_command_runs_where_the_workload_does(cast, hello):
    assert acts.run_command(cast, hello)


def test_the_writable_layer_is_the_one_that_the_pod_asked_for(cast, hello):
    assert acts.fill(cast, hello)


def test_an_exec_has_the_workloads_user(cast, hello):
    code, output, _ = cast.scene.cri.exec_sync(hello.container_id, "id", "-u")
    assert (code, output.strip()) == (0, b"65534")


def test_the_exit_code_of_a_command_is_its_own(cast, hello):
    assert cast.scene.cri.exec_sync(hello.container_id, "sh", "-c", "exit 7")[0] == 7


def test_containerd_calls_the_container_running(cast, hello):
    status = cast.scene.cri.runtime("ContainerStatus", container_id=hello.container_id)["status"]
    assert status["state"] == ContainerState.RUNNING


def test_lists_show_pod_container_and_image(cast, hello):
    cri = cast.scene.cri
    pods = {item["id"]: item for item in cri.runtime("ListPodSandbox")["items"]}
    containers = {item["id"]: item for item in cri.runtime("ListContainers")["containers"]}
    images = [tag for image in cri.images("ListImages")["images"] for tag in image["repo_tags"]]
    assert pods[hello.sandbox_id]["metadata"]["name"] == "hello"
    assert pods[hello.sandbox_id]["state"] == SandboxState.READY
    assert containers[hello.container_id]["pod_sandbox_id"] == hello.sandbox_id
    assert containers[hello.container_id]["state"] == ContainerState.RUNNING
    assert cast.hello.reference in images


def test_the_runtime_is_ready(scene):
    conditions = {
        item["type"]: item["status"] for item in scene.cri.runtime("Status")["status"]["conditions"]
    }
    assert conditions["RuntimeReady"]


def test_an_image_can_be_removed_and_pulled_again(cast):
    cri, kubelet = cast.scene.cri, cast.scene.kubelet()
    variant = cast.tenant.publish("removable", cast.variant("removable"), signed_by=cast.tenant.signing_key)
    plan = cast.pod("removable", variant)
    for _ in range(2):
        kubelet.remove(kubelet.run(plan))
        cri.images("RemoveImage", image={"image": plan.image})
        assert cri.images("ImageStatus", image={"image": plan.image})["image"] is None


def test_a_real_server_answers_with_data_of_its_encrypted_image(cast, server):
    assert acts.talk_to_server(cast, server)


def test_the_host_holds_no_layer_and_no_plaintext(cast, hello, server):
    assert hello
    assert server
    assert acts.search(cast)


def test_the_root_file_system_is_visible_nowhere_on_the_host(cast, hello):
    bundles = cast.scene.paths.containerd.glob(f"state/*/*/{hello.container_id}/rootfs")
    assert [list(rootfs.iterdir()) for rootfs in bundles] == [[]]


def test_the_owner_sees_what_was_released_and_to_whom(cast, hello):
    assert hello
    with cast.scene.admin() as admin:
        log = json.dumps(admin.audit())
    assert "kbs:///demo/keys/layers" in log


def test_a_removed_pod_leaves_nothing(cast):
    kubelet = cast.scene.kubelet()
    before = leftovers(cast.scene.paths)
    pod = kubelet.run(cast.pod("short-lived", cast.hello))
    assert leftovers(cast.scene.paths).beyond(before)
    acts.take_down(cast, (pod,), before)


def test_a_container_that_is_stopped_ends_by_its_own_hand(cast):
    kubelet = cast.scene.kubelet()
    pod = kubelet.run(cast.pod("stopped", cast.hello))
    try:
        acts.read_log(cast, pod)
        kubelet.stop_container(pod)
        wait_for("the end", lambda: cast.scene.cri.exit_code(pod.container_id) is not None, within_s=5)
        assert cast.scene.cri.exit_code(pod.container_id) == 0
    finally:
        kubelet.remove_sandbox(pod.sandbox_id)
