"""A user as numbers, after the app enclave looked the image's name up in the mounted root file system."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from enclave_cc.core.fields import Fields

# The kernel takes 65536 groups; images name a handful.
MAX_GROUPS: Final = 1024


@dataclass(frozen=True, slots=True)
class ResolvedUser:
    """User, primary group and supplementary groups."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return the user as the OCI runtime specification writes it."""
        return {"uid": self.uid, "gid": self.gid, "additionalGids": list(self.groups)}

    @classmethod
    def read(cls, fields: Fields) -> Self:
        """Read what ``to_json`` wrote; raise ``FieldError``."""
        groups = fields.array("additionalGids")
        numbers = tuple(number for number in groups if isinstance(number, int))
        if len(numbers) != len(groups) or len(numbers) > MAX_GROUPS:
            raise fields.error("additionalGids", "is not a list of group ids")
        return cls(fields.integer("uid"), fields.integer("gid"), numbers)
