"""One preparation per container id, whoever asks how often; failures leave room for another try."""

from __future__ import annotations

import threading

import pytest

from enclave_cc.core.errors import InternalError, InvalidInputError, RefusedError, Stage, UnavailableError
from enclave_cc.enclave.agent.prepare import Preparations, Prepared, PrepareRequest
from enclave_cc.formats.launch import LaunchConfiguration

LAUNCH = LaunchConfiguration(("/bin/x",), (), "/", "", "sha256:aa")


def request(container="c1", image="registry.example/app:v1", request_id="r1", spec=b"{}"):
    return PrepareRequest(container, image, "", spec, request_id)


class Pipeline:
    """Counts, waits for the gate, and fails on request."""

    def __init__(self):
        self.calls = []
        self.courses = []
        self.gate = threading.Event()
        self.gate.set()
        self.error = None
        self.entered = threading.Event()

    def __call__(self, wanted, course):
        self.calls.append(wanted)
        self.courses.append(course)
        self.entered.set()
        assert self.gate.wait(10)
        if self.error is not None:
            raise self.error
        return Prepared("sha256:aa", "directory", "key", LAUNCH)


@pytest.fixture
def pipeline():
    return Pipeline()


@pytest.fixture
def forgotten():
    return []


@pytest.fixture
def preparations(pipeline, forgotten):
    return Preparations(
        pipeline, forget=lambda name, prepared: forgotten.append((name, prepared)), max_containers=3
    )


def test_a_repetition_returns_the_first_result(preparations, pipeline):
    first = preparations.prepare(request())
    assert preparations.prepare(request(request_id="r2")) is first
    assert len(pipeline.calls) == 1


def test_a_repetition_joins_what_is_under_way(preparations, pipeline):
    pipeline.gate.clear()
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(preparations.prepare(request()))) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    assert pipeline.entered.wait(10)
    pipeline.gate.set()
    for thread in threads:
        thread.join(10)
    assert len(results) == 5
    assert len(pipeline.calls) == 1


@pytest.mark.parametrize("changes", [{"image": "registry.example/other"}, {"spec": b"{} "}])
def test_other_arguments_for_the_same_id_are_refused(preparations, changes):
    preparations.prepare(request())
    with pytest.raises(RefusedError) as caught:
        preparations.prepare(request(**changes))
    assert caught.value.code == "container-already-prepared"


def test_after_a_failure_the_next_try_starts_afresh(preparations, pipeline):
    pipeline.error = UnavailableError("broker-unavailable", "gone", stage=Stage.BROKER)
    with pytest.raises(UnavailableError):
        preparations.prepare(request())
    pipeline.error = None
    assert preparations.prepare(request()).sealed_image == "directory"


def test_a_fault_of_our_own_is_told_without_its_text(preparations, pipeline):
    pipeline.error = ZeroDivisionError("secret")
    with pytest.raises(InternalError) as caught:
        preparations.prepare(request())
    assert "secret" not in str(caught.value)


def test_too_many_containers_are_refused(preparations):
    for number in range(3):
        preparations.prepare(request(f"c{number}"))
    with pytest.raises(RefusedError) as caught:
        preparations.prepare(request("c4"))
    assert caught.value.code == "too-many-containers"


def test_discarding_makes_room_and_forgets(preparations, forgotten):
    for number in range(3):
        preparations.prepare(request(f"c{number}"))
    preparations.discard("c0")
    preparations.discard("unknown")
    assert [name for name, _ in forgotten] == ["c0"]
    preparations.prepare(request("c4"))


def test_discarding_what_is_under_way_forgets_it_at_its_end(preparations, pipeline, forgotten):
    pipeline.gate.clear()
    thread = threading.Thread(target=preparations.prepare, args=(request(),))
    thread.start()
    assert pipeline.entered.wait(10)
    preparations.discard("c1")
    assert forgotten == []
    pipeline.gate.set()
    thread.join(10)
    assert [name for name, _ in forgotten] == ["c1"]


@pytest.mark.parametrize("container", ["", "../x", "a/b", "x" * 129, "a\nb", ".hidden"])
def test_malformed_container_ids_are_refused(preparations, pipeline, container):
    with pytest.raises(InvalidInputError):
        preparations.prepare(request(container))
    assert pipeline.calls == []


@pytest.mark.parametrize("image", ["", "x" * 1025])
def test_images_of_no_possible_length_are_refused(preparations, image):
    with pytest.raises(InvalidInputError):
        preparations.prepare(request(image=image))


def test_only_prepared_containers_have_a_launch(preparations):
    with pytest.raises(InvalidInputError) as caught:
        preparations.launch_of("c1")
    assert caught.value.code == "container-unknown"
    preparations.prepare(request())
    assert preparations.launch_of("c1") is LAUNCH


def test_a_discarded_container_is_not_prepared_again_before_its_end(preparations, pipeline, forgotten):
    pipeline.gate.clear()
    thread = threading.Thread(target=preparations.prepare, args=(request(),))
    thread.start()
    assert pipeline.entered.wait(10)
    preparations.discard("c1")
    preparations.discard("c1")
    with pytest.raises(RefusedError) as caught:
        preparations.prepare(request())
    assert caught.value.code == "container-already-prepared"
    pipeline.gate.set()
    thread.join(10)
    assert len(forgotten) == 1
    assert preparations.prepare(request()).key_id == "key"


def test_discarding_what_is_under_way_makes_no_room_before_its_end(pipeline):
    preparations = Preparations(pipeline, forget=lambda *_: None, max_containers=2)
    pipeline.gate.clear()
    threads = []
    for number in range(2):
        threads.append(threading.Thread(target=preparations.prepare, args=(request(f"c{number}"),)))
        threads[-1].start()
    assert pipeline.entered.wait(10)
    while len(pipeline.calls) < 2:
        threading.Event().wait(0.01)
    for number in range(2):
        preparations.discard(f"c{number}")
    with pytest.raises(RefusedError) as caught:
        preparations.prepare(request("c4"))
    assert caught.value.code == "too-many-containers"
    pipeline.gate.set()
    for thread in threads:
        thread.join(10)
    assert preparations.prepare(request("c4"))


def test_discarding_cancels_what_is_under_way_and_tells_its_callers(preparations, pipeline, forgotten):
    pipeline.gate.clear()
    pipeline.error = UnavailableError("cancelled", "not wanted", stage=Stage.FETCH)
    result = preparations.join(request())
    assert pipeline.entered.wait(10)
    assert list(preparations.under_way()) == ["c1"]
    assert not pipeline.courses[0].cancellation.is_set()
    preparations.discard("c1")
    assert pipeline.courses[0].cancellation.is_set()
    pipeline.gate.set()
    with pytest.raises(UnavailableError):
        result.result(10)
    assert preparations.under_way() == {}
    assert forgotten == []
    pipeline.error = None
    assert preparations.prepare(request()).key_id == "key"


def test_a_caller_that_goes_away_cancels_nothing(preparations, pipeline):
    pipeline.gate.clear()
    preparations.join(request())
    assert pipeline.entered.wait(10)
    pipeline.gate.set()
    assert preparations.prepare(request()).key_id == "key"
    assert not pipeline.courses[0].cancellation.is_set()


def test_what_waits_for_its_turn_is_cancelled_without_having_one(preparations, pipeline):
    pipeline.gate.clear()
    for number in range(2):
        preparations.join(request(f"c{number}"))
    while len(pipeline.calls) < 2:
        threading.Event().wait(0.01)
    waiting = preparations.join(request("c2"))
    preparations.discard("c2")
    with pytest.raises(UnavailableError) as caught:
        waiting.result(10)
    assert caught.value.code == "cancelled"
    pipeline.gate.set()
    assert len(pipeline.calls) == 2


def test_the_end_of_the_agent_discards_everything_and_waits(preparations, pipeline, forgotten):
    preparations.prepare(request("c0"))
    pipeline.gate.clear()
    pipeline.entered.clear()
    preparations.join(request("c1"))
    assert pipeline.entered.wait(10)
    threading.Timer(0.1, pipeline.gate.set).start()
    preparations.close()
    assert sorted(name for name, _ in forgotten) == ["c0", "c1"]
    assert not [thread for thread in threading.enumerate() if thread.name == "prepare"]


def test_a_discarded_container_has_no_launch(preparations, pipeline):
    preparations.prepare(request())
    preparations.discard("c1")
    with pytest.raises(InvalidInputError):
        preparations.launch_of("c1")


def test_a_thread_that_cannot_start_leaves_nothing_behind(preparations, monkeypatch):
    def fail(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError):
            preparations.prepare(request())
    assert preparations.prepare(request()).key_id == "key"
