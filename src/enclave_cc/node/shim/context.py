"""What every part of one shim shares; made once, in ``daemon.serve``."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from enclave_cc.node.shim.events import EventPublisher
    from enclave_cc.node.shim.reactor import Reactor
    from enclave_cc.node.shim.reaper import Reaper
    from enclave_cc.node.shim.settings import Settings


class Context:
    """The loop, the children, the events and the node's paths."""

    __slots__ = ("events", "namespace", "reactor", "reaper", "settings", "socket_directory")

    def __init__(
        self,
        reactor: Reactor,
        reaper: Reaper,
        events: EventPublisher,
        settings: Settings,
        *,
        namespace: str,
        socket_directory: str,
    ) -> None:
        self.reactor = reactor
        self.reaper = reaper
        self.events = events
        self.settings = settings
        self.namespace = namespace
        self.socket_directory = socket_directory
