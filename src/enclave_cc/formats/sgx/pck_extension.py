"""The SGX extension of a PCK certificate: which processor, with which security versions.

Layout: "Intel SGX PCK Certificate and Certificate Revocation List Profile Specification", OID
1.2.840.113741.1.13.1: a SEQUENCE of (OID, value) pairs. The 16 component SVNs and CPUSVN say the same
thing twice; both must agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from enclave_cc.formats import der
from enclave_cc.formats.sgx.structure import InvalidStructureError, require_length

SGX_EXTENSION_OID: Final = "1.2.840.113741.1.13.1"
TCB_COMPONENTS: Final = 16
_PPID, _TCB, _PCE_ID, _FMSPC, _TYPE, _INSTANCE, _CONFIGURATION = (
    f"{SGX_EXTENSION_OID}.{n}" for n in range(1, 8)
)
_PCE_SVN = f"{_TCB}.17"
_CPU_SVN = f"{_TCB}.18"
_DYNAMIC, _CACHED_KEYS, _SMT = (f"{_CONFIGURATION}.{n}" for n in range(1, 4))
_MAX_SVN: Final = 255
_MAX_PCE_SVN: Final = 0xFFFF


class SgxType(IntEnum):
    """How memory is protected on this platform."""

    STANDARD = 0
    SCALABLE = 1
    SCALABLE_WITH_INTEGRITY = 2


@dataclass(frozen=True, slots=True)
class PlatformConfiguration:
    """What the platform CA attests about a multi-package machine; None where the certificate is silent."""

    dynamic_platform: bool | None = None
    cached_keys: bool | None = None
    smt_enabled: bool | None = None


@dataclass(frozen=True, slots=True)
class PckExtension:
    """The extension's content. `cpu_svn` is the 16 component SVNs as bytes."""

    ppid: bytes
    cpu_svn: bytes
    pce_svn: int
    pce_id: bytes
    fmspc: bytes
    sgx_type: SgxType = SgxType.STANDARD
    platform_instance_id: bytes | None = None
    configuration: PlatformConfiguration | None = None

    def __post_init__(self) -> None:
        require_length(self.ppid, 16, "PPID")
        require_length(self.cpu_svn, TCB_COMPONENTS, "CPUSVN")
        require_length(self.pce_id, 2, "PCEID")
        require_length(self.fmspc, 6, "FMSPC")
        if self.platform_instance_id is not None:
            require_length(self.platform_instance_id, 16, "platform instance id")
        if not 0 <= self.pce_svn <= _MAX_PCE_SVN:
            raise InvalidStructureError("SGX extension: PCESVN is out of range")

    def pack(self) -> bytes:
        """Return the extension's DER."""
        tcb = [_pair(f"{_TCB}.{n}", der.write_unsigned(svn)) for n, svn in enumerate(self.cpu_svn, start=1)]
        tcb.append(_pair(_PCE_SVN, der.write_unsigned(self.pce_svn)))
        tcb.append(_pair(_CPU_SVN, der.write(der.OCTET_STRING, self.cpu_svn)))
        pairs = [
            _pair(_PPID, der.write(der.OCTET_STRING, self.ppid)),
            _pair(_TCB, der.write_sequence(*tcb)),
            _pair(_PCE_ID, der.write(der.OCTET_STRING, self.pce_id)),
            _pair(_FMSPC, der.write(der.OCTET_STRING, self.fmspc)),
            _pair(_TYPE, der.write_unsigned(self.sgx_type, der.ENUMERATED)),
        ]
        if self.platform_instance_id is not None:
            pairs.append(_pair(_INSTANCE, der.write(der.OCTET_STRING, self.platform_instance_id)))
        if self.configuration is not None:
            pairs.append(_pair(_CONFIGURATION, _pack_configuration(self.configuration)))
        return der.write_sequence(*pairs)

    @classmethod
    def parse(cls, data: bytes) -> PckExtension:
        """Read the extension's DER; InvalidStructureError on anything unexpected."""
        try:
            return cls._parse(data)
        except der.InvalidDerError as error:
            raise InvalidStructureError(str(error)) from error

    @classmethod
    def _parse(cls, data: bytes) -> PckExtension:
        tag, content = der.read(data)
        if tag != der.SEQUENCE:
            raise InvalidStructureError("SGX extension: not a sequence")
        fields = _Pairs(content)
        tcb = _Pairs(fields.take(_TCB, der.SEQUENCE))
        cpu_svn = tcb.take(_CPU_SVN, der.OCTET_STRING)
        components = [
            der.unsigned(tcb.take(f"{_TCB}.{n}", der.INTEGER)) for n in range(1, TCB_COMPONENTS + 1)
        ]
        if max(components) > _MAX_SVN or bytes(components) != cpu_svn:
            raise InvalidStructureError("SGX extension: component SVNs and CPUSVN differ")
        extension = cls(
            ppid=fields.take(_PPID, der.OCTET_STRING),
            cpu_svn=cpu_svn,
            pce_svn=der.unsigned(tcb.take(_PCE_SVN, der.INTEGER)),
            pce_id=fields.take(_PCE_ID, der.OCTET_STRING),
            fmspc=fields.take(_FMSPC, der.OCTET_STRING),
            sgx_type=_sgx_type(der.unsigned(fields.take(_TYPE, der.ENUMERATED))),
            platform_instance_id=fields.take_optional(_INSTANCE, der.OCTET_STRING),
            configuration=_parse_configuration(fields.take_optional(_CONFIGURATION, der.SEQUENCE)),
        )
        tcb.finish()
        fields.finish()
        return extension


class _Pairs:
    """(OID, value) pairs of one sequence; every one is taken exactly once."""

    def __init__(self, content: bytes) -> None:
        self._values: dict[str, tuple[int, bytes]] = {}
        for tag, pair in der.items(content):
            parts = list(der.items(pair)) if tag == der.SEQUENCE else []
            if [part[0] for part in parts[:1]] != [der.OBJECT_IDENTIFIER] or len(parts) != len(
                ("oid", "value")
            ):
                raise InvalidStructureError("SGX extension: not an (OID, value) pair")
            oid = der.dotted(parts[0][1])
            if oid in self._values:
                raise InvalidStructureError(f"SGX extension: {oid} twice")
            self._values[oid] = parts[1]

    def take(self, oid: str, tag: int) -> bytes:
        value = self.take_optional(oid, tag)
        if value is None:
            raise InvalidStructureError(f"SGX extension: {oid} is missing")
        return value

    def take_optional(self, oid: str, tag: int) -> bytes | None:
        found, value = self._values.pop(oid, (tag, None))
        if found != tag:
            raise InvalidStructureError(f"SGX extension: {oid} has the wrong type")
        return value

    def finish(self) -> None:
        if self._values:
            raise InvalidStructureError(f"SGX extension: unknown {min(self._values)}")


def _pair(oid: str, value: bytes) -> bytes:
    return der.write_sequence(der.write_oid(oid), value)


def _sgx_type(value: int) -> SgxType:
    try:
        return SgxType(value)
    except ValueError as error:
        raise InvalidStructureError(f"SGX extension: unknown SGX type {value}") from error


def _parse_configuration(content: bytes | None) -> PlatformConfiguration | None:
    if content is None:
        return None
    pairs = _Pairs(content)
    flags = [pairs.take_optional(oid, der.BOOLEAN) for oid in (_DYNAMIC, _CACHED_KEYS, _SMT)]
    pairs.finish()
    return PlatformConfiguration(*(None if flag is None else der.boolean(flag) for flag in flags))


def _pack_configuration(configuration: PlatformConfiguration) -> bytes:
    flags = (configuration.dynamic_platform, configuration.cached_keys, configuration.smt_enabled)
    return der.write_sequence(
        *(
            _pair(oid, der.write_boolean(flag))
            for oid, flag in zip((_DYNAMIC, _CACHED_KEYS, _SMT), flags, strict=True)
            if flag is not None
        )
    )
