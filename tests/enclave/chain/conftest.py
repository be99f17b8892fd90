"""
The whole chain without containerd: platform daemon, broker, registry, agent in runc, boot program, workload.

Everything is the real thing; the test plays kubelet and shim.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from tests.simulators.registry import running_registry

from enclave_cc.core.errors import EnclaveCcError
from enclave_cc.core.request_id import fresh_request_id
from enclave_cc.core.secret import Secret
from enclave_cc.formats.kbs.resource_uri import ResourceUri
from enclave_cc.formats.local_attestation import app_config_id
from enclave_cc.formats.messages.agent import AGENT_SERVICE
from enclave_cc.formats.messages.platform import PLATFORM_SERVICE
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.ocicrypt.jwe_item import JweRecipient
from enclave_cc.formats.ocicrypt.wrapping import BrokerKey
from enclave_cc.node.bundles.build import build_bundle, remove_bundle
from enclave_cc.node.bundles.reference import reference_value
from enclave_cc.tenant.building.image import LayerInput, ProcessDescription, build_image
from enclave_cc.tenant.building.layers import LayerBuilder
from enclave_cc.tenant.encryption.layouts import encrypt_image
from enclave_cc.tenant.places.image_layout import ImageLayout
from enclave_cc.tenant.push import push_image
from enclave_cc.tenant.signing.sign import generate_signing_key, sign_image
from enclave_cc.transport.registry.client import RegistryClient
from enclave_cc.transport.ttrpc_client import TtrpcClient
from enclave_cc.trustee.admin_client import AdminClient
from enclave_cc.trustee.broker.init import init_broker
from enclave_cc.trustee.broker.server import BrokerServer
from enclave_cc.trustee.broker.settings import BrokerSettings
from enclave_cc.trustee.policy.library import default_text

POD = "pod-of-the-test"
REPOSITORY = "team/busybox"
OWNER_KEY = "kbs:///default/private-key/owner"
SCRIPT = "echo started as $(id -u):$(id -g) in $(pwd) with $MODE; cat /greeting; while :; do sleep 1; done"
SMALL = b"a secret greeting\n"
# Larger than what the kernel reads ahead of a neighbour: most of it is not read until a test reads it.
LARGE = bytes(range(256)) * 32768


@dataclass
class Bundles:
    agent: Path
    boot: Path


@pytest.fixture(scope="session")
def bundles(tmp_path_factory):
    """Both enclaves' bundles, built once from the installed package."""
    directory = tmp_path_factory.mktemp("bundles")
    boot = build_bundle("boot", directory / "boot").path
    agent = build_bundle("agent", directory / "agent", boot_bundle=boot).path
    yield Bundles(agent, boot)
    remove_bundle(boot)
    remove_bundle(agent)


@contextlib.contextmanager
def running_platform(directory):
    """A simulated platform in a process of its own; yields its socket."""
    read_end, write_end = os.pipe()
    command = [sys.executable, "-m", "enclave_cc.platform.simulated", "--state", str(directory / "platform")]
    command += ["--socket", str(directory / "platform.sock"), "--pcs", "127.0.0.1:0"]
    with subprocess.Popen([*command, "--ready-fd", str(write_end)], pass_fds=(write_end,)) as daemon:
        os.close(write_end)
        try:
            assert os.read(read_end, 100).startswith(b"ready")
            yield directory / "platform.sock"
        finally:
            os.close(read_end)
            daemon.terminate()
            daemon.wait(10)


@contextlib.contextmanager
def running_broker(directory, platform_socket):
    """A broker that accepts the simulated platform; yields its files and address."""
    with TtrpcClient(str(platform_socket)) as client:
        answer = client.call(PLATFORM_SERVICE, "Collateral", {})
    (directory / "root.der").write_bytes(answer["root"])
    (directory / "collateral.json").write_bytes(answer["collateral"])
    files = init_broker(
        directory / "broker",
        "127.0.0.1",
        0,
        ["127.0.0.1"],
        insecure_simulation_root=directory / "root.der",
        insecure_simulation_collateral=str(directory / "collateral.json"),
    )
    ready, urls = threading.Event(), []
    server = BrokerServer(BrokerSettings.load(files.config), lambda url: (urls.append(url), ready.set()))
    thread = threading.Thread(target=server.run)
    thread.start()
    assert ready.wait(20)
    try:
        yield files, urls[0]
    finally:
        server.should_exit = True
        thread.join(20)


def publish(directory, host, admin, signing_key):
    """Build an image, and encrypt, sign and push it for each kind of key; return the references."""
    plain = ImageLayout.create(directory / "plain")
    base = (
        LayerBuilder()
        .directory("bin")
        .file("bin/busybox", Path("/bin/busybox").read_bytes(), mode=0o755)
        .symlink("bin/sh", "busybox")
        .directory("etc")
        .directory("proc")
        .directory("dev")
        .directory("sys")
        .directory("tmp", mode=0o1777)
        .file("etc/passwd", b"root:x:0:0::/:/bin/sh\napp:x:4711:815::/:/bin/sh\n")
        .file("etc/group", b"root:x:0:\nweb:x:815:\nextra:x:99:app\n")
        .file("greeting", b"to be replaced\n")
    )
    for name in ("cat", "echo", "id", "pwd", "sleep", "md5sum", "true"):
        base.symlink(f"bin/{name}", "busybox")
    top = LayerBuilder().file("greeting", SMALL).file("large", LARGE)
    build_image(
        plain,
        [LayerInput(base), LayerInput(top)],
        ProcessDescription(
            entrypoint=("/bin/sh", "-c", SCRIPT),
            env=("PATH=/bin", "MODE=care"),
            user="app",
            working_dir="/tmp",
        ),
    )
    key = Secret.random()
    admin.put_resource(ResourceUri.parse("kbs:///default/key/busybox"), bytes(key.reveal()))
    owner = ec.generate_private_key(ec.SECP256R1())
    private = owner.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    admin.put_resource(ResourceUri.parse(OWNER_KEY), private)
    public = owner.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    recipients = {"v1": BrokerKey(key, "kbs:///default/key/busybox"), "jwe": JweRecipient.parse(public)}
    registry = RegistryClient(insecure_http=[host])
    for tag, recipient in recipients.items():
        encrypted = ImageLayout.create(directory / tag)
        descriptor = encrypt_image(plain, encrypted, [recipient])
        sign_image(encrypted, descriptor, repository=f"{host}/{REPOSITORY}", private_key_pem=signing_key)
        push_image(encrypted, Reference.parse(f"{host}/{REPOSITORY}:{tag}"), registry)
    registry.close()
    return {tag: f"{host}/{REPOSITORY}:{tag}" for tag in recipients}


def initdata_text(url, files, host, workload=""):
    settings = f'''
[broker]
url = "{url}"
tls_ca = """{files.tls_ca.read_text()}"""
token_key = """{files.token_public_key.read_text()}"""
[image]
signature_policy = "kbs:///default/policy/image"
require_encrypted = true
insecure_http_registries = ["{host}"]
decryption_keys = ["{OWNER_KEY}"]
[rootfs]
# Tests damage what they were given, and others must not meet it.
share_layers = false
[workload]
{workload}
'''
    return f"version = \"0.1.0\"\nalgorithm = \"sha256\"\n[data]\n\"enclave-cc.toml\" = '''{settings}'''\n"


@dataclass
class World:
    """Everything outside of the pod."""

    directory: Path
    platform_socket: Path
    registry: object
    image: str
    jwe_image: str
    initdata: str
    bundles: Bundles
    broker_url: str
    broker_files: object

    def admin(self):
        token = self.broker_files.admin_token.read_text()
        return AdminClient(self.broker_url, token, self.broker_files.tls_ca.read_text())

    def explain(self, request_id):
        with self.admin() as admin:
            return admin.explain(request_id)


@pytest.fixture(scope="module")
def world(bundles, tmp_path_factory):
    """Platform, broker and registry with a published image, and reference values for the agent."""
    directory = Path(tempfile.mkdtemp(prefix="ecc-"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        platform_socket = stack.enter_context(running_platform(directory))
        files, url = stack.enter_context(running_broker(directory, platform_socket))
        registry = stack.enter_context(running_registry())
        private_pem, public_pem = generate_signing_key()
        text = initdata_text(url, files, registry.host, "exec = true")
        with AdminClient(url, files.admin_token.read_text(), files.tls_ca.read_text()) as admin:
            images = publish(tmp_path_factory.mktemp("images"), registry.host, admin, private_pem)
            admin.put_resource(ResourceUri.parse("kbs:///default/policy/image"), _policy(registry.host))
            admin.put_resource(ResourceUri.parse("kbs:///default/cosign/public"), public_pem)
            admin.set_resource_policy(default_text("insecure_simulation_resource.rego"))
            admin.add_reference_value("sgx_mr_enclave", [reference_value(bundles.agent, text)])
            admin.add_reference_value("sgx_isv_prod_id", [1])
        yield World(
            directory, platform_socket, registry, images["v1"], images["jwe"], text, bundles, url, files
        )


def _policy(host):
    signed = {"type": "sigstoreSigned", "keyPath": "kbs:///default/cosign/public"}
    return json.dumps({"default": [{"type": "reject"}], "transports": {"docker": {host: [signed]}}}).encode()


@pytest.fixture(scope="module")
def pod(world):
    """One pod: its agent runs in runc, as the shim would start it."""
    with contextlib.ExitStack() as stack:
        yield start_pod(world, stack)


class Pod:
    """A pod's directories and its agent."""

    def __init__(self, world, name):
        self.world = world
        self.uid = name
        self.directory = world.directory / name
        self.run, self.sealed = self.directory / "run", self.directory / "sealed"
        self.runc_root = self.directory / "runc"
        for path in (self.run, self.sealed, self.directory / "agent", self.directory / "blobs"):
            path.mkdir(parents=True)

    @property
    def agent_socket(self):
        return str(self.run / "agent.sock")

    def call(self, method, **request):
        with TtrpcClient(self.agent_socket, 60) as client:
            return client.call(AGENT_SERVICE, method, request)

    def prepare(self, container_id, spec, **changes):
        request = {
            "request_id": fresh_request_id(),
            "container_id": container_id,
            "image": self.world.image,
            "manifest_digest": "",
            "spec": json.dumps(spec).encode(),
        }
        try:
            return self.call("Prepare", **(request | changes))
        except EnclaveCcError as error:
            # What the owner would see belongs into a failing test's output.
            error.add_note(json.dumps(self.world.explain(request["request_id"]), indent=1))
            error.add_note((self.directory / "agent.log").read_text())
            raise


def launch(world, pid, bundle, config_id=b"", initdata=None):
    text = world.initdata if initdata is None else initdata
    with TtrpcClient(str(world.platform_socket), 30) as client:
        request = {"pid": pid, "bundle": str(bundle), "initdata": text.encode(), "config_id": config_id}
        return client.call(PLATFORM_SERVICE, "Launch", request)["mr_enclave"]


def start_pod(world, stack, name=POD, bundle=None, delivered=None):
    """Start a pod's agent; ``delivered`` is the initdata it finds when that is not the measured one."""
    pod = Pod(world, name)
    bundle = bundle or world.bundles.agent
    (pod.run / "initdata.toml").write_text(delivered or world.initdata)
    (pod.run / "pod.json").write_text(json.dumps({"pod_uid": name}))
    (pod.directory / "agent/config.json").write_text(json.dumps(_agent_spec(world, pod, bundle)))
    runc = ["runc", "--root", str(pod.runc_root)]
    pid_file = pod.directory / "agent.pid"
    container = f"{name}-{os.getpid()}"
    log = stack.enter_context((pod.directory / "agent.log").open("wb"))
    subprocess.run(
        [*runc, "create", "--bundle", pod.directory / "agent", "--pid-file", pid_file, container],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        check=True,
        timeout=60,
    )
    stack.callback(subprocess.run, [*runc, "delete", "--force", container], check=False, timeout=60)
    launch(world, int(pid_file.read_text()), bundle)
    subprocess.run([*runc, "start", container], check=True, timeout=60)
    while not Path(pod.agent_socket).exists():
        assert runs(int(pid_file.read_text())), (pod.directory / "agent.log").read_text()
        time.sleep(0.02)
    return pod


def runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _agent_spec(world, pod, bundle):
    settings = json.loads((bundle / "bundle.json").read_text())
    mounts = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["size=256m"]},
        {"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
    ]
    for destination, source in (
        ("/run/enclave-cc", pod.run),
        ("/run/platform/platform.sock", world.platform_socket),
        ("/sealed", pod.sealed),
        ("/blobs", pod.directory / "blobs"),
    ):
        mounts.append(
            {"destination": destination, "type": "bind", "source": str(source), "options": ["rbind", "rw"]}
        )
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": settings["args"],
            "env": settings["env"],
            "cwd": settings["cwd"],
            "noNewPrivileges": True,
            "capabilities": {
                name: [] for name in ("bounding", "effective", "inheritable", "permitted", "ambient")
            },
        },
        "root": {"path": str(bundle / "rootfs"), "readonly": True},
        "mounts": mounts,
        "linux": {"namespaces": [{"type": name} for name in ("pid", "ipc", "uts", "mount")]},
    }


def container_spec(**process):
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 65532, "gid": 0},
            "args": ["/bin/sh", "-c", SCRIPT],
            "env": ["PATH=/bin", "MODE=care", "HOSTNAME=pod"],
            "cwd": "/tmp",
        }
        | process,
        "root": {"path": "rootfs"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
        ],
        "linux": {"namespaces": [{"type": name} for name in ("pid", "ipc", "uts", "mount")]},
    }


class Boot:
    """The boot program of one container, started as the shim starts it."""

    def __init__(self, pod, container_id, sealed_image, spec, *, pod_uid=None, config_id=None):
        world = pod.world
        self.directory = Path(tempfile.mkdtemp(prefix="boot-", dir=pod.directory))
        self.container_id, self.request_id = container_id, fresh_request_id()
        self.runc = ["runc", "--root", str(self.directory / "runc")]
        for path in ("bundle/rootfs", "work"):
            (self.directory / path).mkdir(parents=True)
        (self.directory / "bundle/config.json").write_text(json.dumps(spec))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.control = ours
        self.control.settimeout(60)
        output, self.output = os.pipe(), bytearray()
        self._source = output[0]
        self.pid = _fork(
            _boot_command(world.bundles.boot), theirs.fileno(), output[1], self.directory / "log"
        )
        os.close(output[1])
        theirs.close()
        self.status = None
        identity = app_config_id(pod_uid or pod.uid, container_id) if config_id is None else config_id
        launch(world, self.pid, world.bundles.boot, identity)
        order = {
            "request_id": self.request_id,
            "agent_socket": pod.agent_socket,
            "platform_socket": str(world.platform_socket),
            "pod_uid": pod_uid or pod.uid,
            "container_id": container_id,
            "sealed_image": str(pod.sealed / sealed_image),
            "initdata": str(pod.run / "initdata.toml"),
            "bundle": str(self.directory / "bundle"),
            "rootfs": str(self.directory / "bundle/rootfs"),
            "work": str(self.directory / "work"),
            "runc": shutil.which("runc"),
            "runc_root": str(self.directory / "runc"),
            "runc_log": str(self.directory / "runc.log"),
            "systemd_cgroup": False,
            "console_socket": "",
            "pid_file": str(self.directory / "init.pid"),
        }
        self.control.sendall(json.dumps(order).encode() + b"\n")
        self._received = b""

    def message(self):
        while b"\n" not in self._received:
            data = self.control.recv(65536)
            assert data, (self.directory / "log").read_text()
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        return json.loads(line)

    def start(self):
        subprocess.run([*self.runc, "start", self.container_id], check=True, timeout=60)

    def exec(self, process):
        file = self.directory / "exec.json"
        file.write_bytes(process)
        command = [*self.runc, "exec", "--process", str(file), self.container_id]
        return subprocess.run(command, capture_output=True, check=False, timeout=60)

    def read_until(self, text):
        deadline = time.monotonic() + 20
        while text not in self.output:
            assert time.monotonic() < deadline, bytes(self.output)
            if select.select([self._source], [], [], 0.1)[0]:
                self.output += os.read(self._source, 65536)

    def output_ends(self):
        """Whether nobody holds the container's output any more."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            if select.select([self._source], [], [], 0.1)[0]:
                data = os.read(self._source, 65536)
                if not data:
                    return True
                self.output += data
        return False

    def stop(self):
        """Hang up and return the exit status."""
        if self.status is None:
            self.control.close()
            deadline = time.monotonic() + 20
            while True:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    break
                if time.monotonic() > deadline:
                    os.kill(self.pid, signal.SIGKILL)
                time.sleep(0.02)
            self.status = os.waitstatus_to_exitcode(status)
            os.close(self._source)
        return self.status


def _boot_command(bundle):
    settings = json.loads((bundle / "bundle.json").read_text())
    rootfs = f"{bundle}/rootfs"
    arguments = [rootfs + part if part.startswith("/") else part for part in settings["args"]]
    return [rootfs + settings["loader"], "--library-path", f"{rootfs}/usr/lib/enclave-cc/lib", *arguments]


def _fork(command, control, output, log):
    null = os.open("/dev/null", os.O_RDWR)
    words = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    # A private mount namespace, as the shim makes it; unshare(1) becomes the boot program.
    wrapped = ["/usr/bin/unshare", "--mount", "--propagation", "slave", *command]
    actions = [
        (os.POSIX_SPAWN_DUP2, words, 1),
        (os.POSIX_SPAWN_DUP2, words, 2),
    ]
    # Numbers above all targets, so that no copy overwrites another's source.
    high = [
        os.dup2(descriptor, 100 + index) for index, descriptor in enumerate((control, null, output, output))
    ]
    actions += [(os.POSIX_SPAWN_DUP2, source, 3 + index) for index, source in enumerate(high)]
    actions += [(os.POSIX_SPAWN_CLOSE, source) for source in high]
    pid = os.posix_spawn(wrapped[0], wrapped, {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, file_actions=actions)
    for descriptor in (null, words, *high):
        os.close(descriptor)
    return pid


@pytest.fixture
def boot_of(pod):
    """Starts boot programs and ends them all after the test."""
    started = []

    def start(container_id, sealed_image, spec=None, *, of=None, **changes):
        boot = Boot(of or pod, container_id, sealed_image, spec or container_spec(), **changes)
        started.append(boot)
        return boot

    yield start
    for boot in started:
        boot.stop()
