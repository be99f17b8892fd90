"""Progress in the log: a line per stage and one every few seconds, however often somebody looks."""

from __future__ import annotations

import io
import json

from enclave_cc.core.errors import Stage
from enclave_cc.enclave.agent.event_log import EventLog
from enclave_cc.enclave.agent.prepare import PrepareRequest
from enclave_cc.enclave.agent.progress_log import EVERY_S, ProgressLog
from enclave_cc.image.layers.progress import Progress

REQUEST = PrepareRequest("c1", "registry.example/team/secret-name:1", "", b"{}", "r1")


def test_lines_come_with_stages_and_with_time():
    stream, progress, now = io.StringIO(), Progress(), [0.0]
    log = ProgressLog(EventLog(stream, clock=lambda: 0.0), REQUEST, progress, clock=lambda: now[0])
    progress.enter(Stage.FETCH)
    (layer,) = progress.expect([1000])
    for _ in range(3):
        log.look()
    layer.arrived_bytes = 400
    now[0] = EVERY_S - 0.1
    log.look()
    now[0] = EVERY_S + 0.1
    log.look()
    progress.enter(Stage.SEAL)
    log.look()
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["stage"], line["arrived_bytes"]) for line in lines] == [
        ("fetch", 0),
        ("fetch", 400),
        ("seal", 400),
    ]
    assert lines[1] == {
        "event": "progress",
        "unix_ms": 0,
        "request": "r1",
        "container": "c1",
        "stage": "fetch",
        "layers": 1,
        "finished_layers": 0,
        "reused_layers": 0,
        "arrived_bytes": 400,
        "total_bytes": 1000,
    }
    assert "secret-name" not in stream.getvalue()
