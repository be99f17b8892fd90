"""How long the shim takes to answer containerd's `start`, next to runc's own shim."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import enclave_cc
from bench.report import Goal, Result, row
from enclave_cc.node.shim.launcher import write_shim_launcher

_RUNS = 25
_PEER = "containerd-shim-runc-v2"


def run() -> Result:
    """Start both shims in turn on the same bundle, until each has printed its address."""
    with tempfile.TemporaryDirectory(prefix="ecc-bench-") as name:
        directory = Path(name)
        launcher = _launcher(directory)
        shims = {"ours": str(launcher)}
        if peer := shutil.which(_PEER):
            shims["runc"] = peer
        times: dict[str, list[float]] = {shim: [] for shim in shims}
        for number in range(_RUNS + 1):
            for shim, program in shims.items():
                taken = _start(directory, program, f"{shim}-{number}")
                if number:
                    times[shim].append(taken * 1e3)
    rows = [
        row(f"{shim}: start until the address is printed", "ms", values) for shim, values in times.items()
    ]
    goals = []
    if "runc" in times:
        ratios = [mine / other for mine, other in zip(times["ours"], times["runc"], strict=True)]
        rows.append(row("ours / runc, pair by pair", "ratio", ratios))
        goals.append(Goal("shim-start-over-runc", rows[-1].median, 1.5))
    return Result(
        "shim", rows, goals, f"`start` as containerd calls it; the peer is {_PEER}, where installed."
    )


def _launcher(directory: Path) -> Path:
    config = directory / "node.json"
    names = ("agent_bundle", "boot_bundle", "node_socket", "platform_socket", "runc", "runc_root", "state")
    config.write_text(json.dumps({name: str(directory / name) for name in names}))
    launcher = directory / "containerd-shim-rune-v2"
    python = Path(os.path.realpath(sys.executable))
    write_shim_launcher(launcher, config, python, Path(enclave_cc.__file__).parent.parent)
    return launcher


def _start(directory: Path, program: str, identifier: str) -> float:
    bundle = directory / identifier
    bundle.mkdir()
    (bundle / "config.json").write_text('{"ociVersion": "1.0.2", "annotations": {}}')
    os.mkfifo(bundle / "log")
    log = os.open(bundle / "log", os.O_RDWR | os.O_NONBLOCK)
    address = directory / "containerd.sock"
    arguments = [program, "-namespace", "bench", "-address", str(address), "-id", identifier, "start"]
    environment = {"PATH": os.environ["PATH"], "TTRPC_ADDRESS": f"{address}.ttrpc"}
    begun = time.perf_counter()
    started = subprocess.run(
        arguments, cwd=bundle, env=environment, capture_output=True, check=True, input=b""
    )
    taken = time.perf_counter() - begun
    socket_path = started.stdout.decode().strip().removeprefix("unix://")
    _end(identifier)
    Path(socket_path).unlink(missing_ok=True)
    os.close(log)
    shutil.rmtree(bundle)
    return taken


def _end(identifier: str) -> None:
    """End the shim of one id, which was started above: its command line names the id."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != str(os.getpid()):
            try:
                arguments = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if identifier.encode() in arguments and b"bench" in arguments:
                os.kill(int(entry.name), signal.SIGKILL)
