"""An exec needs the owner's word, and gets the container's own surroundings."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.core.errors import EnclaveCcError, InvalidInputError, RefusedError
from enclave_cc.core.findings import Outcome
from enclave_cc.enclave.agent.exec_policy import authorize_exec
from enclave_cc.enclave.resolved_user import ResolvedUser
from enclave_cc.formats.launch import LaunchConfiguration

LAUNCH = LaunchConfiguration(("/bin/x",), ("A=b",), "/srv", "app", "sha256:aa", exec_allowed=True)
USER = ResolvedUser(7, 8, (9,))


def process(**members):
    return json.dumps(
        {"args": ["/bin/sh"], "cwd": "/", "env": ["LD_PRELOAD=x"], "user": {"uid": 0}} | members
    ).encode()


def test_command_and_capabilities_are_the_hosts_and_the_rest_the_containers():
    approved = json.loads(authorize_exec(process(capabilities={"bounding": []}), LAUNCH, USER))
    assert approved == {
        "args": ["/bin/sh"],
        "capabilities": {"bounding": []},
        "cwd": "/srv",
        "env": ["A=b"],
        "user": {"uid": 7, "gid": 8, "additionalGids": [9]},
    }


def test_a_terminal_gets_its_kind():
    approved = json.loads(authorize_exec(process(terminal=True), LAUNCH, USER))
    assert approved["env"] == ["A=b", "TERM=xterm"]


def test_without_the_owners_word_exec_is_refused():
    with pytest.raises(RefusedError) as caught:
        authorize_exec(process(), replace(LAUNCH, exec_allowed=False), USER)
    assert caught.value.code == "exec-refused"
    (finding,) = caught.value.findings
    assert (finding.rule, finding.outcome, finding.actual) == ("exec.allowed", Outcome.FAILED, "'/bin/sh'")
    assert "/bin/sh" not in str(caught.value)


def test_a_container_that_has_not_started_takes_no_exec():
    with pytest.raises(InvalidInputError) as caught:
        authorize_exec(process(), LAUNCH, None)
    assert caught.value.code == "container-not-started"


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_the_declared_errors(data):
    try:
        authorize_exec(data, LAUNCH, USER)
    except EnclaveCcError as error:
        assert error.code == "runtime-spec-invalid"  # noqa: PT017
