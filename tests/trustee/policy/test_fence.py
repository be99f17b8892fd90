"""Policies are evaluated behind a fence, and ours decide what they say they decide."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from enclave_cc.core.errors import InvalidInputError, RefusedError, UnavailableError
from enclave_cc.trustee.policy import worker
from enclave_cc.trustee.policy.engine import PolicyEngine, _Worker
from enclave_cc.trustee.policy.library import PolicyId, PolicyLibrary, default_text, parse_policy_id
from enclave_cc.trustee.stores.sqlite import SqliteStore

ALLOW = "data.policy.allow"
LOOP = """package policy
allow := count([1 | some i in numbers.range(1, 4000); some j in numbers.range(1, 4000); i * j > 0]) > 0
"""


@pytest.fixture(scope="module")
def engine():
    engine = PolicyEngine(workers=1)
    yield engine
    engine.close()


@pytest.fixture
def library(tmp_path, engine):
    store = SqliteStore(tmp_path / "store.sqlite")
    yield PolicyLibrary(store, engine)
    store.close()


def allow(engine, policy, document=None, **data):
    return engine.evaluate(
        policy, [ALLOW], document=document or {}, data={"reference_values": {}, **data}
    ).get(ALLOW)


def test_a_policy_that_does_not_end_is_killed_and_the_next_one_runs():
    engine = PolicyEngine(workers=1, deadline_s=1)
    start = time.monotonic()
    with pytest.raises(UnavailableError):
        allow(engine, LOOP)
    assert time.monotonic() - start < 5
    assert allow(engine, "package policy\nallow := true") is True
    engine.close()


def test_a_policy_that_takes_much_memory_is_killed_long_before_its_deadline():
    engine = PolicyEngine(workers=1, deadline_s=60)
    assert allow(engine, "package policy\nallow := true") is True
    start = time.monotonic()
    with pytest.raises(UnavailableError, match="did not evaluate") as caught:
        allow(engine, "package policy\nallow := count(numbers.range(1, 20000000)) > 0\n")
    assert "memory" in str(caught.value.__cause__)
    assert time.monotonic() - start < 30
    assert allow(engine, "package policy\nallow := true") is True
    engine.close()


def test_a_policy_sees_no_environment(engine, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_BROKER", "x")
    assert allow(engine, "package policy\nallow := opa.runtime().env") == {}


def test_a_worker_has_no_environment_and_no_open_files_of_ours(tmp_path):
    engine = PolicyEngine(workers=1)
    with (tmp_path / "file").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        assert allow(engine, "package policy\nallow := true") is True
        worker = engine._idle.get()
        process = Path("/proc") / str(worker.process.pid)
        assert tmp_path / "file" not in [link.readlink() for link in (process / "fd").iterdir()]
        assert b"PATH" not in (process / "environ").read_bytes()
        engine._idle.put(worker)
    engine.close()


def test_a_worker_is_replaced_after_a_while(monkeypatch):
    monkeypatch.setattr("enclave_cc.trustee.policy.engine._EVALUATIONS_PER_WORKER", 2)
    engine = PolicyEngine(workers=1)
    workers = set()
    for _ in range(4):
        allow(engine, "package policy\nallow := true")
        worker = engine._idle.get()
        workers.add(worker and worker.process.pid)
        engine._idle.put(worker)
    assert None in workers
    assert len(workers) == 3
    engine.close()


def test_a_worker_that_was_killed_is_replaced(engine):
    fresh = PolicyEngine(workers=1)
    assert allow(fresh, "package policy\nallow := true") is True
    process = fresh._idle.get()
    process.process.kill()
    process.process.wait()
    fresh._idle.put(process)
    assert allow(fresh, "package policy\nallow := true") is True
    fresh.close()


def test_a_worker_that_dies_over_an_evaluation_is_a_fault_of_ours(monkeypatch):
    fresh = PolicyEngine(workers=1)
    assert allow(fresh, "package policy\nallow := true") is True

    def killed(worker, size, deadline):
        worker.process.kill()
        worker.process.wait()
        return original(worker, size, deadline)

    original = _Worker._exactly
    monkeypatch.setattr(_Worker, "_exactly", killed)
    with pytest.raises(UnavailableError) as caught:
        allow(fresh, "package policy\nallow := true")
    assert caught.value.code == "policy-evaluation-failed"
    monkeypatch.undo()
    assert allow(fresh, "package policy\nallow := true") is True
    fresh.close()


def test_workers_that_do_not_start_do_not_use_up_the_pool(monkeypatch):
    fresh = PolicyEngine(workers=1, deadline_s=1)
    monkeypatch.setattr("enclave_cc.trustee.policy.engine.sys.executable", "/nonexistent")
    for _ in range(3):
        with pytest.raises(UnavailableError) as caught:
            allow(fresh, "package policy\nallow := true")
        assert caught.value.code == "policy-engine-unavailable"
        assert "no policy worker starts" in caught.value.detail
    monkeypatch.undo()
    assert allow(fresh, "package policy\nallow := true") is True
    fresh.close()


def test_a_worker_that_cannot_be_killed_does_not_use_up_the_pool(monkeypatch):
    fresh = PolicyEngine(workers=1, deadline_s=1)
    monkeypatch.setattr("enclave_cc.trustee.policy.engine._GRACE_S", 0)
    survivors = []

    def survive(process):
        survivors.append(process)

    monkeypatch.setattr(subprocess.Popen, "kill", survive)
    with pytest.raises(UnavailableError):
        allow(fresh, LOOP)
    monkeypatch.undo()
    for survivor in survivors:
        survivor.kill()
        survivor.wait()
    assert allow(fresh, "package policy\nallow := true") is True
    fresh.close()


def test_nobody_waits_for_ever_behind_slow_policies():
    fresh = PolicyEngine(workers=1, deadline_s=0.2)
    taken = fresh._idle.get()
    with pytest.raises(UnavailableError) as caught:
        allow(fresh, "package policy\nallow := true")
    assert caught.value.code == "policy-engine-unavailable"
    fresh.close()
    fresh._idle.put(taken)
    fresh.close()


def test_a_policy_that_does_not_end_cannot_be_set(library):
    slow = PolicyLibrary(library.store, PolicyEngine(workers=1, deadline_s=1))
    with pytest.raises(InvalidInputError):
        slow.set(PolicyId.RESOURCE, LOOP)
    slow.engine.close()
    assert library.text(PolicyId.RESOURCE) == default_text("resource.rego")


def test_undefined_is_not_an_answer(engine):
    assert allow(engine, "package policy\nallow if false") is None


def test_rules_in_conflict_are_not_an_answer(engine):
    with pytest.raises(RefusedError):
        allow(engine, "package policy\nallow := 1 if true\nallow := 2 if true")


def test_policies_of_others_find_their_reference_values(engine):
    policy = 'package policy\nallow if "a" in query_reference_value("x")\n'
    assert allow(engine, policy, reference_values={"x": ["a"]}) is True
    assert allow(engine, policy, reference_values={"x": ["b"]}) is None
    assert allow(engine, policy) is None


def test_a_request_that_is_too_large_is_refused(engine):
    with pytest.raises(RefusedError):
        allow(engine, "package policy\nallow := true", document={"x": "y" * worker.MAX_REQUEST_BYTES})


def test_a_result_that_is_too_large_is_refused(engine):
    policy = "package policy\nallow := [x | some _ in numbers.range(1, 2000); x := input.text]"
    with pytest.raises(RefusedError):
        allow(engine, policy, document={"text": "y" * 1000})


@pytest.mark.parametrize("tcb", ["UpToDate", "SWHardeningNeeded", "OutOfDate"])
def test_hardware_is_judged_by_its_tcb_status(engine, tcb):
    claims = {"sgx": {"tcb_status": tcb, "collateral_expiration_status": "0", "debug": False}}
    vector = trust_claims(engine, claims)
    assert vector["hardware"] == {"UpToDate": 2, "SWHardeningNeeded": 33}.get(tcb, 97)


def trust_claims(engine, claims, enclave="passed", product="passed"):
    outcomes = {"sgx.mr_enclave": enclave, "sgx.isv_prod_id": product}
    results = engine.evaluate(
        default_text("attestation_cpu.rego"),
        ["data.policy.trust_claims"],
        document=claims,
        data={"findings": outcomes, "reference_values": {}},
    )
    return results["data.policy.trust_claims"]


@pytest.mark.parametrize(
    ("enclave", "product", "expected"),
    [("passed", "passed", 3), ("failed", "passed", 33), ("passed", "failed", 33), ("skipped", "skipped", 33)],
)
def test_code_is_affirmed_only_when_both_reference_values_match(engine, enclave, product, expected):
    assert trust_claims(engine, {"sgx": {}}, enclave, product)["executables"] == expected


@pytest.mark.parametrize(("claims", "expected"), [({"debug": False}, 2), ({"debug": True}, 96), ({}, 96)])
def test_debug_enclaves_are_contraindicated(engine, claims, expected):
    assert trust_claims(engine, {"sgx": claims})["configuration"] == expected


def token(status="affirming", executables=3, **evidence):
    submod = {
        "ear.status": status,
        "ear.trustworthiness-vector": {"executables": executables},
        "ear.veraison.annotated-evidence": evidence or {"sgx": {"debug": False}},
    }
    return {"submods": {"cpu0": submod}}


@pytest.mark.parametrize("status", ["affirming", "warning"])
def test_registered_code_on_genuine_hardware_is_released_to(engine, status):
    assert allow(engine, default_text("resource.rego"), token(status), plugin="resource") is True


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"submods": {}},
        token("contraindicated"),
        token("none"),
        token(executables=33),
        token(executables=0),
        token(sgx={"debug": True}),
        token(sgx={}),
        token(**{"sgx-sim": {"debug": False}}),
        token(**{"sgx": {"debug": False}, "sgx-sim": {"debug": True}}),
        token(sgx={"debug": False}, sample={"svn": "1"}),
        token(sample={"svn": "1"}),
        {"submods": {**token()["submods"], "gpu0": {"ear.status": "contraindicated"}}},
        {"submods": {**token()["submods"], "gpu0": {}}},
    ],
)
def test_the_default_resource_policy_refuses(engine, claims):
    assert allow(engine, default_text("resource.rego"), claims, plugin="resource") is False


def test_the_default_resource_policy_is_about_resources_only(engine):
    assert allow(engine, default_text("resource.rego"), token(), plugin="other") is False


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        (token("contraindicated", **{"sgx-sim": {"debug": True}}), True),
        (token("contraindicated", 33, **{"sgx-sim": {"debug": True}}), False),
        (token(), False),
    ],
)
def test_the_simulation_policy_wants_registered_code_too(engine, claims, expected):
    policy = default_text("insecure_simulation_resource.rego")
    assert allow(engine, policy, claims, plugin="resource") is expected


def test_defaults_hold_until_the_owner_sets_others(library):
    assert library.text(PolicyId.RESOURCE) == default_text("resource.rego")
    library.set(PolicyId.RESOURCE, "package policy\ndefault allow := false")
    assert library.text(PolicyId.RESOURCE) == "package policy\ndefault allow := false"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "package policy\nallow if {",
        "package other\nallow := true",
        "package policy\nallow := foo(1)",
        "package policy\nallow := true\0",
        "package policy\n\ud800",
        "package policy\n" + "#" * (300 << 10),
    ],
)
def test_a_policy_that_cannot_be_one_is_refused_and_the_old_one_stays(library, text):
    with pytest.raises(InvalidInputError):
        library.set(PolicyId.RESOURCE, text)
    assert library.text(PolicyId.RESOURCE) == default_text("resource.rego")


@pytest.mark.parametrize("name", ["default", "default_gpu", "", "../x"])
def test_names_that_are_never_evaluated_are_refused(name):
    with pytest.raises(InvalidInputError):
        parse_policy_id(name)
