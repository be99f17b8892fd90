"""
Merge the host's process specification with the image's configuration, under the owner's policy.

The order of belief: the image says what runs; the owner says where the host may differ; the host's
specification is a wish. Every rule leaves a finding with both values, also when no owner set rules.
This module decides and does nothing else.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, Protocol

from enclave_cc.core.errors import Stage
from enclave_cc.core.findings import Finding, Outcome, equal
from enclave_cc.core.verdict import Verdict
from enclave_cc.enclave.agent.mount_policy import mount_findings, usual_mounts
from enclave_cc.formats.launch import ApprovedMount, LaunchConfiguration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from enclave_cc.formats.oci.runtime_spec import RuntimeSpec, SpecProcess
    from enclave_cc.formats.owner.settings import WorkloadPolicy

# containerd adds these two where image and pod say nothing: a default path, and the kind of a terminal.
DEFAULT_PATH: Final = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TERMINAL: Final = "TERM=xterm"

# What every kubelet adds: the pod's name, and names per service (Kubernetes, "Discovering services").
_KUBELET_ENV: Final = re.compile(
    r"HOSTNAME"
    r"|KUBERNETES_[A-Z0-9_]+"
    r"|[A-Z_][A-Z0-9_]*_SERVICE_(?:HOST|PORT(?:_[A-Z0-9_]+)?)"
    r"|[A-Z_][A-Z0-9_]*_PORT(?:_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)?"
)
# Addresses, ports and host names; a longer value is none of them.
_MAX_KUBELET_VALUE_CHARS: Final = 512
# User ids have 32 bits.
_MAX_ID_DIGITS: Final = 10


class ImageProcess(Protocol):
    """What an image says about its process."""

    @property
    def entrypoint(self) -> tuple[str, ...]:
        """First part of the command."""
        ...

    @property
    def cmd(self) -> tuple[str, ...]:
        """Second part of the command."""
        ...

    @property
    def env(self) -> tuple[str, ...]:
        """Environment."""
        ...

    @property
    def user(self) -> str:
        """User, in the image's syntax."""
        ...

    @property
    def working_dir(self) -> str:
        """Directory to start in, empty for the root."""
        ...


def approve_launch(
    spec: RuntimeSpec, image: ImageProcess, policy: WorkloadPolicy, *, image_digest: str
) -> tuple[LaunchConfiguration, tuple[Finding, ...]]:
    """
    Return the configuration and all findings; raise ``RefusedError`` (``launch-policy-refused``).

    Without an owner's policy the host's arguments, environment, directory, user and mounts are taken as
    they are.
    """
    findings = (
        _args_finding(spec.process.args, image, policy),
        *_env_findings(spec.process, image, policy),
        _cwd_finding(spec.process.cwd, image, policy),
        _user_finding(spec.process, image, policy),
        *mount_findings(spec.mounts, policy),
    )
    _require(findings)
    free = policy.insecure_unrestricted
    configuration = LaunchConfiguration(
        args=spec.process.args,
        env=_merged_env(spec.process, image),
        cwd=spec.process.cwd if free else image.working_dir or "/",
        user=f"{spec.process.uid}:{spec.process.gid}" if free else image.user,
        image_digest=image_digest,
        exec_allowed=policy.exec,
        mounts=tuple(ApprovedMount(mount.destination, mount.kind) for mount in spec.mounts),
    )
    return configuration, findings


def launch_as_built(image: ImageProcess, policy: WorkloadPolicy, *, image_digest: str) -> LaunchConfiguration:
    """
    Return the configuration of an image that is pulled before anybody specified a container.

    Its own command needs the owner's consent too: raise ``RefusedError`` (``launch-policy-refused``).
    """
    args = (*image.entrypoint, *image.cmd)
    _require((_args_finding(args, image, policy),))
    return LaunchConfiguration(
        args=args,
        env=image.env,
        cwd=image.working_dir or "/",
        user=image.user,
        image_digest=image_digest,
        exec_allowed=policy.exec,
        mounts=usual_mounts(),
    )


def _require(findings: tuple[Finding, ...]) -> None:
    Verdict(findings).require(
        "launch-policy-refused",
        "the owner's policy refuses how the container would start",
        stage=Stage.LAUNCH,
    )


def _args_finding(args: tuple[str, ...], image: ImageProcess, policy: WorkloadPolicy) -> Finding:
    remedy = "use the image's own command, or allow this one in [workload] args"
    actual = _words(args)
    if not args:
        return Finding("launch.args", Outcome.FAILED, "a command", "(none)", remedy)
    if policy.args == "any":
        return Finding("launch.args", Outcome.PASSED, "any", actual)
    if policy.args == "image":
        return equal(
            "launch.args", expected=_words((*image.entrypoint, *image.cmd)), actual=actual, remedy=remedy
        )
    outcome = Outcome.PASSED if args in policy.args else Outcome.FAILED
    return Finding("launch.args", outcome, " or ".join(map(_words, policy.args)), actual, remedy)


def _env_findings(process: SpecProcess, image: ImageProcess, policy: WorkloadPolicy) -> Iterator[Finding]:
    """Judge every entry of the host that is not literally the image's; one finding covers those that are."""
    own = dict(map(_split, image.env))
    same = 0
    for entry in process.env:
        name, value = _split(entry)
        if own.get(name) == value and name:
            same += 1
        else:
            yield _env_finding(entry, own.get(name), process, policy)
    yield Finding("launch.env", Outcome.PASSED, f"{len(own)} of the image", f"{same} of the image")


def _env_finding(entry: str, of_image: str | None, process: SpecProcess, policy: WorkloadPolicy) -> Finding:
    name, value = _split(entry)
    rule = "launch.env"
    if name and any(fnmatchcase(name, pattern) for pattern in policy.env):
        return Finding(rule, Outcome.PASSED, "allowed by the owner", entry)
    if of_image is None and _is_of_the_platform(entry, name, value, process):
        return Finding(rule, Outcome.PASSED, "added by the platform", entry)
    expected = "not present" if of_image is None else f"{name}={of_image}"
    return Finding(
        rule, Outcome.FAILED, expected, entry, "allow the name in [workload] env, or remove it from the pod"
    )


def _is_of_the_platform(entry: str, name: str, value: str, process: SpecProcess) -> bool:
    if entry == DEFAULT_PATH or (entry == TERMINAL and process.terminal):
        return True
    return _KUBELET_ENV.fullmatch(name) is not None and len(value) <= _MAX_KUBELET_VALUE_CHARS


def _merged_env(process: SpecProcess, image: ImageProcess) -> tuple[str, ...]:
    """Start from the image, so that the host cannot drop a variable; its accepted entries come on top."""
    merged = dict(map(_split, image.env))
    merged.update(map(_split, process.env))
    return tuple(f"{name}={value}" for name, value in merged.items())


def _cwd_finding(cwd: str, image: ImageProcess, policy: WorkloadPolicy) -> Finding:
    if policy.insecure_unrestricted:
        return Finding("launch.cwd", Outcome.PASSED, "any", cwd)
    remedy = "remove workingDir from the container's specification"
    return equal("launch.cwd", expected=image.working_dir or "/", actual=cwd, remedy=remedy)


def _user_finding(process: SpecProcess, image: ImageProcess, policy: WorkloadPolicy) -> Finding:
    """
    Compare users where the host can know the image's: numbers.

    The host resolves a *name* without the image's files, so its guess means nothing; the app enclave
    resolves it.
    """
    actual = str(process.uid)
    if policy.insecure_unrestricted:
        return Finding("launch.user", Outcome.PASSED, "any", actual)
    name = image.user.partition(":")[0] or "0"
    if not name.isdecimal() or len(name) > _MAX_ID_DIGITS:
        return Finding("launch.user", Outcome.SKIPPED, image.user, actual, "resolved inside the app enclave")
    remedy = "remove runAsUser from the pod, or set the user in the image"
    return equal("launch.user", expected=str(int(name)), actual=actual, remedy=remedy)


def _split(entry: str) -> tuple[str, str]:
    name, _, value = entry.partition("=")
    return name, value


def _words(args: tuple[str, ...]) -> str:
    return " ".join(map(repr, args)) or "(none)"
