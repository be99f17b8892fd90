"""The SGX extension and the small DER reader below it."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.formats import der
from enclave_cc.formats.sgx.pck_extension import PckExtension, PlatformConfiguration, SgxType
from enclave_cc.formats.sgx.structure import InvalidStructureError

EXTENSION = PckExtension(
    ppid=b"P" * 16, cpu_svn=bytes(range(240, 256)), pce_svn=300, pce_id=b"\0\1", fmspc=b"FMSPC!"
)
PLATFORM = dataclasses.replace(
    EXTENSION,
    sgx_type=SgxType.SCALABLE_WITH_INTEGRITY,
    platform_instance_id=b"I" * 16,
    configuration=PlatformConfiguration(dynamic_platform=True, cached_keys=False, smt_enabled=True),
)


@pytest.mark.parametrize("extension", [EXTENSION, PLATFORM])
def test_extensions_survive_the_round_trip(extension):
    assert PckExtension.parse(extension.pack()) == extension


@given(st.binary(max_size=400))
def test_any_bytes_parse_or_raise_the_declared_error(data):
    with contextlib.suppress(InvalidStructureError):
        PckExtension.parse(data)


@given(st.integers(0, len(PLATFORM.pack()) - 1), st.integers(0, 255))
def test_any_changed_byte_parses_or_raises_the_declared_error(offset, value):
    data = bytearray(PLATFORM.pack())
    data[offset] = value
    with contextlib.suppress(InvalidStructureError):
        PckExtension.parse(bytes(data))


def test_component_svns_and_cpusvn_must_agree():
    svn = der.write(der.OCTET_STRING, EXTENSION.cpu_svn)
    changed = EXTENSION.pack().replace(svn, der.write(der.OCTET_STRING, bytes(16)))
    with pytest.raises(InvalidStructureError, match="differ"):
        PckExtension.parse(changed)


def test_a_missing_field_is_named():
    with pytest.raises(InvalidStructureError, match=r"1\.13\.1\.2 is missing"):
        PckExtension.parse(der.write_sequence())


def test_an_unknown_field_is_refused():
    _, content = der.read(EXTENSION.pack())
    pair = der.write_sequence(der.write_oid("1.2.840.113741.1.13.1.9"), der.write_boolean(True))
    with pytest.raises(InvalidStructureError, match="unknown"):
        PckExtension.parse(der.write(der.SEQUENCE, content + pair))


def test_a_field_twice_is_refused():
    _, content = der.read(EXTENSION.pack())
    pair = der.write_sequence(der.write_oid("1.2.840.113741.1.13.1.5"), der.write_unsigned(0, der.ENUMERATED))
    with pytest.raises(InvalidStructureError, match="twice"):
        PckExtension.parse(der.write(der.SEQUENCE, content + pair))
