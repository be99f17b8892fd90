"""A hardened process leaves no core and gains no privileges."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import resource
from enclave_cc.enclave.hardening import harden_process
harden_process(may_gain_privileges={may_gain})
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
import ctypes
dumpable = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
print(resource.getrlimit(resource.RLIMIT_CORE), status["NoNewPrivs"].strip(), dumpable)
"""


def hardened(*, may_gain):
    code = CODE.format(may_gain=may_gain)
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_the_agent_gains_no_privileges():
    assert hardened(may_gain=False) == "(0, 0) 1 0"


def test_boot_may_still_start_containers_that_do():
    assert hardened(may_gain=True) == "(0, 0) 0 0"
