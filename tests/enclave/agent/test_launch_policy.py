"""Each rule about a launch, and that only it says no."""

from __future__ import annotations

from dataclasses import replace

import pytest

from enclave_cc.core.errors import RefusedError
from enclave_cc.core.findings import Outcome
from enclave_cc.enclave.agent.launch_policy import DEFAULT_PATH, approve_launch, launch_as_built
from enclave_cc.formats.launch import ApprovedMount
from enclave_cc.formats.oci.image_config import ImageConfig
from enclave_cc.formats.oci.runtime_spec import RuntimeSpec, SpecMount, SpecProcess
from enclave_cc.formats.owner.settings import WorkloadPolicy

IMAGE = ImageConfig(
    os="linux",
    architecture="amd64",
    diff_ids=(),
    entrypoint=("/bin/server",),
    cmd=("--listen", "8080"),
    env=("PATH=/bin", "MODE=safe"),
    user="app:web",
    working_dir="/srv",
)
PROCESS = SpecProcess(
    args=("/bin/server", "--listen", "8080"),
    env=("PATH=/bin", "MODE=safe", "HOSTNAME=pod"),
    cwd="/srv",
    uid=65532,
    gid=0,
    terminal=False,
)
PROC = SpecMount("/proc", "proc", "proc")


def approve(image=IMAGE, policy=WorkloadPolicy(), mounts=(PROC,), **process):  # noqa: B008
    spec = RuntimeSpec(replace(PROCESS, **process), tuple(mounts))
    return approve_launch(spec, image, policy, image_digest="sha256:aa")


def refused_rules(**arguments):
    with pytest.raises(RefusedError) as caught:
        approve(**arguments)
    assert caught.value.code == "launch-policy-refused"
    failed = [finding for finding in caught.value.findings if finding.outcome is Outcome.FAILED]
    assert all(not finding.actual or finding.actual not in caught.value.summary for finding in failed)
    return [finding.rule for finding in failed]


def test_the_image_starts_as_it_was_built():
    launch, findings = approve()
    assert launch.args == ("/bin/server", "--listen", "8080")
    assert launch.env == ("PATH=/bin", "MODE=safe", "HOSTNAME=pod")
    assert (launch.cwd, launch.user, launch.image_digest) == ("/srv", "app:web", "sha256:aa")
    assert not launch.exec_allowed
    assert {finding.rule for finding in findings} == {
        "launch.args",
        "launch.env",
        "launch.cwd",
        "launch.user",
        "launch.mount",
    }


@pytest.mark.parametrize(
    "args", [("/bin/sh",), ("/bin/server",), ("/bin/server", "--listen", "8080", "x"), ()]
)
def test_other_arguments_are_refused(args):
    assert refused_rules(args=args) == ["launch.args"]


def test_the_owner_can_list_commands():
    policy = WorkloadPolicy(args=(("/bin/once",),))
    assert approve(policy=policy, args=("/bin/once",))[0].args == ("/bin/once",)
    assert refused_rules(policy=policy, args=("/bin/once", "x")) == ["launch.args"]
    assert refused_rules(policy=policy) == ["launch.args"]


def test_the_owner_can_allow_any_command_but_not_none():
    policy = WorkloadPolicy(args="any")
    assert approve(policy=policy, args=("/bin/sh",))[0].args == ("/bin/sh",)
    assert refused_rules(policy=policy, args=()) == ["launch.args"]


@pytest.mark.parametrize(
    "entry",
    [
        "HOSTNAME=pod",
        "KUBERNETES_SERVICE_HOST=10.0.0.1",
        "KUBERNETES_PORT_443_TCP=tcp://10.0.0.1:443",
        "REDIS_SERVICE_HOST=10.0.0.2",
        "REDIS_SERVICE_PORT_CLIENT=6379",
        "REDIS_PORT=tcp://10.0.0.2:6379",
        "REDIS_PORT_6379_TCP_ADDR=10.0.0.2",
    ],
)
def test_the_kubelets_own_variables_pass(entry):
    assert entry in approve(env=(*PROCESS.env, entry))[0].env


@pytest.mark.parametrize(
    "entry",
    [
        "LD_PRELOAD=/data/x.so",
        "MODE=unsafe",
        "PATH=/data",
        "hostname=x",
        "REDIS_PORTS=1",
        "_PORT=1",
        "REDIS_PORT=" + "x" * 600,
        "=x",
        "",
        "HOSTNAME\n=x",
        DEFAULT_PATH,
        "TERM=xterm",
    ],
)
def test_every_other_variable_is_refused(entry):
    assert refused_rules(env=(*PROCESS.env, entry)) == ["launch.env"]


def test_the_runtimes_default_path_passes_where_the_image_has_none():
    assert DEFAULT_PATH in approve(image=replace(IMAGE, env=()), env=(DEFAULT_PATH,))[0].env


def test_a_terminal_may_have_its_kind():
    assert "TERM=xterm" in approve(terminal=True, env=(*PROCESS.env, "TERM=xterm"))[0].env


def test_the_owner_can_allow_names():
    policy = WorkloadPolicy(env=("LOG_*", "MODE"))
    launch, _ = approve(policy=policy, env=("LOG_LEVEL=debug", "MODE=fast"))
    assert launch.env == ("PATH=/bin", "MODE=fast", "LOG_LEVEL=debug")


def test_the_host_cannot_drop_a_variable_of_the_image():
    assert approve(env=())[0].env == ("PATH=/bin", "MODE=safe")


def test_another_directory_is_refused():
    assert refused_rules(cwd="/tmp") == ["launch.cwd"]


def test_an_image_without_directory_starts_at_the_root():
    assert approve(image=replace(IMAGE, working_dir=""), cwd="/")[0].cwd == "/"


def test_a_named_user_is_the_images_whatever_the_host_guessed():
    launch, findings = approve(uid=0)
    assert launch.user == "app:web"
    assert next(finding for finding in findings if finding.rule == "launch.user").outcome is Outcome.SKIPPED


@pytest.mark.parametrize(("user", "uid"), [("1000", 0), ("1000:1000", 1001), ("", 5), ("0", 5)])
def test_another_number_than_the_images_is_refused(user, uid):
    assert refused_rules(image=replace(IMAGE, user=user), uid=uid) == ["launch.user"]


def test_the_images_own_number_passes():
    assert approve(image=replace(IMAGE, user="1000:7"), uid=1000)[0].user == "1000:7"


@pytest.mark.parametrize(
    "mount",
    [
        SpecMount("/etc/hosts", "bind", "/h"),
        SpecMount("/etc/resolv.conf", "bind", "/h"),
        SpecMount("/dev/shm", "bind", "/h"),
        SpecMount("/sys/fs/cgroup", "cgroup2", "cgroup"),
        SpecMount("/var/run/secrets/kubernetes.io/serviceaccount", "bind", "/h"),
        SpecMount("/dev/fuse", "device", ""),
    ],
)
def test_the_usual_mounts_pass(mount):
    assert [entry.destination for entry in approve(mounts=(mount,))[0].mounts] == [mount.destination]


@pytest.mark.parametrize(
    "mount",
    [
        SpecMount("/proc", "bind", "/h"),
        SpecMount("/sys", "bind", "/h"),
        SpecMount("/dev", "bind", "/h"),
        SpecMount("/bin", "bind", "/h"),
        SpecMount("/", "bind", "/h"),
        SpecMount("/etc/passwd", "bind", "/h"),
        SpecMount("/var/run/secrets/kubernetes.io", "bind", "/h"),
        SpecMount("/dev/fuse", "bind", "/h"),
        SpecMount("/dev/urandom", "device", ""),
        SpecMount("/dev/pts", "device", ""),
        SpecMount("/opt/plugin.py", "device", ""),
    ],
)
def test_every_other_mount_is_refused(mount):
    assert refused_rules(mounts=(PROC, mount)) == ["launch.mount"]


def test_the_owner_can_allow_destinations():
    policy = WorkloadPolicy(mounts=("/data/*",))
    assert approve(policy=policy, mounts=(SpecMount("/data/a", "bind", "/h"),))
    assert refused_rules(policy=policy, mounts=(SpecMount("/data", "bind", "/h"),)) == ["launch.mount"]


def test_without_an_owner_everything_passes_and_is_recorded():
    odd = SpecMount("/bin", "bind", "/h")
    launch, findings = approve(
        policy=WorkloadPolicy.unrestricted(),
        args=("/bin/sh",),
        env=("LD_PRELOAD=x",),
        cwd="/tmp",
        mounts=(odd,),
    )
    assert (launch.args, launch.cwd, launch.user) == (("/bin/sh",), "/tmp", "65532:0")
    assert "LD_PRELOAD=x" in launch.env
    assert launch.exec_allowed
    assert any(finding.actual == "LD_PRELOAD=x" for finding in findings)
    assert any(finding.actual == "/bin (bind)" for finding in findings)


def test_all_broken_rules_are_named_at_once():
    rules = refused_rules(args=("x",), cwd="/x", env=("A=b",), mounts=(SpecMount("/x", "bind", "/h"),))
    assert rules == ["launch.args", "launch.env", "launch.cwd", "launch.mount"]


def test_an_image_pulled_without_a_specification_starts_as_it_was_built():
    launch = launch_as_built(IMAGE, WorkloadPolicy(), image_digest="sha256:aa")
    assert launch.args == ("/bin/server", "--listen", "8080")
    assert (launch.env, launch.cwd, launch.user) == (IMAGE.env, "/srv", "app:web")
    assert not launch.exec_allowed
    assert ApprovedMount("/proc", "proc") in launch.mounts
    assert not [mount for mount in launch.mounts if mount.destination == "/proc" and mount.kind != "proc"]


def test_an_image_that_is_pulled_alone_starts_only_as_the_owner_allows():
    policy = WorkloadPolicy(args=(("/bin/once",),))
    with pytest.raises(RefusedError) as caught:
        launch_as_built(IMAGE, policy, image_digest="sha256:aa")
    assert caught.value.code == "launch-policy-refused"
    with pytest.raises(RefusedError):
        launch_as_built(replace(IMAGE, entrypoint=(), cmd=()), WorkloadPolicy(), image_digest="sha256:aa")
    allowed = WorkloadPolicy(args=(("/bin/server", "--listen", "8080"),))
    assert launch_as_built(IMAGE, allowed, image_digest="sha256:aa").args == allowed.args[0]
