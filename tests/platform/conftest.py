"""A running platform daemon, and processes that can be launched as its enclaves."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

_CHILD = """
import json, os, sys
from enclave_cc.core.errors import EnclaveCcError
from enclave_cc.formats.sgx import TargetInfo
from enclave_cc.platform.simulated.driver import SimulatedProcessor
processor = SimulatedProcessor(sys.argv[1])
for line in sys.stdin:
    name, data = json.loads(line)
    try:
        if name == "identity":
            value = processor.identity().pack()
        elif name == "initdata":
            value = processor.measured_initdata()
        elif name == "report":
            value = processor.report(TargetInfo.of(processor.identity()), bytes.fromhex(data)).pack()
        elif name == "key":
            value = processor.report_key(bytes.fromhex(data))
        elif name == "quote":
            value = processor.quote(bytes.fromhex(data))
        else:
            read, write = os.pipe()
            if os.fork() == 0:
                try:
                    os.write(write, SimulatedProcessor(sys.argv[1]).quote(bytes(64)))
                except EnclaveCcError as error:
                    os.write(write, error.code.encode())
                os._exit(0)
            os.close(write)
            os.wait()
            value = os.read(read, 65536)
        print(json.dumps(["ok", value.hex()]), flush=True)
    except EnclaveCcError as error:
        print(json.dumps([error.code, error.summary]), flush=True)
"""


class Child:
    """A process that asks the platform for whatever the test says."""

    def __init__(self, socket):
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(socket)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid

    def ask(self, name, data=b""):
        self._process.stdin.write(json.dumps([name, data.hex()]) + "\n")
        self._process.stdin.flush()
        outcome, value = json.loads(self._process.stdout.readline())
        return bytes.fromhex(value) if outcome == "ok" else outcome

    def stop(self):
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


@pytest.fixture
def make_bundle(tmp_path):
    def make(kind="agent", program="print()"):
        path = tmp_path / f"bundle-{kind}-{len(list(tmp_path.iterdir()))}"
        (path / "rootfs").mkdir(parents=True)
        (path / "rootfs/program.py").write_text(program)
        product_id = {"agent": 1, "boot": 2}[kind]
        settings = {"kind": kind, "product_id": product_id, "args": [], "env": [], "cwd": "/"}
        (path / "bundle.json").write_text(json.dumps(settings))
        for part in [path, *path.parents]:
            if part == Path(tempfile.gettempdir()):  # the daemon's user must be able to walk here
                break
            part.chmod(part.stat().st_mode | 0o755)
        return path

    return make


@contextlib.contextmanager
def running_daemon(directory, *arguments, python=(sys.executable,)):
    read, write = os.pipe()
    command = [*python, "-m", "enclave_cc.platform.simulated", "--state", str(directory / "state")]
    command += ["--socket", str(directory / "p.sock"), "--pcs", "127.0.0.1:0", "--ready-fd", str(write)]
    process = subprocess.Popen([*command, *arguments], pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    try:
        with os.fdopen(read) as ready:
            line = ready.readline().split()
        assert line[0] == "ready"
        yield line[1]
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def daemon():
    """Socket path and collateral URL of a daemon that dropped to an ordinary user."""
    with tempfile.TemporaryDirectory(prefix="ecc-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        with running_daemon(directory, "--uid", "12345") as url:
            yield directory / "p.sock", url


@pytest.fixture
def children(daemon):
    """Starts child processes and ends them."""
    started = []

    def start():
        started.append(Child(daemon[0]))
        return started[-1]

    yield start
    for child in started:
        child.stop()
