"""
The child process that evaluates Rego, and nothing else.

It starts with an empty environment, puts limits on itself before it reads a byte, opens no
file and no socket, and answers one request at a time on the socket that is its standard input.
Whatever goes wrong in it is one word to the parent; the parent kills it when it is late.
"""

from __future__ import annotations

import json
import os
import resource
import socket
from pathlib import Path
from typing import Final

from regopy import Interpreter, RegoError

from enclave_cc.trustee.policy.exchange import LENGTH, MAX_REPLY_BYTES, MAX_REQUEST_BYTES

# Over the worker's whole life; it is replaced long before that when it behaves.
_CPU_S: Final = 60
_OPEN_FILES: Final = 16

# Rego has no host functions here; this gives existing policies the one that they call.
_REFERENCE_VALUES: Final = """package policy

query_reference_value(name) := object.get(data.reference_values, name, null)
"""


def main() -> None:
    """Serve until the parent closes the socket."""
    _limit()
    with socket.socket(fileno=0) as parent:
        while (request := _receive(parent)) is not None:
            parent.sendall(_frame(evaluate(request)))


def evaluate(request: bytes) -> dict[str, object]:
    """Evaluate one request; the answer is ``{"results": …}`` or ``{"error": …}``."""
    message = json.loads(request)
    try:
        interpreter = Interpreter()
        interpreter.add_module("policy.rego", message["policy"])
        interpreter.add_module("reference_values.rego", _REFERENCE_VALUES)
        interpreter.add_data(message["data"])
        interpreter.set_input(message["input"])
        results = {query: _query(interpreter, query) for query in message["queries"]}
    except (RegoError, ValueError, KeyError, TypeError) as error:
        return {"error": str(error)[:1000]}
    return {"results": {query: found[0] for query, found in results.items() if found}}


def _query(interpreter: Interpreter, query: str) -> list[object]:
    """Return the value in a list, or an empty list when the rule is undefined."""
    output = str(interpreter.query(f"answer__ = {query}"))
    if output == "undefined":
        return []
    return [json.loads(output)["bindings"]["answer__"]]


def _limit() -> None:
    # The interpreter adds a locale to the empty environment; a policy could read even that.
    os.environ.clear()
    # No limit on address space: the interpreter's allocator reserves 256 GiB of it and uses little. The
    # parent watches the resident memory instead; should that be too slow, this process is the first to go.
    Path("/proc/self/oom_score_adj").write_text("1000")
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, _OPEN_FILES))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def _frame(reply: dict[str, object]) -> bytes:
    body = json.dumps(reply).encode()
    if len(body) > MAX_REPLY_BYTES:
        body = json.dumps({"error": "the result is too large"}).encode()
    return LENGTH.pack(len(body)) + body


def _receive(parent: socket.socket) -> bytes | None:
    header = _exactly(parent, LENGTH.size)
    if header is None:
        return None
    size: int = LENGTH.unpack(header)[0]
    return _exactly(parent, size) if size <= MAX_REQUEST_BYTES else None


def _exactly(parent: socket.socket, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        piece = parent.recv(size - len(data))
        if not piece:
            return None
        data += piece
    return bytes(data)


if __name__ == "__main__":
    main()
