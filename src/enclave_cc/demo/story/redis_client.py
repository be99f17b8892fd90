"""The smallest client of the demo's server: send one command, read one reply (RESP2)."""

from __future__ import annotations

import socket
from typing import Final

# The demo's values are short; a reply without an end must not be read for ever.
_MAX_LINE_BYTES: Final = 4096


def ask(port: int, *words: str, within_s: float = 5.0) -> str:
    """Return the reply as text; raise OSError without an answer, ValueError for an error reply."""
    with socket.create_connection(("127.0.0.1", port), timeout=within_s) as connection:
        stream = connection.makefile("rwb")
        stream.write(f"*{len(words)}\r\n".encode())
        for word in words:
            stream.write(f"${len(word.encode())}\r\n{word}\r\n".encode())
        stream.flush()
        head = stream.readline(_MAX_LINE_BYTES).strip()
        if head.startswith(b"-") or not head:
            raise ValueError(head.decode(errors="replace") or "connection closed")
        if not head.startswith(b"$"):
            return head[1:].decode(errors="replace")
        length = int(head[1:])
        return stream.read(min(length, _MAX_LINE_BYTES)).decode(errors="replace") if length >= 0 else ""


def answers(port: int) -> bool:
    """Whether a server replies to PING."""
    try:
        return ask(port, "PING", within_s=1.0) == "PONG"
    except (OSError, ValueError):
        return False
