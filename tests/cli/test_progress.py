import io
import json

import pytest

from enclave_cc.cli.progress import Bars, JsonLines, Lines, ProgressForm, showing


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_line_comes_every_ten_seconds():
    clock, out = Clock(), io.StringIO()
    lines = Lines(out, clock=clock)
    lines.begin("a", 20_000_000)
    for _ in range(25):
        clock.now += 1
        lines.advance("a", 500_000)
    lines.end("a")
    told = out.getvalue().splitlines()
    assert len(told) == 2
    assert told[0] == "0 of 1 layers done, 5.0 of 20.0 MB, 0.5 MB/s"


def test_json_names_streams_and_sums_up():
    clock, out = Clock(), io.StringIO()
    lines = JsonLines(out, clock=clock)
    lines.begin("a", None)
    clock.now = 1
    lines.advance("a", 7)
    lines.advance("a", 7)
    lines.end("a")
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [event["event"] for event in events] == ["begin", "advance", "end"]
    assert events[1]["moved_bytes"] == 7


@pytest.mark.parametrize(("terminal", "kind"), [(True, Bars), (False, Lines)])
def test_bars_are_for_terminals(terminal, kind):
    class Terminal(io.StringIO):
        def isatty(self):
            return terminal

    out = Terminal()
    with showing(ProgressForm.AUTO, out) as renderer:
        assert isinstance(renderer, kind)
        renderer.begin("sha256:abc", 100)
        renderer.advance("sha256:abc", 100)
        renderer.end("sha256:abc")


def test_nothing_is_shown_when_nobody_wants_it():
    out = io.StringIO()
    with showing(ProgressForm.NONE, out) as renderer:
        assert renderer is None
