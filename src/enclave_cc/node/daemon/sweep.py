"""
Removes, when the daemon starts, the pods whose shims are dead.

containerd calls the shim's ``delete`` for pods that it remembers. After a reboot it remembers none, while
their sealed images lie on a disk that survived; after a crash of both, nobody else would look. A pod that
lives is known by its lock and left alone.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from enclave_cc.node.shim.pod import PodDirectory
from enclave_cc.node.shim.remains import remove_if_dead
from enclave_cc.node.shim.settings import Settings

if TYPE_CHECKING:
    from enclave_cc.node.config import NodeConfig

_LOG: Final = logging.getLogger(__name__)


def sweep(config: NodeConfig) -> None:
    """Remove every dead pod; one that resists is logged, and the next start tries again."""
    settings = Settings.of(config)
    try:
        names = sorted(entry.name for entry in (config.state / "pods").iterdir())
    except OSError:
        # No pod was ever made here.
        return
    for name in names:
        _remove(settings, PodDirectory(settings, name))


def _remove(settings: Settings, pod: PodDirectory) -> None:
    fields = {"pod": pod.sandbox_id}
    try:
        gone = remove_if_dead(settings, pod)
    except OSError as error:
        _LOG.warning("dead-pod-left", extra={"fields": {**fields, "error": error}})
        return
    if gone is not None:
        _LOG.info("dead-pod-removed" if gone else "dead-pod-left", extra={"fields": fields})
