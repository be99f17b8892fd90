"""A server as boot has it, and what is to be seen of it from outside."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from tests.enclave.rootfs.conftest import BINDING

from enclave_cc.enclave.rootfs.server.client import RootfsServer
from enclave_cc.enclave.rootfs.server.process import fork_server

SMALL, LARGE = os.urandom(1 << 20), os.urandom(8 << 20)


class Served:
    """A root file system that another process serves, with the places that belong to it."""

    def __init__(self, sealed, base):
        self.sealed, self.root, self.work = sealed, base / "root", base / "work"
        for path in (base, self.root, self.work):
            path.mkdir()
        self.process = fork_server()
        self.server = RootfsServer(self.process)

    def prepare(self, backend):
        self.server.prepare(self.work, candidates=(str(backend),))
        return self

    def open(self, **changes):
        arguments = {
            "fdk": self.sealed.fdk,
            "manifest_sha256": self.sealed.manifest_sha256,
            "binding": BINDING,
            "mountpoint": self.root,
            "work": self.work,
        }
        self.backend = self.server.open(self.sealed.directory, **(arguments | changes))
        return self

    def close(self):
        """Close, and look for what is left."""
        self.server.close()
        mounts = Path("/proc/self/mountinfo").read_text()
        assert str(self.root.parent) not in mounts
        assert not list(self.work.iterdir())
        assert ends(self.process.pid)


def ends(pid, within_s=5):
    """Whether a process ends by then."""
    deadline = time.monotonic() + within_s
    while _runs(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def sealed(seal, archive):
    return seal(archive(small=SMALL, large=LARGE))


@pytest.fixture
def served(tmp_path, sealed):
    """Start a server for an image; call it in a private mount namespace."""
    return lambda: Served(sealed, tmp_path / "m")
