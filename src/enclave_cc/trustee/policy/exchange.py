"""How broker and policy worker talk: length-prefixed JSON on a socket pair, bounded on both sides."""

from __future__ import annotations

import struct
from typing import Final

LENGTH: Final = struct.Struct(">I")
MAX_REQUEST_BYTES: Final = 8 << 20
MAX_REPLY_BYTES: Final = 1 << 20
