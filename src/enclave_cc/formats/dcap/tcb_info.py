"""TCB information, version 3: which security versions of a platform model are current.

Format: Intel PCS API v4, "TCB Info". The text is parsed only after its signature was checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from enclave_cc.core.fields import FieldError, Fields
from enclave_cc.core.strict_json import InvalidJsonError
from enclave_cc.formats.dcap import signed_fields
from enclave_cc.formats.dcap.collateral import InvalidCollateralError
from enclave_cc.formats.sgx.pck_extension import TCB_COMPONENTS

if TYPE_CHECKING:
    import datetime as dt

    from enclave_cc.core.fields import JsonValue

_MAX_U32: Final = 0xFFFFFFFF
_MAX_U16: Final = 0xFFFF
_MAX_SVN: Final = 0xFF
_VERSION: Final = 3
_SGX_TCB_TYPE: Final = 0


class TcbStatus(StrEnum):
    """Intel's words, from best to worst."""

    UP_TO_DATE = "UpToDate"
    SW_HARDENING_NEEDED = "SWHardeningNeeded"
    CONFIGURATION_NEEDED = "ConfigurationNeeded"
    CONFIGURATION_AND_SW_HARDENING_NEEDED = "ConfigurationAndSWHardeningNeeded"
    OUT_OF_DATE = "OutOfDate"
    OUT_OF_DATE_CONFIGURATION_NEEDED = "OutOfDateConfigurationNeeded"
    REVOKED = "Revoked"


@dataclass(frozen=True, slots=True)
class TcbLevel:
    """The lowest security versions that have this status."""

    components: bytes
    pce_svn: int
    tcb_date: dt.datetime
    status: TcbStatus
    advisory_ids: tuple[str, ...]

    def reached_by(self, components: bytes, pce_svn: int) -> bool:
        """Whether a platform with these versions is at least at this level."""
        pairs = zip(components, self.components, strict=True)
        return pce_svn >= self.pce_svn and all(have >= need for have, need in pairs)


@dataclass(frozen=True, slots=True)
class TcbInfo:
    """TCB information of one FMSPC; levels are sorted, best first."""

    fmspc: bytes
    pce_id: bytes
    issue_date: dt.datetime
    next_update: dt.datetime
    evaluation_number: int
    levels: tuple[TcbLevel, ...]

    def level_of(self, components: bytes, pce_svn: int) -> TcbLevel | None:
        """Best level that the platform reaches; None: not even the lowest."""
        return next((level for level in self.levels if level.reached_by(components, pce_svn)), None)

    @classmethod
    def parse(cls, text: str) -> TcbInfo:
        """Read SGX TCB information of version 3; InvalidCollateralError for anything else."""
        try:
            return _parse(signed_fields.load(text, "tcbInfo"))
        except (FieldError, InvalidJsonError) as error:
            raise InvalidCollateralError(str(error)) from error


def _parse(fields: Fields) -> TcbInfo:
    if fields.text("id") != "SGX" or fields.integer("version") != _VERSION:
        raise fields.error("id", "is not SGX TCB information of version 3")
    if fields.integer("tcbType") != _SGX_TCB_TYPE:
        raise fields.error("tcbType", "is unknown")
    if fields.has("tdxModule") or fields.has("tdxModuleIdentities"):
        raise fields.error("tdxModule", "does not belong to SGX")
    levels = [_level(value) for value in signed_fields.levels(fields)]
    if len({(level.components, level.pce_svn) for level in levels}) != len(levels):
        raise fields.error("tcbLevels", "has a level twice")
    levels.sort(key=lambda level: (level.components, level.pce_svn), reverse=True)
    return TcbInfo(
        fmspc=signed_fields.octets(fields, "fmspc", 6),
        pce_id=signed_fields.octets(fields, "pceId", 2),
        issue_date=signed_fields.time(fields, "issueDate"),
        next_update=signed_fields.time(fields, "nextUpdate"),
        evaluation_number=signed_fields.bounded(fields, "tcbEvaluationDataNumber", _MAX_U32),
        levels=tuple(levels),
    )


def _level(value: JsonValue) -> TcbLevel:
    fields = Fields(value, "tcbInfo.tcbLevels")
    tcb = fields.object("tcb")
    components = [Fields(item, "sgxtcbcomponents") for item in tcb.array("sgxtcbcomponents")]
    if len(components) != TCB_COMPONENTS:
        raise tcb.error("sgxtcbcomponents", "are not 16")
    return TcbLevel(
        components=bytes(signed_fields.bounded(item, "svn", _MAX_SVN) for item in components),
        pce_svn=signed_fields.bounded(tcb, "pcesvn", _MAX_U16),
        tcb_date=signed_fields.time(fields, "tcbDate"),
        status=status(fields),
        advisory_ids=signed_fields.advisories(fields),
    )


def status(fields: Fields) -> TcbStatus:
    """Read `tcbStatus`; an unknown word is refused."""
    word = fields.text("tcbStatus")
    try:
        return TcbStatus(word)
    except ValueError as error:
        raise fields.error("tcbStatus", "is unknown") from error
