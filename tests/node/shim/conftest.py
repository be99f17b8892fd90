"""A node around a real shim and a real runc: all else that a pod meets is a simulator that can misbehave."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import enclave_cc
from enclave_cc.core.errors import EnclaveCcError, RefusedError, Stage
from enclave_cc.formats.messages.agent import AGENT_SERVICE
from enclave_cc.formats.messages.node import NODE_SERVICE
from enclave_cc.formats.messages.platform import PLATFORM_SERVICE
from enclave_cc.formats.protobuf import decode
from enclave_cc.node.shim.launcher import NAME, write_shim_launcher
from enclave_cc.node.shim.task_messages import EVENTS, TASK_V2
from enclave_cc.transport.ttrpc_client import TtrpcClient
from enclave_cc.transport.ttrpc_server import TtrpcServer

PYTHON = Path("/usr/bin/python3")
BUSYBOX = Path("/bin/busybox")
NAMESPACE = "ecc-test"


class Simulators:
    """containerd's event service, the node daemon, the platform, and one agent per pod."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.launches: list[dict[str, Any]] = []
        self.prepared: list[dict[str, Any]] = []
        self.discarded: list[str] = []
        self.executed: list[dict[str, Any]] = []
        self.behaviour = "works"
        self.exec_error: EnclaveCcError | None = None
        self.prepare_error: EnclaveCcError | None = None
        self.launch_error: EnclaveCcError | None = None
        self.prepare_may_end = threading.Event()
        self.prepare_may_end.set()
        self.launch_may_end = threading.Event()
        self.launch_may_end.set()
        self.sealed = directory
        self.servers: list[TtrpcServer] = []
        self._serve("events.sock", EVENTS, {"Forward": self._forward})
        self._serve("node.sock", NODE_SERVICE, {"ResolveContainer": self._resolve})
        names = dict.fromkeys(PLATFORM_SERVICE.methods, self._unused)
        self._serve("platform.sock", PLATFORM_SERVICE, {**names, "Launch": self._launch})

    def _serve(self, name: str, service: Any, handlers: dict[str, Any]) -> None:
        server = TtrpcServer(str(self.directory / name))
        server.add(service, handlers)
        server.start()
        self.servers.append(server)

    def serve_agent(self, pod: Path) -> None:
        self.sealed = pod / "sealed"
        handlers = {
            "Prepare": self._prepare,
            "AuthorizeExec": self._authorize,
            "Discard": self._discard,
            "Status": self._unused,
        }
        self._serve(str(pod / "run" / "agent.sock"), AGENT_SERVICE, handlers)

    def stop(self) -> None:
        self.prepare_may_end.set()
        self.launch_may_end.set()
        for server in self.servers:
            server.stop()

    def topics(self) -> list[str]:
        return [topic for topic, _ in self.events]

    def _forward(self, request: dict[str, Any], _: Any) -> dict[str, Any]:
        envelope = request["envelope"]
        self.events.append((envelope["topic"], envelope["event"]))
        return {}

    def _resolve(self, request: dict[str, Any], _: Any) -> dict[str, Any]:
        return {"image": "registry.example/app:1", "manifest_digest": "sha256:" + "0" * 64}

    def _launch(self, request: dict[str, Any], _: Any) -> dict[str, Any]:
        self.launch_may_end.wait(20)
        if self.launch_error:
            raise self.launch_error
        self.launches.append(request)
        return {"mr_enclave": bytes(32)}

    def _prepare(self, request: dict[str, Any], _: Any) -> dict[str, Any]:
        self.prepared.append(request)
        self.prepare_may_end.wait(20)
        if self.prepare_error:
            raise self.prepare_error
        name = f"image-{request['container_id']}"
        image = self.sealed / name
        (image / "rootfs" / "bin").mkdir(parents=True)
        for point in ("proc", "dev", "tmp"):
            (image / "rootfs" / point).mkdir()
        shutil.copy(BUSYBOX, image / "rootfs" / "bin" / "sh")
        (image / "behaviour").write_text(self.behaviour)
        return {"image_digest": "sha256:" + "1" * 64, "sealed_image": name, "key_id": "k"}

    def _authorize(self, request: dict[str, Any], _: Any) -> dict[str, Any]:
        self.executed.append(request)
        if self.exec_error:
            raise self.exec_error
        return {"process": request["process"]}

    def _discard(self, request: dict[str, Any], _: Any) -> dict[str, Any]:
        self.discarded.append(request["container_id"])
        shutil.rmtree(self.sealed / f"image-{request['container_id']}", ignore_errors=True)
        return {}

    def _unused(self, request: dict[str, Any], _: Any) -> dict[str, Any]:
        raise RefusedError("unused", "not simulated", stage=Stage.REQUEST)


class Shim:
    """A started shim, called as containerd would."""

    def __init__(self, node: Node, address: str) -> None:
        self.node = node
        self.path = address.removeprefix("unix://")
        self.pid = self.call("Connect", id="nobody")["shim_pid"]

    def call(self, method: str, *, timeout_s: float = 20, **request: Any) -> dict[str, Any]:
        with TtrpcClient(self.path, timeout_s) as client:
            return client.call(TASK_V2, method, request, timeout_s=timeout_s)

    def failing_call(self, method: str, **request: Any) -> EnclaveCcError:
        with pytest.raises(EnclaveCcError) as caught:
            self.call(method, **request)
        return caught.value


class Node:
    """One node's directories, with real runc roots below."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state = directory / "st"
        self.runc_root = directory / "runc"
        self.sandbox_id = "pod" + os.urandom(4).hex()
        self.simulators = Simulators(directory)
        self.shims: list[Shim] = []
        self._agent_bundle()
        self._boot_bundle()
        self.config = directory / "node.json"
        members = {
            "state": str(self.state),
            "runc": str(self._runc()),
            "runc_root": str(self.runc_root),
            "agent_bundle": str(directory / "agent"),
            "boot_bundle": str(directory / "boot"),
            "platform_socket": str(directory / "platform.sock"),
            "node_socket": str(directory / "node.sock"),
        }
        self.config.write_text(json.dumps(members))
        self.launcher = directory / NAME
        source_root = Path(enclave_cc.__file__).parent.parent
        write_shim_launcher(self.launcher, self.config, PYTHON, source_root)

    def _runc(self) -> Path:
        """Write a runc that fails where a test wants it to, and is the real one otherwise."""
        program = self.directory / "runc.sh"
        program.write_text(
            "#!/bin/sh\n"
            f'case " $* " in *" $(cat {self.directory}/broken 2>/dev/null || echo none) "*) exit 1 ;; esac\n'
            'exec /usr/sbin/runc "$@"\n'
        )
        program.chmod(0o755)
        return program

    def runc_broken_on(self, command: str) -> Path:
        """Make one command of runc fail from now on, until the returned file is removed."""
        switch = self.directory / "broken"
        switch.write_text(command)
        return switch

    @property
    def pod(self) -> Path:
        return self.state / "pods" / self.sandbox_id

    def _agent_bundle(self) -> None:
        rootfs = self.directory / "agent" / "rootfs"
        for name in ("proc", "dev", "tmp", "run", "sealed", "blobs", "bin"):
            (rootfs / name).mkdir(parents=True)
        shutil.copy(BUSYBOX, rootfs / "bin" / "busybox")
        script = "echo agent speaks; exec /bin/busybox sleep 1000"
        description = {"kind": "agent", "args": ["/bin/busybox", "sh", "-c", script], "env": [], "cwd": "/"}
        (self.directory / "agent" / "bundle.json").write_text(json.dumps(description))

    def _boot_bundle(self) -> None:
        rootfs = self.directory / "boot" / "rootfs"
        rootfs.mkdir(parents=True)
        shutil.copy(Path(__file__).with_name("fake_boot.py"), rootfs / "boot.py")
        (rootfs / "boot.py").chmod(0o755)
        (self.directory / "boot" / "bundle.json").write_text(
            json.dumps({"kind": "boot", "args": ["/boot.py"]})
        )

    def bundle(
        self, container_id: str, annotations: dict[str, str], args: list[str], *, terminal: bool
    ) -> Path:
        bundle = self.directory / "bundles" / container_id
        bundle.mkdir(parents=True)
        spec = {
            "ociVersion": "1.0.2",
            "process": {
                "terminal": terminal,
                "user": {"uid": 0, "gid": 0},
                "args": args,
                "env": ["PATH=/bin"],
                "cwd": "/",
            },
            "root": {"path": "rootfs"},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance"]},
            ],
            "annotations": annotations,
            "linux": {
                "cgroupsPath": f"/ecc-test/{self.sandbox_id}/{container_id}",
                "namespaces": [{"type": name} for name in ("pid", "ipc", "uts", "mount")],
            },
        }
        (bundle / "config.json").write_text(json.dumps(spec))
        return bundle

    def run(self, action: str, container_id: str, *more: str) -> subprocess.CompletedProcess[bytes]:
        address = str(self.directory / "containerd.sock")
        command = [str(self.launcher), "-namespace", NAMESPACE, "-address", address, "-id", container_id]
        environment = {**os.environ, "TTRPC_ADDRESS": str(self.directory / "events.sock")}
        return subprocess.run(
            [*command, *more, action],
            cwd=self.directory / "bundles" / container_id,
            env=environment,
            capture_output=True,
            timeout=30,
            check=False,
        )

    def start_shim(self, container_id: str) -> Shim:
        done = self.run("start", container_id)
        assert done.returncode == 0, done.stderr
        assert done.stderr == b""
        shim = Shim(self, done.stdout.decode())
        self.shims.append(shim)
        return shim

    def sandbox(self, **annotations: str) -> Shim:
        """Start the shim and make a sandbox whose agent answers."""
        shim = self.start_sandbox_shim(**annotations)
        shim.call(
            "Create", id=self.sandbox_id, bundle=self.bundle_of(self.sandbox_id), rootfs=self.pause_mounts()
        )
        shim.call("Start", id=self.sandbox_id)
        self.simulators.serve_agent(self.pod)
        return shim

    def start_sandbox_shim(self, **annotations: str) -> Shim:
        marks = {
            "io.kubernetes.cri.container-type": "sandbox",
            "io.kubernetes.cri.sandbox-id": self.sandbox_id,
            **{name.replace("__", "/"): value for name, value in annotations.items()},
        }
        bundle = self.bundle(
            self.sandbox_id, marks, ["/bin/sh", "-c", "while :; do sleep 1; done"], terminal=False
        )
        (bundle / "log").write_text("")
        return self.start_shim(self.sandbox_id)

    def bundle_of(self, container_id: str) -> str:
        return str(self.directory / "bundles" / container_id)

    def pause_mounts(self) -> list[dict[str, Any]]:
        source = self.directory / "pause"
        if not source.exists():
            (source / "bin").mkdir(parents=True)
            (source / "proc").mkdir()
            (source / "dev").mkdir()
            shutil.copy(BUSYBOX, source / "bin" / "sh")
        return [{"type": "bind", "source": str(source), "options": ["rbind", "rw"]}]

    def workload(self, container_id: str, script: str, *, terminal: bool = False) -> dict[str, Any]:
        """Write a bundle and return the members of its Create call, with pipes for the streams."""
        marks = {
            "io.kubernetes.cri.container-type": "container",
            "io.kubernetes.cri.sandbox-id": self.sandbox_id,
        }
        bundle = self.bundle(container_id, marks, ["/bin/sh", "-c", script], terminal=terminal)
        streams = {}
        for name in ("stdin", "stdout") if terminal else ("stdin", "stdout", "stderr"):
            os.mkfifo(bundle / name)
            streams[name] = str(bundle / name)
        return {"id": container_id, "bundle": str(bundle), "terminal": terminal, **streams}

    def shim_log(self) -> str:
        return (self.directory / "bundles" / self.sandbox_id / "log").read_text()

    def close(self) -> None:
        for log in (self.directory / "bundles").glob("*/log"):
            print(log.read_text())  # noqa: T201 - shown with a test that failed
        for shim in self.shims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(shim.pid, signal.SIGKILL)
            Path(shim.path).unlink(missing_ok=True)
        for bundle in (self.directory / "bundles").glob("*"):
            self.run("delete", bundle.name, "-bundle", str(bundle))
        self.simulators.stop()
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for target in mounts:
            if target.startswith(str(self.directory)):
                subprocess.run(["umount", "-l", target], check=False)
        shutil.rmtree(self.directory)
        self.remove_groups()

    def remove_groups(self) -> None:
        """The pod's control groups are the kubelet's to remove, and here that is us."""
        for group in Path("/sys/fs/cgroup").glob(f"**/ecc-test/{self.sandbox_id}"):
            for directory in sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True):
                with contextlib.suppress(OSError):
                    directory.rmdir()
            for directory in (group, group.parent):
                with contextlib.suppress(OSError):
                    directory.rmdir()
        # Where agents of sandboxes without a group of their own are; another test may be using it.
        for directory in Path("/sys/fs/cgroup").glob("*/enclave-cc"):
            with contextlib.suppress(OSError):
                directory.rmdir()


@pytest.fixture
def node():
    node = Node(Path(tempfile.mkdtemp(prefix="ecc-", dir="/tmp")))
    yield node
    node.close()


@pytest.fixture
def eventually():
    def wait(condition: Any, within_s: float = 10) -> None:
        give_up = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < give_up, "it did not happen"
            time.sleep(0.02)

    return wait


@pytest.fixture
def decoded():
    return lambda event, any_: decode(event.schema, any_["value"])


@pytest.fixture
def read_all():
    """Read a pipe to its end, beside the test."""

    def start(path: str) -> Any:
        parts: list[bytes] = []

        def read() -> None:
            with Path(path).open("rb") as pipe:
                parts.append(pipe.read())

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        return lambda: (thread.join(10), b"".join(parts))[1]

    return start
