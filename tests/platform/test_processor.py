"""The simulated CPU keeps identities apart as the hardware does."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.simulators.sgx_machine import IDENTITY, InMemoryProcessor, Machine

from enclave_cc.core.errors import RefusedError
from enclave_cc.formats.sgx import InvalidStructureError, KeyRequest, ReportBody, TargetInfo, verify_report
from enclave_cc.formats.sgx.keys import KeyName, KeyPolicy
from enclave_cc.formats.sgx.report import Attribute
from enclave_cc.platform.simulated.processor import SimulatedCpu

CPU = SimulatedCpu(b"f" * 32, b"K" * 32)
PEER = dataclasses.replace(IDENTITY, mr_enclave=b"P" * 32, isv_svn=3)
EVERYTHING = 0xFFFF_FFFF_FFFF_FFFF


def seal_request(policy=KeyPolicy.MRENCLAVE, **changes):
    return KeyRequest(KeyName.SEAL, policy, flags_mask=EVERYTHING, xfrm_mask=EVERYTHING, **changes)


def seal_key(identity=IDENTITY, policy=KeyPolicy.MRENCLAVE, cpu=CPU, **changes):
    return cpu.get_key(identity, seal_request(policy, **changes))


def report_key(identity, key_id=b"K" * 32, cpu=CPU):
    return cpu.get_key(identity, KeyRequest(KeyName.REPORT, key_id=key_id))


def test_a_report_can_be_checked_by_its_target():
    report = CPU.report(IDENTITY, TargetInfo.of(PEER), b"d" * 64)
    verify_report(report, report_key(PEER, report.key_id))
    assert (report.body.mr_enclave, report.body.report_data) == (IDENTITY.mr_enclave, b"d" * 64)


@pytest.mark.parametrize(
    "changes",
    [
        {"mr_enclave": b"X" * 32},
        {"flags": IDENTITY.flags & ~Attribute.DEBUG},
        {"xfrm": 7},
        {"misc_select": 1},
        {"config_id": b"c" * 64},
        {"config_svn": 1},
    ],
)
def test_a_report_cannot_be_checked_by_anybody_else(changes):
    report = CPU.report(IDENTITY, TargetInfo.of(PEER), bytes(64))
    with pytest.raises(InvalidStructureError):
        verify_report(report, report_key(dataclasses.replace(PEER, **changes), report.key_id))


def test_a_report_key_is_the_same_for_all_versions_and_signers_of_an_enclave():
    assert report_key(PEER) == report_key(dataclasses.replace(PEER, isv_svn=9, mr_signer=bytes(32)))


@pytest.mark.parametrize("cpu", [SimulatedCpu(b"o" * 32, b"K" * 32), SimulatedCpu(b"f" * 32, b"L" * 32)])
def test_a_report_of_another_processor_or_another_boot_does_not_verify(cpu):
    report = cpu.report(IDENTITY, TargetInfo.of(PEER), bytes(64))
    with pytest.raises(InvalidStructureError):
        verify_report(report, report_key(PEER))


def test_an_identity_cannot_choose_its_cpusvn():
    boastful = dataclasses.replace(IDENTITY, cpu_svn=b"\xff" * 16)
    assert CPU.report(boastful, TargetInfo.of(PEER), bytes(64)).body.cpu_svn == CPU.cpu_svn


@pytest.mark.parametrize(
    "changes",
    [
        {"mr_enclave": b"X" * 32},
        {"isv_prod_id": 2},
        {"flags": IDENTITY.flags & ~Attribute.DEBUG},
        {"xfrm": 7},
    ],
)
def test_seal_keys_of_different_enclaves_differ(changes):
    assert seal_key() != seal_key(dataclasses.replace(IDENTITY, **changes))


def test_seal_keys_survive_a_reset_but_not_another_machine():
    assert seal_key() == seal_key(cpu=SimulatedCpu(b"f" * 32, b"L" * 32))
    assert seal_key() != seal_key(cpu=SimulatedCpu(b"o" * 32, b"K" * 32))


def test_debug_enters_a_seal_key_whatever_the_mask_says():
    request = KeyRequest(KeyName.SEAL, KeyPolicy.MRSIGNER)
    plain = dataclasses.replace(IDENTITY, flags=IDENTITY.flags & ~Attribute.DEBUG)
    assert CPU.get_key(IDENTITY, request) != CPU.get_key(plain, request)


def test_a_seal_key_to_the_signer_is_shared_by_its_enclaves():
    other = dataclasses.replace(IDENTITY, mr_enclave=b"X" * 32)
    assert seal_key(policy=KeyPolicy.MRSIGNER) == seal_key(other, KeyPolicy.MRSIGNER)


def test_a_seal_key_with_config_depends_on_it():
    other = dataclasses.replace(IDENTITY, config_id=b"c" * 64)
    assert seal_key() == seal_key(other)
    assert seal_key(policy=KeyPolicy.CONFIGID) != seal_key(other, KeyPolicy.CONFIGID)


def test_an_older_version_gets_no_key_of_a_newer_one():
    for request in (
        seal_request(isv_svn=IDENTITY.isv_svn + 1),
        seal_request(cpu_svn=bytes([1] * 15 + [2])),
        seal_request(config_svn=1),
    ):
        with pytest.raises(RefusedError):
            CPU.get_key(IDENTITY, request)


def test_a_newer_version_gets_the_older_ones_key():
    newer = dataclasses.replace(IDENTITY, isv_svn=2)
    assert seal_key(newer, isv_svn=1) == seal_key(isv_svn=1)
    assert seal_key(newer, isv_svn=2) != seal_key(newer, isv_svn=1)


def test_key_policies_of_kss_need_kss():
    plain = dataclasses.replace(IDENTITY, flags=IDENTITY.flags & ~Attribute.KSS)
    with pytest.raises(RefusedError):
        CPU.get_key(plain, seal_request(KeyPolicy.CONFIGID))


@pytest.mark.parametrize("name", [KeyName.EINITTOKEN, KeyName.PROVISION, KeyName.PROVISION_SEAL])
def test_keys_of_the_platform_itself_are_refused(name):
    with pytest.raises(RefusedError):
        CPU.get_key(IDENTITY, KeyRequest(name))


@given(st.binary(min_size=32, max_size=32))
def test_report_and_seal_keys_never_coincide(key_id):
    assert report_key(IDENTITY, key_id) != seal_key(key_id=key_id)


def test_the_fuse_key_is_not_printed():
    assert "f" * 32 not in repr(CPU)


def test_a_quote_needs_a_report_made_here_for_the_quoting_enclave():
    machine, other = Machine(), Machine(fuse_key=b"o" * 32)
    foreign = other.cpu.report(IDENTITY, machine.quoting.target_info, bytes(64))
    elsewhere = machine.cpu.report(IDENTITY, TargetInfo.of(PEER), bytes(64))
    good = machine.cpu.report(IDENTITY, machine.quoting.target_info, bytes(64))
    changed = dataclasses.replace(good, body=dataclasses.replace(good.body, mr_enclave=bytes(32)))
    for report in (foreign, elsewhere, changed):
        with pytest.raises(RefusedError):
            machine.quoting.quote(report)
    assert machine.quoting.quote(good)


def test_the_attestation_key_survives_a_restart():
    machine = Machine()
    restarted = Machine()
    first, second = (m.verify(m.quote()).quote.attestation_key for m in (machine, restarted))
    assert first == second


def test_the_in_memory_processor_is_a_processor():
    processor = InMemoryProcessor(Machine())
    assert processor.identity() == IDENTITY
    assert ReportBody.parse(processor.quote(b"q" * 64)[48:432]).report_data == b"q" * 64
