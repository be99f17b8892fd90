"""Programs made by others, and a registry for them on loopback; what is absent is skipped by name."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_TOOLS = ROOT / ".tools" / "bin"


def program(name):
    """Find a program in ``ENCLAVE_CC_<NAME>``, in .tools/bin or on PATH; skip the test without it."""
    named = os.environ.get(f"ENCLAVE_CC_{name.upper().replace('-', '_')}")
    found = named or shutil.which(name, path=f"{_TOOLS}:{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"{name} is absent: run `make interop-tools`")
    return found


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running_debian_registry(directory, *, htpasswd=""):
    """
    Debian's registry (without a referrers API) on loopback; the value is its host and port.

    With a text for htpasswd it asks for basic authorization.
    """
    server, port = program("docker-registry"), _free_port()
    config = directory / "config.yml"
    config.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {directory}/blobs}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\nlog: {{level: error}}\n"
    )
    if htpasswd:
        (directory / "htpasswd").write_text(htpasswd)
        with config.open("a") as file:
            file.write(f"auth: {{htpasswd: {{realm: registry, path: {directory}/htpasswd}}}}\n")
    process = subprocess.Popen(
        [server, "serve", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(f"http://127.0.0.1:{port}/v2/")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(timeout=10)


def _wait_for(url):
    for _ in range(100):
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except urllib.error.HTTPError:
            # It answers, and wants to know who asks.
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail("the registry does not start")
