"""From an encrypted image in a registry to a running workload, and each way in which it must not."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from tests.enclave.chain.conftest import LARGE, SMALL, container_spec, runs, start_pod

from enclave_cc.core.errors import EnclaveCcError, RefusedError
from enclave_cc.core.request_id import fresh_request_id
from enclave_cc.formats.messages.agent import IMAGE_SERVICE
from enclave_cc.formats.rootfs_annotations import (
    CONTAINER_NAME,
    DECRYPT_TO_MEMORY,
    WRITABLE,
    WRITABLE_SIZE,
)
from enclave_cc.node.bundles.build import remove_bundle
from enclave_cc.transport.ttrpc_client import TtrpcClient

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]


def failed_rules(explanation, code):
    """Rule, expected and actual of everything that failed in the events of one code."""
    events = [event for event in explanation["events"] if event.get("fields", {}).get("code") == code]
    assert events, explanation
    return [
        (finding["rule"], finding.get("expected", ""), finding.get("actual", ""))
        for event in events
        for finding in event["findings"]
        if finding["outcome"] == "failed"
    ]


def started(pod, boot_of, name):
    boot = boot_of(name, pod.prepare(name, container_spec())["sealed_image"])
    assert boot.message()["pid"] > 0
    boot.start()
    boot.read_until(SMALL)
    return boot


def exec_in(pod, boot, *args, **process):
    wanted = container_spec(args=list(args), env=["LD_PRELOAD=/x"], cwd="/", **process)["process"]
    request = {"request_id": fresh_request_id(), "container_id": boot.container_id}
    approved = pod.call("AuthorizeExec", **request, process=json.dumps(wanted).encode())["process"]
    return boot.exec(approved)


def test_the_workload_starts_as_the_image_says(pod, boot_of):
    boot = started(pod, boot_of, "c-starts")
    assert b"started as 4711:815 in /tmp with care" in boot.output


def test_an_image_for_the_owners_private_key_opens_with_the_key_that_the_broker_holds(pod, world, boot_of):
    sealed = pod.prepare("c-jwe", container_spec(), image=world.jwe_image)["sealed_image"]
    boot = boot_of("c-jwe", sealed, container_spec())
    assert boot.message()["pid"] > 0
    boot.start()
    boot.read_until(SMALL)


def test_an_exec_runs_as_the_containers_user_with_its_environment(pod, boot_of):
    boot = started(pod, boot_of, "c-exec")
    result = exec_in(pod, boot, "/bin/sh", "-c", "id; pwd; echo $MODE $LD_PRELOAD; md5sum /large")
    lines = result.stdout.decode().splitlines()
    assert lines[0] == "uid=4711(app) gid=815(web) groups=99(extra)"
    assert lines[1:3] == ["/tmp", "care"]
    assert lines[3].startswith(hashlib.md5(LARGE).hexdigest())


def test_the_host_sees_neither_root_file_system_nor_plaintext(pod, boot_of):
    boot = started(pod, boot_of, "c-hidden")
    assert list((boot.directory / "bundle/rootfs").iterdir()) == []
    for path in pod.sealed.rglob("*"):
        if path.is_file():
            assert b"a secret greeting" not in path.read_bytes()
            assert b"busybox" not in path.read_bytes()


def test_boot_holds_no_stream_of_the_container(pod, boot_of):
    boot = started(pod, boot_of, "c-streams")
    exec_in(pod, boot, "/bin/true")
    subprocess.run([*boot.runc, "kill", "c-streams", "KILL"], check=True)
    assert boot.output_ends()
    assert boot.stop() == 0


def test_after_the_stop_nothing_is_left(pod, boot_of):
    boot = started(pod, boot_of, "c-stop")
    pid = int((boot.directory / "init.pid").read_text())
    assert boot.stop() == 0
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
    assert not Path(f"/proc/{pid}/root/greeting").exists()
    assert not (boot.directory / "runc" / "c-stop").exists()
    assert str(boot.directory) not in Path("/proc/self/mountinfo").read_text()
    assert sorted(path.name for path in (boot.directory / "work").iterdir()) == ["config.json"]


def test_a_second_prepare_joins_the_first_and_other_arguments_are_refused(pod):
    first = pod.prepare("c-twice", container_spec())
    assert pod.prepare("c-twice", container_spec()) == first
    with pytest.raises(RefusedError) as caught:
        pod.prepare("c-twice", container_spec(args=["/bin/true"]))
    assert caught.value.code == "container-already-prepared"


def test_upstreams_pull_prepares_what_the_image_says(pod, world, boot_of):
    with TtrpcClient(pod.agent_socket, 60) as client:
        request = {"image": world.image, "container_id": "c-pull", "source_creds": "alice:secret"}
        assert client.call(IMAGE_SERVICE, "PullImage", request) == {"image_ref": world.image}
    sealed = max(pod.sealed.iterdir(), key=lambda path: path.stat().st_mtime_ns).name
    boot = boot_of("c-pull", sealed, container_spec(args=["/bin/true"]))
    assert boot.message()["pid"] > 0
    boot.start()
    boot.read_until(SMALL)


def test_an_unknown_image_is_refused(pod, world):
    with pytest.raises(EnclaveCcError) as caught:
        pod.prepare("c-unknown", container_spec(), image=f"{world.registry.host}/team/other:v1")
    assert caught.value.code == "image-not-found"


def test_an_image_outside_of_the_policys_scope_is_refused_by_the_name_that_was_asked_for(pod):
    request_id = fresh_request_id()
    with pytest.raises(RefusedError) as caught:
        pod.prepare("c-scope", container_spec(), image="elsewhere.example/app:v1", request_id=request_id)
    assert failed_rules(pod.world.explain(request_id), caught.value.code)


def test_the_agent_says_who_it_is_and_answers_nonsense_without_harm(pod):
    for method, request in (
        ("Prepare", {}),
        ("Prepare", {"request_id": "x"}),
        ("AuthorizeExec", {"request_id": fresh_request_id(), "container_id": "nobody"}),
    ):
        with pytest.raises(EnclaveCcError):
            pod.call(method, **request)
    with pytest.raises(EnclaveCcError):
        pod.prepare("c-spec", None)
    assert pod.call("Discard", container_id="nobody") == {}
    status = pod.call("Status")
    # Other tests have containers in this pod.
    assert "nobody" not in {container["container_id"] for container in status.pop("containers")}
    who = {"state": "serving", "pod_uid": pod.uid, "tee": "sgx-sim"}
    assert status == {**who, "preparations": []}


def test_a_pod_without_initdata_runs_no_image(world):
    with contextlib.ExitStack() as stack:
        pod = start_pod(replace(world, initdata=""), stack, "pod-empty")
        with pytest.raises(RefusedError) as caught:
            pod.call(
                "Prepare",
                request_id=fresh_request_id(),
                container_id="c1",
                image=world.image,
                spec=json.dumps(container_spec()).encode(),
            )
        assert caught.value.code == "image-policy-missing"


def test_discarding_removes_the_sealed_image(pod):
    prepared = pod.prepare("c-discard", container_spec())
    assert (pod.sealed / prepared["sealed_image"]).is_dir()
    pod.call("Discard", container_id="c-discard")
    assert not (pod.sealed / prepared["sealed_image"]).exists()


def test_a_key_is_released_once(pod, boot_of):
    started(pod, boot_of, "c-once")
    sealed = pod.prepare("c-once", container_spec())["sealed_image"]
    error = boot_of("c-once", sealed).message()["error"]
    assert (error["code"], error["stage"]) == ("app-identity-refused", "local-attestation")


def test_another_pods_app_enclave_gets_no_key(pod, boot_of):
    request_id = fresh_request_id()
    prepared = pod.prepare("c-other", container_spec(), request_id=request_id)
    for changes in ({"pod_uid": "other"}, {"config_id": bytes(63) + b"\1"}):
        boot = boot_of("c-other", prepared["sealed_image"], **changes)
        assert boot.message()["error"]["code"] == "app-identity-refused"
        assert boot.stop() == RefusedError.exit_status
    rules = [rule for rule, _, _ in failed_rules(pod.world.explain(request_id), "app-identity-refused")]
    assert "CONFIGID" in rules
    boot = boot_of("c-other", prepared["sealed_image"])
    assert boot.message()["pid"] > 0


def test_a_changed_byte_on_disk_is_an_io_error_and_the_containers_end(pod, boot_of):
    request_id = fresh_request_id()
    prepared = pod.prepare("c-poison", container_spec(), request_id=request_id)
    boot = boot_of("c-poison", prepared["sealed_image"])
    assert boot.message()["pid"] > 0
    boot.start()
    boot.read_until(SMALL)
    blob = max((pod.sealed / prepared["sealed_image"]).iterdir(), key=lambda path: path.stat().st_size)
    for path in (pod.sealed / prepared["sealed_image"]).iterdir():
        if path != blob and path.stat().st_size > len(LARGE):
            _flip(path)
    _flip(blob)
    exec_in(pod, boot, "/bin/md5sum", "/large")
    assert boot.message() == {"event": "poisoned", "code": "sealed-chunk-refused"}
    assert boot.output_ends()
    rules = failed_rules(pod.world.explain(request_id), "sealed-chunk-refused")
    assert [rule for rule, _, _ in rules] == ["rootfs.chunk"]


def _flip(path):
    """Change one byte in the middle of every chunk."""
    with path.open("r+b") as file:
        for offset in range(1000, path.stat().st_size, 65536):
            file.seek(offset)
            byte = file.read(1)
            file.seek(offset)
            file.write(bytes([byte[0] ^ 1]))


def server_of(boot):
    """The process that serves a container's root file system: boot's only child."""
    (server,) = Path(f"/proc/{boot.pid}/task/{boot.pid}/children").read_text().split()
    return int(server)


def is_gone(pid):
    deadline = time.monotonic() + 5
    while runs(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_the_server_has_neither_the_streams_nor_the_line_to_the_shim(pod, boot_of):
    boot = started(pod, boot_of, "c-server")
    held = [str(path.readlink()) for path in Path(f"/proc/{server_of(boot)}/fd").iterdir()]
    assert not [name for name in held if name.startswith("pipe:")]
    # Its own line to boot.
    assert len([name for name in held if name.startswith("socket:")]) == 1


def test_a_server_that_was_killed_is_the_containers_end_and_told_to_the_owner(pod, boot_of):
    request_id = fresh_request_id()
    prepared = pod.prepare("c-killed", container_spec(), request_id=request_id)
    boot = boot_of("c-killed", prepared["sealed_image"])
    assert boot.message()["pid"] > 0
    boot.start()
    boot.read_until(SMALL)
    os.kill(server_of(boot), signal.SIGKILL)
    assert boot.message() == {"event": "poisoned", "code": "rootfs-server-ended"}
    assert boot.output_ends()
    rules = failed_rules(pod.world.explain(request_id), "rootfs-server-ended")
    assert rules == [("rootfs.server", "runs as long as its container", "killed by SIGKILL")]
    assert boot.stop() == 0
    assert str(boot.directory) not in Path("/proc/self/mountinfo").read_text()
    assert sorted(path.name for path in (boot.directory / "work").iterdir()) == ["config.json"]


def test_a_boot_program_that_was_killed_takes_its_server_along(pod, boot_of):
    boot = started(pod, boot_of, "c-boot")
    server = server_of(boot)
    init = int((boot.directory / "init.pid").read_text())
    os.kill(boot.pid, signal.SIGKILL)
    assert is_gone(server)
    # What the workload does not have in its memory it cannot read any more.
    with pytest.raises(OSError, match="Errno"):
        Path(f"/proc/{init}/root/large").read_bytes()
    subprocess.run([*boot.runc, "delete", "--force", "c-boot"], check=True, timeout=30)
    assert boot.output_ends()


def test_a_start_that_the_owner_did_not_allow_is_refused_before_any_layer(pod):
    request_id = fresh_request_id()
    before = len(list(pod.sealed.iterdir()))
    with pytest.raises(RefusedError) as caught:
        pod.prepare("c-args", container_spec(args=["/bin/true"]), request_id=request_id)
    assert caught.value.code == "launch-policy-refused"
    assert "/bin/true" not in caught.value.summary + caught.value.detail
    ((rule, expected, actual),) = failed_rules(pod.world.explain(request_id), "launch-policy-refused")
    assert (rule, actual) == ("launch.args", "'/bin/true'")
    assert expected.startswith("'/bin/sh'")
    assert len(list(pod.sealed.iterdir())) == before


def asking(**annotations):
    return {**container_spec(), "annotations": annotations}


@pytest.mark.parametrize("writable", ["memory", "scratch"])
def test_a_container_may_write_where_and_as_much_as_its_pod_asked_for(pod, boot_of, writable):
    if writable == "scratch" and not (shutil.which("mke2fs") and Path("/dev/loop-control").exists()):
        pytest.skip("scratch needs mke2fs and loop devices")
    name = f"c-{writable}"
    spec = asking(
        **{WRITABLE: "memory", f"{WRITABLE}.app": writable, WRITABLE_SIZE: "24Mi", CONTAINER_NAME: "app"}
    )
    boot = boot_of(name, pod.prepare(name, spec)["sealed_image"], spec=spec)
    assert boot.message()["pid"] > 0
    boot.start()
    boot.read_until(SMALL)
    init = int((boot.directory / "init.pid").read_text())
    size = os.statvfs(f"/proc/{init}/root")
    # ext4 keeps a part for its own tables.
    least = 24 << 20 if writable == "memory" else 20 << 20
    assert least <= size.f_blocks * size.f_frsize <= 24 << 20
    kind = "tmpfs" if writable == "memory" else "ext4"
    assert f" - {kind} " in (Path("/proc") / str(server_of(boot)) / "mountinfo").read_text()


def test_an_image_is_decrypted_to_memory_where_its_pod_asks_for_it(pod, boot_of):
    spec = asking(**{DECRYPT_TO_MEMORY: "true"})
    boot = boot_of("c-decrypted", pod.prepare("c-decrypted", spec)["sealed_image"], spec=spec)
    assert boot.message()["pid"] > 0
    boot.start()
    boot.read_until(SMALL)
    assert "decrypted-image" in (Path("/proc") / str(server_of(boot)) / "mountinfo").read_text()
    init = int((boot.directory / "init.pid").read_text())
    assert Path(f"/proc/{init}/root/large").read_bytes() == LARGE


def test_more_than_the_owner_allows_is_refused_and_told_with_both_values(pod):
    request_id = fresh_request_id()
    with pytest.raises(RefusedError) as caught:
        pod.prepare("c-greedy", asking(**{WRITABLE_SIZE: "3Gi"}), request_id=request_id)
    assert caught.value.code == "rootfs-policy-refused"
    assert str(3 << 30) not in caught.value.summary + caught.value.detail
    rules = failed_rules(pod.world.explain(request_id), "rootfs-policy-refused")
    assert rules == [("rootfs.size", f"{1 << 20} to {1 << 30} bytes", f"{3 << 30} bytes")]


def test_an_annotation_that_means_nothing_is_refused_and_told_to_the_owner(pod):
    request_id = fresh_request_id()
    with pytest.raises(EnclaveCcError) as caught:
        pod.prepare("c-typo", asking(**{WRITABLE: "disk"}), request_id=request_id)
    assert caught.value.code == "rootfs-annotation-invalid"
    rules = failed_rules(pod.world.explain(request_id), "rootfs-annotation-invalid")
    assert rules == [("rootfs.annotation", f"{WRITABLE}: memory or scratch", "disk")]


def test_a_changed_layer_is_refused_and_leaves_nothing(pod, world):
    digest, blob = max(world.registry.blobs.items(), key=lambda item: len(item[1]))
    request_id = fresh_request_id()
    before = len(list(pod.sealed.iterdir()))
    world.registry.lies[digest] = blob[:500] + bytes([blob[500] ^ 1]) + blob[501:]
    try:
        with pytest.raises(EnclaveCcError) as caught:
            pod.prepare("c-layer", container_spec(), request_id=request_id)
    finally:
        world.registry.lies.clear()
    assert caught.value.code == "layer-digest-mismatch"
    assert failed_rules(world.explain(request_id), "layer-digest-mismatch")
    assert len(list(pod.sealed.iterdir())) == before


def test_a_changed_agent_gets_no_key(world, tmp_path):
    bundle = tmp_path / "changed"
    shutil.copytree(world.bundles.agent, bundle, symlinks=True)
    hosts = bundle / "rootfs/etc/hosts"
    hosts.write_text("10.0.0.1 broker.example\n")
    with contextlib.ExitStack() as stack:
        stack.callback(remove_bundle, bundle)
        pod = start_pod(world, stack, "pod-changed", bundle)
        request_id = fresh_request_id()
        with pytest.raises(RefusedError) as caught:
            pod.prepare("c1", container_spec(), request_id=request_id)
    assert caught.value.code.startswith("broker-refused-")
    failed = [
        finding["rule"]
        for event in world.explain(request_id)["events"]
        for finding in event["findings"]
        if finding["outcome"] == "failed"
    ]
    assert "sgx.mr_enclave" in failed


def test_another_initdata_than_the_measured_one_is_not_served(world):
    with contextlib.ExitStack() as stack, pytest.raises(AssertionError, match="initdata-mismatch"):
        start_pod(world, stack, "pod-initdata", delivered=world.initdata + "\n")
