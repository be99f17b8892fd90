"""Identity of the quoting enclave, version 2: which enclave may make quotes, which versions are current.

Format: Intel PCS API v4, "QE Identity". The text is parsed only after its signature was checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enclave_cc.core.fields import FieldError, Fields
from enclave_cc.core.strict_json import InvalidJsonError
from enclave_cc.formats.dcap import signed_fields
from enclave_cc.formats.dcap.collateral import InvalidCollateralError
from enclave_cc.formats.dcap.tcb_info import TcbStatus, status

if TYPE_CHECKING:
    import datetime as dt

    from enclave_cc.core.fields import JsonValue

_MAX_U32: Final = 0xFFFFFFFF
_MAX_U16: Final = 0xFFFF
_VERSION: Final = 2


@dataclass(frozen=True, slots=True)
class QeLevel:
    """The lowest ISVSVN that has this status."""

    isv_svn: int
    tcb_date: dt.datetime
    status: TcbStatus
    advisory_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class QeIdentity:
    """The values are compared after the masks were applied to the report; levels are sorted, best first."""

    issue_date: dt.datetime
    next_update: dt.datetime
    evaluation_number: int
    misc_select: int
    misc_select_mask: int
    attributes: bytes
    attributes_mask: bytes
    mr_signer: bytes
    isv_prod_id: int
    levels: tuple[QeLevel, ...]

    def level_of(self, isv_svn: int) -> QeLevel | None:
        """Best level that this version reaches; None: not even the lowest."""
        return next((level for level in self.levels if isv_svn >= level.isv_svn), None)

    @classmethod
    def parse(cls, text: str) -> QeIdentity:
        """Read a version 2 identity of the SGX quoting enclave; InvalidCollateralError for anything else."""
        try:
            return _parse(signed_fields.load(text, "enclaveIdentity"))
        except (FieldError, InvalidJsonError) as error:
            raise InvalidCollateralError(str(error)) from error


def _parse(fields: Fields) -> QeIdentity:
    if fields.text("id") != "QE" or fields.integer("version") != _VERSION:
        raise fields.error("id", "is not a quoting enclave's identity of version 2")
    levels = [_level(value) for value in signed_fields.levels(fields)]
    if len({level.isv_svn for level in levels}) != len(levels):
        raise fields.error("tcbLevels", "has a level twice")
    levels.sort(key=lambda level: level.isv_svn, reverse=True)
    return QeIdentity(
        issue_date=signed_fields.time(fields, "issueDate"),
        next_update=signed_fields.time(fields, "nextUpdate"),
        evaluation_number=signed_fields.bounded(fields, "tcbEvaluationDataNumber", _MAX_U32),
        misc_select=int.from_bytes(signed_fields.octets(fields, "miscselect", 4), "little"),
        misc_select_mask=int.from_bytes(signed_fields.octets(fields, "miscselectMask", 4), "little"),
        attributes=signed_fields.octets(fields, "attributes", 16),
        attributes_mask=signed_fields.octets(fields, "attributesMask", 16),
        mr_signer=signed_fields.octets(fields, "mrsigner", 32),
        isv_prod_id=signed_fields.bounded(fields, "isvprodid", _MAX_U16),
        levels=tuple(levels),
    )


def _level(value: JsonValue) -> QeLevel:
    fields = Fields(value, "enclaveIdentity.tcbLevels")
    return QeLevel(
        isv_svn=signed_fields.bounded(fields.object("tcb"), "isvsvn", _MAX_U16),
        tcb_date=signed_fields.time(fields, "tcbDate"),
        status=status(fields),
        advisory_ids=signed_fields.advisories(fields),
    )
