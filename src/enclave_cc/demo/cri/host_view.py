"""What the untrusted host learns of a failure: one line with code, stage and request id, and no values.

The line travels inside containerd's own error text; this module finds it there and adds nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_LINE: Final = re.compile(
    r"enclave-cc: (?P<summary>[^\[\]\n]{1,500}) "
    r"\[code=(?P<code>[a-z0-9-]{1,80}) stage=(?P<stage>[a-z-]{1,40}) request=(?P<request>[0-9A-Z]{1,40})\]"
    r"(?:; (?P<remedy>[^\n]{1,500}))?"
)

# How containerd ends an error whose gRPC code is UNKNOWN.
_CONTAINERD_SUFFIX: Final = ": unknown"


@dataclass(frozen=True, slots=True)
class HostView:
    """The host line taken apart; empty texts where the error carried no such line."""

    summary: str
    code: str = ""
    stage: str = ""
    request_id: str = ""
    remedy: str = ""

    @classmethod
    def find(cls, text: str) -> HostView:
        """Look for the line in an error text of the CRI."""
        found = _LINE.search(text)
        if not found:
            return cls(summary=text[:500])
        return cls(
            summary=found["summary"],
            code=found["code"],
            stage=found["stage"],
            request_id=found["request"],
            remedy=(found["remedy"] or "").strip().removesuffix(_CONTAINERD_SUFFIX),
        )

    def to_json(self) -> dict[str, str]:
        """JSON members."""
        return {
            "summary": self.summary,
            "code": self.code,
            "stage": self.stage,
            "request_id": self.request_id,
            "remedy": self.remedy,
        }
