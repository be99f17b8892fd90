"""
The refusals: ways to cheat or to ask for too much, each with what the host learns and the owner can read.

Every attempt makes its own broken input and takes down what it started. Being refused is not enough: the code
must be the one of the check that was meant to catch it, the host must see no values, and the owner both.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enclave_cc.core.catalogue import remedy_for
from enclave_cc.core.errors import EnclaveCcError
from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.demo.cri.client import CriCallError
from enclave_cc.demo.cri.host_view import HostView
from enclave_cc.demo.cri.kubelet import wait_for
from enclave_cc.demo.images.busybox import UNTOUCHED_BYTES, UNTOUCHED_FILE, pseudo_random
from enclave_cc.demo.owner.policies import SCRATCH_BYTES
from enclave_cc.demo.owner.publish import SigningKey
from enclave_cc.demo.scene.containerd_config import MODIFIED_RUNTIME_HANDLER
from enclave_cc.demo.story.impostor import ask_for_foreign_key
from enclave_cc.demo.story.report import RefusalReport
from enclave_cc.demo.story.tampering import (
    flip_byte,
    flip_stored_blob,
    largest_file,
    publish_changed_and_signed,
)
from enclave_cc.formats.rootfs_annotations import WRITABLE, WRITABLE_SIZE
from enclave_cc.formats.rootfs_options import Writable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from enclave_cc.demo.cri.kubelet import Pod, PodPlan
    from enclave_cc.demo.story.cast import Cast

# A digest, a key id or a measurement would look like this; a request id has no lower-case letters.
_VALUE: Final = re.compile(r"[0-9a-f]{16}")
_KILLED_WITHIN_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """One attempt, the code that must stop it, and the rule that the owner must find failed."""

    name: str
    expected_code: str
    expected_rule: str
    attempt: Callable[[Cast], HostView]


def flipped_byte_in_a_layer(cast: Cast) -> HostView:
    """Let the registry serve one wrong byte."""
    image = cast.tenant.publish("flipped", cast.variant("flipped"), signed_by=cast.tenant.signing_key)
    flip_stored_blob(cast.scene.paths, image.manifest.layers[-1].digest)
    return _refused_start(cast, cast.pod("flipped", image))


def flipped_byte_under_a_true_digest(cast: Cast) -> HostView:
    """Change ciphertext and have it named and signed anew: only the layer's HMAC is left to notice."""
    image = publish_changed_and_signed(cast.tenant, cast.variant("resigned"), "resigned")
    return _refused_start(cast, cast.pod("resigned", image))


def unsigned_image(cast: Cast) -> HostView:
    """Push an image without any signature."""
    image = cast.tenant.publish("unsigned", cast.variant("unsigned"), signed_by=None)
    return _refused_start(cast, cast.pod("unsigned", image))


def signature_by_another_key(cast: Cast) -> HostView:
    """Sign with a key that the owner's policy does not name."""
    image = cast.tenant.publish("other-key", cast.variant("other-key"), signed_by=SigningKey.generate())
    return _refused_start(cast, cast.pod("other-key", image))


def modified_agent(cast: Cast) -> HostView:
    """Run the genuine image with an agent whose bundle was changed on the node."""
    return _refused_start(
        cast, cast.pod("modified-agent", cast.hello, runtime_handler=MODIFIED_RUNTIME_HANDLER)
    )


def another_pods_key(cast: Cast) -> HostView:
    """Ask for a waiting key with the identity of another pod."""
    kubelet = cast.scene.kubelet()
    sandbox_id, _ = kubelet.run_sandbox(cast.pod("victim", cast.hello))
    try:
        return ask_for_foreign_key(cast, sandbox_id)
    finally:
        kubelet.remove_sandbox(sandbox_id)


def flipped_byte_on_disk(cast: Cast) -> HostView:
    """Change a byte of a running container's sealed root file system, in a file that was never read."""
    kubelet = cast.scene.kubelet()
    pod = kubelet.run(cast.pod("tampered", cast.hello))
    try:
        directory = cast.scene.paths.node / "pods" / pod.sandbox_id
        blob = largest_file(directory / "sealed")
        flip_byte(blob, blob.stat().st_size // 2)
        said = _read_untouched_file(cast, pod)
        wait_for(
            "the end of the tampered container",
            lambda: cast.scene.cri.exit_code(pod.container_id) is not None,
            within_s=_KILLED_WITHIN_S,
        )
        return said or _last_refusal(directory / "agent.log")
    finally:
        kubelet.remove_sandbox(pod.sandbox_id)


def more_than_the_owner_allows(cast: Cast) -> HostView:
    """Ask for more room on the node's disk than the owner's policy lets any pod have."""
    wishes = {WRITABLE: str(Writable.SCRATCH), WRITABLE_SIZE: str(SCRATCH_BYTES + 1)}
    return _refused_start(cast, cast.pod("greedy", cast.hello, wishes=wishes))


REFUSALS: Final = (
    Refusal(
        "a flipped byte in a layer", "layer-digest-mismatch", "image.layer.digest", flipped_byte_in_a_layer
    ),
    Refusal(
        "a flipped byte in a layer, signed anew by the owner",
        "layer-hmac-mismatch",
        "image.layer.hmac",
        flipped_byte_under_a_true_digest,
    ),
    Refusal("an unsigned image", "signature-missing", "image.signature.present", unsigned_image),
    Refusal(
        "a signature by another key",
        "signature-key-refused",
        "image.signature.key",
        signature_by_another_key,
    ),
    Refusal("a modified agent bundle", "broker-refused-resource", "sgx.mr_enclave", modified_agent),
    Refusal(
        "another pod asks for this container's key", "app-identity-refused", "CONFIGID", another_pods_key
    ),
    Refusal(
        "a flipped byte in the sealed root file system",
        "sealed-chunk-refused",
        "rootfs.chunk",
        flipped_byte_on_disk,
    ),
    Refusal(
        "a pod that asks for more scratch than the owner allows",
        "rootfs-policy-refused",
        "rootfs.size",
        more_than_the_owner_allows,
    ),
)


def attempt(cast: Cast, refusal: Refusal) -> RefusalReport:
    """Try to cheat; compare what came of it with what should have."""
    started = time.monotonic()
    try:
        host = refusal.attempt(cast)
    except EnclaveCcError as error:
        host = HostView(f"the attempt itself failed: {error.summary} {error.detail}")
    owner = owner_view(cast, host.request_id)
    return RefusalReport(
        name=refusal.name,
        expected_code=refusal.expected_code,
        host=host,
        owner=owner,
        duration_s=time.monotonic() - started,
        problems=tuple(problems(refusal, host, owner)),
    )


def owner_view(cast: Cast, request_id: str) -> tuple[Finding, ...]:
    """Ask the broker, as `enclave-cc explain` does."""
    if not request_id:
        return ()
    with cast.scene.admin() as admin:
        findings = admin.explain(request_id).get("findings")
    return tuple(map(Finding.from_json, findings)) if isinstance(findings, list) else ()


def problems(refusal: Refusal, host: HostView, owner: tuple[Finding, ...]) -> list[str]:
    """Say everything that is not as it should be; empty means refused for the right reason."""
    found = []
    if host.code != refusal.expected_code:
        found.append(f"expected {refusal.expected_code}, seen {host.code or host.summary}")
    if _VALUE.search(f"{host.summary} {host.remedy}"):
        found.append("the host's line holds a value")
    failed = {finding.rule: finding for finding in owner if finding.outcome is Outcome.FAILED}
    rule = failed.get(refusal.expected_rule)
    if rule is None:
        found.append(f"the owner sees {sorted(failed) or 'nothing'} failed, not {refusal.expected_rule}")
    elif not (rule.expected and rule.actual):
        found.append(f"the owner's finding {rule.rule} lacks one of its values")
    return found


def _refused_start(cast: Cast, plan: PodPlan) -> HostView:
    """Do as the kubelet does, expecting an error; nothing of the pod stays."""
    kubelet = cast.scene.kubelet()
    try:
        pod = kubelet.run(plan)
    except CriCallError as error:
        return error.host
    kubelet.remove(pod)
    return HostView("the container was started")


def _read_untouched_file(cast: Cast, pod: Pod) -> HostView | None:
    """Read what was never read; None if the read failed after nothing but true data."""
    try:
        code, data, errors = cast.scene.cri.exec_sync(pod.container_id, "cat", f"/{UNTOUCHED_FILE}")
    except CriCallError:
        # The container may be gone before the command's own end is noticed.
        return None
    true = pseudo_random(UNTOUCHED_BYTES, seed=cast.tenant.marker)
    if not true.startswith(data):
        return HostView("the workload read wrong data")
    if code == 0 or len(data) == len(true):
        return HostView(f"the workload read everything, exit code {code}: {errors[:200]!r}")
    return None


def _last_refusal(agent_log: Path) -> HostView:
    """Find the refusal in the agent's log, where the host reads of what happens after the start."""
    for line in reversed(agent_log.read_text().splitlines()):
        event = json.loads(line) if line.startswith("{") else {}
        if event.get("event") == "refused":
            return HostView(
                "the container was killed",
                code=str(event.get("code")),
                stage=str(event.get("stage")),
                request_id=str(event.get("request")),
                remedy=remedy_for(str(event.get("code"))),
            )
    return HostView("the agent's log tells of no refusal")
