import threading

import pytest

from enclave_cc.tenant.work import StoppedError, Work


class Recorder:
    def __init__(self):
        self.events = []

    def begin(self, task, total_bytes):
        self.events.append(("begin", task, total_bytes))

    def advance(self, task, moved_bytes):
        self.events.append(("advance", task, moved_bytes))

    def end(self, task):
        self.events.append(("end", task))


def test_a_stream_is_reported_while_it_passes():
    recorder = Recorder()
    assert list(Work(recorder).stream("a", [b"12", b"3"], 3)) == [b"12", b"3"]
    assert recorder.events == [("begin", "a", 3), ("advance", "a", 2), ("advance", "a", 1), ("end", "a")]


def test_results_keep_the_order_of_the_items():
    assert Work(threads=3).each(lambda number: number * 2, [3, 1, 2]) == [6, 2, 4]
    assert Work().each(str, []) == []


def test_the_first_failure_stops_the_other_streams():
    work, running = Work(threads=2), threading.Event()

    def endless():
        while True:
            running.set()
            yield b"x"

    def task(name):
        if name == "fails":
            running.wait(10)
            raise ValueError(name)
        for _ in work.stream(name, endless(), None):
            pass

    with pytest.raises(ValueError, match="fails"):
        work.each(task, ["endless", "fails", "never begun"])
    with pytest.raises(StoppedError):
        work.require_going()


def test_work_that_was_given_up_does_not_go_on():
    work = Work()
    work.stop()
    with pytest.raises(StoppedError):
        work.each(str, [1])
    with pytest.raises(StoppedError):
        list(work.stream("a", [b"x"], 1))
