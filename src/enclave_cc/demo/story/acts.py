"""
The successes of the story, one function each: do a step, compare what came of it, return notes for people.

A comparison that fails raises RefusedError(demo-check-failed) with both values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import Stage
from enclave_cc.core.findings import Finding, Outcome, equal
from enclave_cc.core.verdict import Verdict
from enclave_cc.demo.cri.kubelet import wait_for
from enclave_cc.demo.images import busybox, debian
from enclave_cc.demo.scene.sweep import leftovers
from enclave_cc.demo.story import redis_client
from enclave_cc.demo.story.cast import WRITABLE_MIB, WRITABLE_WISHES
from enclave_cc.demo.story.checks import search_host

if TYPE_CHECKING:
    from enclave_cc.demo.cri.kubelet import Pod
    from enclave_cc.demo.scene.sweep import Leftovers
    from enclave_cc.demo.story.cast import Cast

_LOG_WITHIN_S: Final = 10.0
_SERVER_WITHIN_S: Final = 30.0
_FILL: Final = "/tmp/fill"  # noqa: S108  # inside the container
_LEAST_PART: Final = 0.8


def require(*findings: Finding) -> None:
    """Raise unless all hold; the words have both values of what does not."""
    verdict = Verdict(findings)
    shown = "; ".join(
        f"{finding.rule}: expected {finding.expected!r}, seen {finding.actual!r}"
        for finding in verdict.failed
    )
    verdict.require("demo-check-failed", f"a check of the demo failed: {shown}", stage=Stage.RUN)


def read_log(cast: Cast, pod: Pod) -> tuple[str, ...]:
    """Wait for the workload's first line, which tells its environment, user and directory."""
    wait_for("the container's first line", lambda: bool(_log_of(pod)), within_s=_LOG_WITHIN_S)
    said = _log_of(pod)[0]
    wanted = (
        f"greeting: {busybox.GREETING}; uid: {busybox.NOBODY}; directory: /srv/data; {cast.tenant.marker}"
    )
    require(
        equal("the image's own entrypoint, environment, user and directory", expected=wanted, actual=said)
    )
    return (f"log: {said}",)


def run_command(cast: Cast, pod: Pod) -> tuple[str, ...]:
    """ExecSync: the owner's policy allows it, and the process runs where the workload does."""
    code, output, errors = cast.scene.cri.exec_sync(pod.container_id, "cat", f"/{busybox.MARKER_FILE}")
    require(
        equal("exit code", expected="0", actual=f"{code}{errors.decode(errors='replace')}"),
        equal("the file inside", expected=cast.tenant.marker, actual=output.decode(errors="replace").strip()),
    )
    return (f"exec: cat /{busybox.MARKER_FILE}: {output.decode().strip()}",)


def fill(cast: Cast, pod: Pod) -> tuple[str, ...]:
    """Write more than the pod asked for: the program hears of the end of its space, as on any disk."""
    script = f"df -k /; dd if=/dev/zero of={_FILL} bs=1M count={2 * WRITABLE_MIB}; rm {_FILL}"
    _, output, errors = cast.scene.cri.exec_sync(pod.container_id, "sh", "-c", script)
    size_mib = int(output.splitlines()[-1].split()[1]) >> 10
    said = errors.decode(errors="replace").partition("\n")[0]
    full = "No space left on device"
    require(
        _holds("the end of the writable layer", full in said, expected=full, actual=said),
        _holds(
            "its size",
            # A file system on disk takes a part for its own tables.
            _LEAST_PART * WRITABLE_MIB <= size_mib <= WRITABLE_MIB,
            expected=f"{WRITABLE_MIB} MiB",
            actual=f"{size_mib} MiB",
        ),
    )
    wishes = ", ".join(f"{name}: {value}" for name, value in WRITABLE_WISHES.items())
    return (f"asked for {wishes}", f"got {size_mib} MiB; then {said}")


def talk_to_server(cast: Cast, pod: Pod) -> tuple[str, ...]:
    """Ask the server over the pod's network for what lay in an encrypted layer."""
    port = cast.scene.ports.server
    wait_for("the server's first answer", lambda: redis_client.answers(port), within_s=_SERVER_WITHIN_S)
    value = redis_client.ask(port, "GET", debian.GREETING_KEY)
    require(equal("data of the encrypted image", expected=cast.tenant.marker, actual=value))
    redis_client.ask(port, "SET", "written", "yes")
    require(
        equal("data written at run time", expected="yes", actual=redis_client.ask(port, "GET", "written"))
    )
    version = redis_client.ask(port, "INFO", "server")
    line = next((line for line in version.splitlines() if line.startswith("redis_version")), "")
    return (f"GET {debian.GREETING_KEY}: {value}", line.replace(":", " "), *_removed_file(cast, pod))


def search(cast: Cast) -> tuple[str, ...]:
    """Search the host for layers and plaintext while both pods run."""
    images = (cast.hello, cast.server)
    found = search_host(
        cast.scene.paths,
        layers={layer for image in images for layer in image.layers},
        needles={needle for image in images for needle in image.plaintext},
    )
    require(*found.findings)
    return tuple(f"{finding.rule}: {finding.actual}" for finding in found.findings)


def take_down(cast: Cast, pods: tuple[Pod, ...], before: Leftovers) -> tuple[str, ...]:
    """StopContainer, StopPodSandbox, RemovePodSandbox; then count what stayed."""
    kubelet = cast.scene.kubelet()
    for pod in pods:
        kubelet.remove(pod)
    wait_until_gone(cast, before)
    return ("no process, mount, control group or directory of the pods is left",)


def wait_until_gone(cast: Cast, before: Leftovers) -> None:
    """Wait a moment for what is on its way out, then require that nothing is left."""
    try:
        wait_for("the end", lambda: not leftovers(cast.scene.paths).beyond(before), within_s=_LOG_WITHIN_S)
    finally:
        require(nothing_left(leftovers(cast.scene.paths).beyond(before)))


def nothing_left(found: Leftovers) -> Finding:
    """Say what is left, if anything."""
    outcome = Outcome.FAILED if found else Outcome.PASSED
    return Finding("nothing is left", outcome, expected="nothing", actual=str(found) if found else "nothing")


def _removed_file(cast: Cast, pod: Pod) -> tuple[str, ...]:
    """Look for a file that a whiteout removed, with a tool that the image has."""
    _, output, errors = cast.scene.cri.exec_sync(
        pod.container_id, "/usr/bin/redis-check-aof", f"/{debian.REMOVED_FILE}"
    )
    said = (output + errors).decode(errors="replace").strip()
    rule = "a file that an upper layer removed"
    outcome = Outcome.PASSED if "No such file" in said else Outcome.FAILED
    require(Finding(rule, outcome, expected="No such file or directory", actual=said))
    return (f"/{debian.REMOVED_FILE}: removed by a whiteout, not seen",)


def _holds(rule: str, holds: bool, *, expected: str, actual: str) -> Finding:  # noqa: FBT001  # the condition itself
    return Finding(rule, Outcome.PASSED if holds else Outcome.FAILED, expected, actual)


def _log_of(pod: Pod) -> list[str]:
    """Lines of the CRI log without time, stream and tag."""
    try:
        lines = pod.log.read_text().splitlines()
    except FileNotFoundError:
        return []
    return [line.split(" ", 3)[3] for line in lines if line.count(" ") >= 3]  # noqa: PLR2004 - three words come first
