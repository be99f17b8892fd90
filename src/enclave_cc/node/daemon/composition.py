"""Puts the daemon together from its configuration; the only place that knows all of its parts."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from enclave_cc.formats.messages.node import NODE_SERVICE
from enclave_cc.node.daemon.containerd_client import ContainerdClient
from enclave_cc.node.daemon.named_user import NamedUser
from enclave_cc.node.daemon.node_service import NodeService
from enclave_cc.node.daemon.prefetch import Prefetch
from enclave_cc.node.daemon.registries import NodeRegistries
from enclave_cc.node.daemon.snapshot_policy import SnapshotPolicy
from enclave_cc.node.daemon.snapshot_store import SnapshotStore
from enclave_cc.node.daemon.snapshots_service import SnapshotsService
from enclave_cc.node.daemon.snapshotter import Snapshotter
from enclave_cc.node.daemon.sweep import sweep
from enclave_cc.transport.blobs.directory import BlobDirectory
from enclave_cc.transport.patience.deadline import Patience
from enclave_cc.transport.ttrpc_server import TtrpcServer

if TYPE_CHECKING:
    from types import TracebackType

    from enclave_cc.node.config import NodeConfig


class NodeDaemon:
    """Everything between ``with`` and its end."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._parts = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as parts:
            self._start(parts)
            self._parts = parts.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._parts.close()

    def _start(self, parts: ExitStack) -> None:
        config = self._config
        for directory in (config.snapshot_root, config.snapshot_socket.parent, config.node_socket.parent):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Pods may start meanwhile, and nobody needs to wait for what dead ones left.
        threading.Thread(target=sweep, args=(config,), name="sweep", daemon=True).start()
        stopping = threading.Event()
        registries = NodeRegistries(config, Patience(cancelled=stopping))
        parts.callback(registries.close)
        parts.callback(stopping.set)
        containerd = ContainerdClient(config.containerd_socket)
        parts.callback(containerd.close)
        blobs = BlobDirectory(config.blobs)
        blobs.create()
        prefetch = Prefetch(blobs, registries)
        parts.callback(prefetch.close)
        store = SnapshotStore(config.snapshot_root / "snapshots.db")
        parts.callback(store.close)
        snapshotter = Snapshotter(
            config.snapshot_root,
            store,
            SnapshotPolicy(config.host_images),
            prefetch=prefetch.layer,
            seed=NamedUser(containerd).seed,
        )
        snapshots = SnapshotsService(snapshotter, config.snapshot_socket)
        snapshots.start()
        parts.callback(snapshots.stop)
        node = TtrpcServer(str(config.node_socket))
        node.add(NODE_SERVICE, NodeService(containerd).handlers())
        node.start()
        parts.callback(node.stop)
