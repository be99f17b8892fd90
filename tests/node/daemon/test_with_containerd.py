"""The snapshotter, the resolver and the shim under a real, stock containerd of the test's own."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import pytest

import enclave_cc
from enclave_cc.formats.messages.node import NODE_SERVICE
from enclave_cc.formats.protobuf import STRING, Schema, encode
from enclave_cc.node.shim.launcher import NAME, write_shim_launcher
from enclave_cc.transport.ttrpc_client import TtrpcClient

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not shutil.which("containerd"), reason="needs containerd: install Debian's package"),
]

SECRET = b"the guest's own file"
PULL_IMAGE = Schema("PullImageRequest", {1: ("image", Schema("ImageSpec", {1: ("image", STRING)}))})
MEDIA_TYPE = "application/vnd.oci.image"


class Registry(ThreadingHTTPServer):
    """Serves one image on loopback and remembers what was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.documents: dict[str, tuple[str, bytes]] = {}
        layer = layer_of({"secret": SECRET})
        diff_id = f"sha256:{hashlib.sha256(layer).hexdigest()}"
        rootfs = {"type": "layers", "diff_ids": [diff_id]}
        config = {"architecture": "amd64", "os": "linux", "rootfs": rootfs, "config": {}}
        self.layer = self.add("blobs", layer, f"{MEDIA_TYPE}.layer.v1.tar")
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{MEDIA_TYPE}.manifest.v1+json",
            "config": self.add("blobs", json.dumps(config).encode(), f"{MEDIA_TYPE}.config.v1+json"),
            "layers": [self.layer],
        }
        self.manifest = self.add("manifests", json.dumps(manifest).encode(), f"{MEDIA_TYPE}.manifest.v1+json")
        self.documents["manifests/1"] = self.documents[f"manifests/{self.manifest['digest']}"]
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def image(self) -> str:
        return f"127.0.0.1:{self.server_port}/app:1"

    def add(self, kind: str, data: bytes, media_type: str) -> dict[str, object]:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        self.documents[f"{kind}/{digest}"] = (media_type, data)
        return {"mediaType": media_type, "digest": digest, "size": len(data)}


class Handler(BaseHTTPRequestHandler):
    server: Registry

    def do_GET(self) -> None:
        name = self.path.removeprefix("/v2/app/")
        self.server.asked.append(name)
        media_type, data = self.server.documents.get(name, ("", b""))
        self.send_response(200 if media_type else 404)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(data)))
        if name.startswith("manifests/"):
            self.send_header("Docker-Content-Digest", f"sha256:{hashlib.sha256(data).hexdigest()}")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    do_HEAD = do_GET  # noqa: N815 - the base class's naming

    def log_message(self, *_: object) -> None:
        return


def layer_of(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()


class Machine:
    """One containerd and one node daemon, with everything below one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        write_shim_launcher(
            directory / NAME,
            directory / "node.json",
            Path("/usr/bin/python3"),
            Path(enclave_cc.__file__).parents[1],
        )
        names = ("state", "runc_root", "agent_bundle", "boot_bundle", "snapshot_root")
        sockets = ("platform_socket", "node_socket", "containerd_socket", "snapshot_socket")
        paths = {name: str(directory / name) for name in (*names, *sockets)} | {"runc": "/usr/sbin/runc"}
        (directory / "node.json").write_text(json.dumps(paths))
        (directory / "containerd.toml").write_text(
            f"""version = 2
root = "{directory}/root"
state = "{directory}/run"
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
address = "{directory}/containerd_socket"
[plugins."io.containerd.grpc.v1.cri"]
disable_tcp_service = true
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "rune"
disable_snapshot_annotations = false
[proxy_plugins.rune]
type = "snapshot"
address = "{directory}/snapshot_socket"
"""
        )
        config = str(directory / "node.json")
        self.daemon = self._run(sys.executable, "-m", "enclave_cc.node.daemon", "--config", config)
        environment = {**os.environ, "PATH": f"{directory}:{os.environ['PATH']}"}
        self.containerd = self._run(
            "containerd", "--config", str(directory / "containerd.toml"), env=environment
        )
        give_up = time.monotonic() + 30
        while self.ctr("version", check=False).returncode:
            assert time.monotonic() < give_up, (directory / "containerd.log").read_text()
            time.sleep(0.1)

    def _run(self, *command: str, **more: object) -> subprocess.Popen[bytes]:
        with (self.directory / f"{Path(command[0]).name}.log").open("wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, **more)

    def ctr(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        command = [
            "ctr",
            "--address",
            str(self.directory / "containerd_socket"),
            "--namespace",
            "k8s.io",
            *words,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        if check:
            assert done.returncode == 0, done.stderr
        return done

    def pull(self, image: str) -> None:
        with grpc.insecure_channel(f"unix:{self.directory / 'containerd_socket'}") as channel:
            call = channel.unary_unary("/runtime.v1.ImageService/PullImage")
            call(encode(PULL_IMAGE, {"image": {"image": image}}), timeout=60, wait_for_ready=True)

    def stop(self) -> None:
        for process in (self.containerd, self.daemon):
            process.send_signal(signal.SIGTERM)
            process.wait(20)
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for target in reversed(mounts):
            if target.startswith(str(self.directory)):
                subprocess.run(["umount", "-l", target], check=False)


@pytest.fixture
def machine(short_tmp):
    machine = Machine(short_tmp)
    yield machine
    machine.stop()


@pytest.fixture
def registry():
    registry = Registry()
    yield registry
    registry.shutdown()
    registry.server_close()


def test_containerd_fetches_nothing_of_a_guest_and_knows_whose_container_it_is(machine, registry):
    image = registry.image
    machine.pull(image)
    assert f"blobs/{registry.layer['digest']}" not in registry.asked
    machine.ctr(
        "containers", "create", "--snapshotter", "rune", "--runtime", "io.containerd.rune.v2", image, "c1"
    )
    with TtrpcClient(str(machine.directory / "node_socket")) as node:
        answer = node.call(NODE_SERVICE, "ResolveContainer", {"namespace": "k8s.io", "container_id": "c1"})
    assert answer == {"image": image, "manifest_digest": registry.manifest["digest"]}
    assert not list((machine.directory / "snapshot_root").rglob("secret"))
    refused = machine.ctr("tasks", "start", "c1", check=False)
    line = (
        "enclave-cc: the container has no running pod sandbox on this node [code=pod-not-running stage=launch"
    )
    assert line in refused.stderr
    machine.ctr("containers", "delete", "c1")
    machine.ctr("images", "remove", "--sync", *machine.ctr("images", "list", "--quiet").stdout.split())
    snapshots = machine.directory / "snapshot_root" / "snapshots"
    give_up = time.monotonic() + 20
    while list(snapshots.iterdir()):
        assert time.monotonic() < give_up, "garbage collection did not reach the snapshotter"
        time.sleep(0.2)
