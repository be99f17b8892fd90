"""
All actors of the story on one machine, started in order, ended in the opposite one, gone without a trace.

A scene owns one directory, one control group and a lock that says it lives. It starts programs and hands out
clients; what tenant and kubelet do with them is told elsewhere.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeVar

from enclave_cc.demo.cri.client import CriClient
from enclave_cc.demo.cri.kubelet import Kubelet
from enclave_cc.demo.scene import programs
from enclave_cc.demo.scene.bundle_cache import prepare_bundles
from enclave_cc.demo.scene.containerd_config import ContainerdConfig
from enclave_cc.demo.scene.control_group import ControlGroup
from enclave_cc.demo.scene.node_config import write_node_files
from enclave_cc.demo.scene.paths import SCENES, ScenePaths
from enclave_cc.demo.scene.processes import Daemons, free_port
from enclave_cc.demo.scene.requirements import Machine, require_all
from enclave_cc.demo.scene.sweep import SCENE_VARIABLE, SceneLock, remove_scene, sweep
from enclave_cc.formats.messages.platform import PLATFORM_SERVICE
from enclave_cc.transport.ttrpc_client import TtrpcClient
from enclave_cc.trustee.admin_access import FILE_NAME, AdminAccess
from enclave_cc.trustee.broker.init import BrokerFiles, init_broker

if TYPE_CHECKING:
    from types import TracebackType

    from enclave_cc.demo.scene.bundle_cache import Bundles
    from enclave_cc.trustee.admin_client import AdminClient

CACHE: Final = Path("/var/cache/enclave-cc")
PAUSE_REPOSITORY: Final = "enclave-cc/pause:v1"
Part = TypeVar("Part")
_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Ports:
    """Loopback ports of the scene, chosen free at its start."""

    registry: int
    collateral: int
    broker: int
    server: int

    @classmethod
    def free(cls) -> Self:
        """Choose them all."""
        return cls(*(free_port() for _ in range(4)))


class Scene:
    """One running set of actors; `start` and `stop`, or a context manager."""

    def __init__(self, scenes: Path = SCENES, *, cache: Path = CACHE) -> None:
        self.cache = cache
        self.ports = Ports.free()
        self.paths = ScenePaths.fresh(scenes)
        self._scenes = scenes
        self._group = ControlGroup(self.paths.cgroup)
        mark = {SCENE_VARIABLE: str(self.paths.root)}
        self._trusted = Daemons(self.paths.logs, group=self._group.trusted.entry, mark=mark)
        self._node = Daemons(self.paths.logs, group=self._group.node.entry, mark=mark)
        self._lock: SceneLock | None = None
        self._bundles: Bundles | None = None
        self._broker: BrokerFiles | None = None
        self._cri: CriClient | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            # Half a scene must not outlive an interruption.
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def registry(self) -> str:
        """Host and port of the registry, as image references begin."""
        return f"127.0.0.1:{self.ports.registry}"

    @property
    def pause_image(self) -> str:
        """Reference of the pods' pause image."""
        return f"{self.registry}/{PAUSE_REPOSITORY}"

    @property
    def busybox(self) -> Path:
        """The static program that images are made from."""
        return Path(_program("busybox"))

    @property
    def bundles(self) -> Bundles:
        """The enclaves' bundles; valid after `start_trusted`."""
        return _started(self._bundles)

    @property
    def broker(self) -> BrokerFiles:
        """The broker's address and keys; valid after `start_trusted`."""
        return _started(self._broker)

    @property
    def admin_file(self) -> Path:
        """What the owner passes to commands that administer the broker."""
        return self.paths.broker / FILE_NAME

    @property
    def cri(self) -> CriClient:
        """The CRI connection; valid after `start_node`."""
        return _started(self._cri)

    def admin(self) -> AdminClient:
        """Return the owner's connection to the broker."""
        return AdminAccess.read(self.admin_file).client()

    def kubelet(self) -> Kubelet:
        """Return a kubelet for the node."""
        return Kubelet(self.cri, log_directory=self.paths.pod_logs, cgroup_parent=self._group.pods)

    def start(self) -> None:
        """Start everything."""
        self.prepare()
        self.start_trusted()
        self.start_node()

    def prepare(self) -> None:
        """Check the machine, remove what killed scenes left, make the directory."""
        require_all()
        sweep(self._scenes)
        self._lock = SceneLock(self.paths)
        self.paths.create()
        self._group.create()

    def start_trusted(self) -> None:
        """Build the bundles; start registry, platform and broker."""
        self._bundles = prepare_bundles(self.cache / "bundles")
        self._trusted.start(programs.registry(self.paths, port=self.ports.registry))
        self._trusted.start(programs.platform(self.paths, pcs_port=self.ports.collateral))
        self._broker = self._init_broker()
        self._trusted.start(programs.broker(self._broker.config, port=self.ports.broker))

    def start_node(self) -> None:
        """Start node daemon and containerd, and connect as a kubelet does."""
        config = write_node_files(
            self.paths,
            self.bundles,
            runc=Path(_program("runc")),
            registry=self.registry,
            host_images=(self.pause_image,),
        )
        self._node.start(programs.node(self.paths, config))
        containerd = ContainerdConfig(self.paths, self.registry, self.pause_image)
        containerd.write()
        self._node.start(programs.containerd(containerd, programs=self.paths.programs))
        self._cri = CriClient(self.paths.containerd_socket)

    def stop(self) -> None:
        """End all programs and remove everything, also after a start that failed halfway."""
        if self._lock is None:
            return
        if self._cri is not None:
            self._remove_pods()
            self._cri.close()
        self._node.stop_all()
        self._trusted.stop_all()
        remove_scene(self.paths)
        self._lock.release()
        self._lock = None

    def _remove_pods(self) -> None:
        """Let containerd take down what still runs; whatever resists is killed afterwards with the scene."""
        try:
            self.kubelet().remove_all()
        except Exception:  # noqa: BLE001  # the end of a scene must be reached whatever containerd answers
            _LOG.warning("scene-pods-resist", exc_info=True)

    def _init_broker(self) -> BrokerFiles:
        with TtrpcClient(str(self.paths.platform_socket)) as platform:
            root = platform.call(PLATFORM_SERVICE, "Collateral", {})["root"]
        root_file = self.paths.broker / "simulated-root.der"
        root_file.write_bytes(root)
        files = init_broker(
            self.paths.broker,
            "127.0.0.1",
            self.ports.broker,
            ["127.0.0.1"],
            insecure_simulation_root=root_file,
            insecure_simulation_collateral=f"http://127.0.0.1:{self.ports.collateral}",
        )
        AdminAccess(files.url, files.tls_ca, files.admin_token).write(self.admin_file)
        return files


def _program(name: str) -> str:
    found = Machine().program(name)
    if found is None:
        raise AssertionError(f"{name} was there when the requirements were checked")
    return found


def _started(part: Part | None) -> Part:
    if part is None:
        raise AssertionError("this part of the scene is not started")
    return part
