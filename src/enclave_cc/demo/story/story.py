"""
The story from an empty machine to the last refusal, and the machine empty again.

Order and timing only: what each step does stands in `scene`, `cast`, `acts` and `refusals`.
"""

from __future__ import annotations

import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import EnclaveCcError
from enclave_cc.demo.owner.publish import Tenant
from enclave_cc.demo.scene.paths import SCENES
from enclave_cc.demo.scene.requirements import require_all
from enclave_cc.demo.scene.scene import Scene
from enclave_cc.demo.scene.sweep import leftovers
from enclave_cc.demo.story import acts
from enclave_cc.demo.story.cast import WRITABLE_WISHES, build_images, publish
from enclave_cc.demo.story.refusals import REFUSALS, attempt
from enclave_cc.demo.story.report import DemoReport, RefusalReport, StageReport

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from enclave_cc.demo.cri.kubelet import Pod, PodPlan
    from enclave_cc.demo.story.cast import Cast
from enclave_cc.demo.story.report import Reporter

_MAX_NOTE_CHARS: Final = 2000


def run_demo(reporter: Reporter, *, keep: bool = False, directory: Path | None = None) -> DemoReport:
    """
    Play the whole story below `directory`; the report says whether all went as it must.

    With `keep` everything is left running while the reporter shows how to look around. Raises
    UnavailableError (requirement-missing) before anything is started on a machine that cannot do it.
    """
    require_all()
    story = _Story(reporter)
    scene = Scene(directory or SCENES)
    story.tell(scene, keep=keep)
    return story.report()


class _StoryEndedError(Exception):
    """A stage failed; its report is written, and nothing after it makes sense."""


class _Story:
    """Collects reports while the stages run."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._stages: list[StageReport] = []
        self._refusals: list[RefusalReport] = []
        self._look_around: tuple[str, ...] = ()

    def report(self) -> DemoReport:
        """Return what happened so far."""
        return DemoReport(tuple(self._stages), tuple(self._refusals), self._look_around)

    def tell(self, scene: Scene, *, keep: bool) -> None:
        """Play all stages; the last one, taking everything down, is always played."""
        try:
            self._play(scene, keep=keep)
        except _StoryEndedError:
            if keep:
                self._reporter.kept(look_around(scene))
        finally:
            with suppress(_StoryEndedError):
                self._take_down(scene)

    def _play(self, scene: Scene, *, keep: bool) -> None:
        with self._stage("check the machine"):
            scene.prepare()
        with self._stage("build bundles; start registry, simulated SGX and broker"):
            scene.start_trusted()
        cast = self._publish(scene)
        with self._stage("start snapshotter, node daemon and containerd"):
            scene.start_node()
        self._successes(cast)
        self._be_refused(cast)
        if keep:
            # The story's own pods are gone by now; somebody who looks around wants running ones.
            self._start("small image, kept", cast, cast.pod("hello-kept", cast.hello))
            self._start("server, kept", cast, cast.pod("server-kept", cast.server))
            self._look_around = look_around(scene)
            self._reporter.kept(self._look_around)

    def _publish(self, scene: Scene) -> Cast:
        with self._stage("owner: build a small image and a real server") as notes:
            tenant = Tenant(scene.paths.tenant, scene.registry)
            plain = build_images(scene, tenant)
        with self._stage("owner: encrypt, sign, push, instruct the broker") as notes:
            cast = publish(scene, tenant, plain)
            notes += [
                cast.hello.reference,
                cast.server.reference,
                f"agent's reference value {cast.measurement}",
            ]
        return cast

    def _successes(self, cast: Cast) -> None:
        before = leftovers(cast.scene.paths)
        hello = self._start("small image", cast, cast.pod("hello", cast.hello, wishes=WRITABLE_WISHES))
        with self._stage("small image: container log") as notes:
            notes.extend(acts.read_log(cast, hello))
        with self._stage("small image: ExecSync") as notes:
            notes.extend(acts.run_command(cast, hello))
        with self._stage("small image: its writable layer, as the pod asked for it") as notes:
            notes.extend(acts.fill(cast, hello))
        server = self._start("server", cast, cast.pod("server", cast.server))
        with self._stage("server: a client talks to it") as notes:
            notes.extend(acts.talk_to_server(cast, server))
        with self._stage("search the host for layers and plaintext") as notes:
            notes.extend(acts.search(cast))
        with self._stage("StopPodSandbox, RemovePodSandbox") as notes:
            notes.extend(acts.take_down(cast, (hello, server), before))

    def _start(self, who: str, cast: Cast, plan: PodPlan) -> Pod:
        """Do one CRI call per stage, as the kubelet does."""
        kubelet = cast.scene.kubelet()
        with self._stage(f"{who}: RunPodSandbox"):
            sandbox_id, config = kubelet.run_sandbox(plan)
        with self._stage(f"{who}: PullImage"):
            kubelet.pull(plan, config)
        with self._stage(f"{who}: CreateContainer"):
            pod = kubelet.create(plan, sandbox_id, config)
        with self._stage(f"{who}: StartContainer"):
            kubelet.start(pod)
        return pod

    def _be_refused(self, cast: Cast) -> None:
        for refusal in REFUSALS:
            before = leftovers(cast.scene.paths)
            self._reporter.stage_started(f"refusal: {refusal.name}")
            report = attempt(cast, refusal)
            self._refusals.append(report)
            self._reporter.refusal_ended(report)
            with self._stage(f"nothing is left of: {refusal.name}"):
                acts.wait_until_gone(cast, before)

    def _take_down(self, scene: Scene) -> None:
        with self._stage("take everything down") as notes:
            scene.stop()
            acts.require(acts.nothing_left(leftovers(scene.paths)))
            notes.append(f"{scene.paths.root} is gone")

    @contextmanager
    def _stage(self, name: str) -> Iterator[list[str]]:
        """Time a stage; an expected kind of error ends the story, with its words in the report."""
        self._reporter.stage_started(name)
        started = time.monotonic()
        notes: list[str] = []
        try:
            yield notes
        except EnclaveCcError as error:
            words = f"{error.summary} [{error.code}] {error.detail}".strip()[:_MAX_NOTE_CHARS]
            self._end(StageReport(name, time.monotonic() - started, ok=False, notes=(words, error.remedy)))
            raise _StoryEndedError from error
        self._end(StageReport(name, time.monotonic() - started, ok=True, notes=tuple(notes)))

    def _end(self, stage: StageReport) -> None:
        self._stages.append(stage)
        self._reporter.stage_ended(stage)


def look_around(scene: Scene) -> tuple[str, ...]:
    """Say how a person looks at what runs."""
    return (
        f"directory: {scene.paths.root} (logs in {scene.paths.logs})",
        f"CRI: crictl --runtime-endpoint unix://{scene.paths.containerd_socket} pods",
        f"registry: http://{scene.registry}/v2/_catalog",
        f"why was a request refused: enclave-cc explain REQUEST-ID --admin {scene.admin_file}",
        f"what does the broker hold: enclave-cc secret list --admin {scene.admin_file}",
    )
