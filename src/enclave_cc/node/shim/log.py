"""The shim's log: one JSON object per line into containerd's log pipe, never blocking and never failing."""

from __future__ import annotations

import os
import time

from enclave_cc.node.shim.json_text import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

# Longer lines are not written atomically into a pipe.
_MAX_LINE_BYTES: Final = 4096
_MAX_VALUE_CHARS: Final = 512


def log(event: str, **fields: str | int) -> None:
    """Write one event; a full or closed pipe loses it."""
    line: dict[str, object] = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "event": event}
    for name, value in fields.items():
        line[name] = value if isinstance(value, int) else value[:_MAX_VALUE_CHARS]
    try:
        os.write(2, dumps(line)[: _MAX_LINE_BYTES - 1] + b"\n")
    except OSError:
        return
