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


PARENT_IS_GONE = """
import os
from enclave_cc.enclave.hardening import end_with_parent
parent = os.fork()
if parent == 0:
    os._exit(0)
os.waitpid(parent, 0)
try:
    end_with_parent(parent)
except ProcessLookupError:
    print("gone")
"""


def test_a_process_whose_parent_is_gone_already_does_not_stay():
    command = [sys.executable, "-c", PARENT_IS_GONE]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "gone\n"
