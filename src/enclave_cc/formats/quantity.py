"""
Sizes as Kubernetes writes them: ``512Mi``, ``2Gi``, ``1.5G``, ``128e6``, or a plain number of bytes.

Source: Kubernetes API reference, ``resource.Quantity``. Signs and the suffixes below one (``m``, ``u``,
``n``) are left out, because no size has them. Whole numbers only: a float would round.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

# Twenty digits are more bytes than there are addresses.
_QUANTITY: Final = re.compile(
    r"([0-9]{1,20})(?:\.([0-9]{1,9}))?(?:([KMGTPE]i|[kMGTPE])|[eE]([0-9]{1,2}))?", re.ASCII
)
_SUFFIXES: Final[Mapping[str, int]] = MappingProxyType(
    {
        "Ki": 1 << 10,
        "Mi": 1 << 20,
        "Gi": 1 << 30,
        "Ti": 1 << 40,
        "Pi": 1 << 50,
        "Ei": 1 << 60,
        "k": 10**3,
        "M": 10**6,
        "G": 10**9,
        "T": 10**12,
        "P": 10**15,
        "E": 10**18,
    }
)


class InvalidQuantityError(ValueError):
    """The text is no size."""


def parse_bytes(text: str) -> int:
    """Return a size in bytes, a fraction of one rounded up; raise ``InvalidQuantityError``."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise InvalidQuantityError("is no size such as 512Mi, 2Gi or a number of bytes")
    whole, fraction, suffix, exponent = match.groups(default="")
    multiplier = _SUFFIXES.get(suffix, 1) * _power_of_ten(int(exponent or 0))
    return -(-int(whole + fraction) * multiplier // _power_of_ten(len(fraction)))


def _power_of_ten(exponent: int) -> int:
    return int(10**exponent)
