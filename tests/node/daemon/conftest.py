"""A snapshotter on a real Unix socket, called as containerd calls it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from enclave_cc.formats.protobuf import decode, encode
from enclave_cc.node.daemon.containerd_messages import CONTAINERS, CONTENT, IMAGES, SNAPSHOTS
from enclave_cc.node.daemon.snapshot_policy import SnapshotPolicy
from enclave_cc.node.daemon.snapshot_store import SnapshotStore
from enclave_cc.node.daemon.snapshots_service import SnapshotsService
from enclave_cc.node.daemon.snapshotter import Snapshotter


class Caller:
    """containerd's side of the Snapshots service."""

    def __init__(self, path: Any) -> None:
        self.channel = grpc.insecure_channel(f"unix:{path}")

    def raw(self, method: str, data: bytes) -> bytes:
        return self.channel.unary_unary(f"/{SNAPSHOTS.name}/{method}")(data, timeout=10)

    def call(self, method: str, **request: Any) -> dict[str, Any]:
        schemas = SNAPSHOTS.methods[method]
        return decode(schemas.response, self.raw(method, encode(schemas.request, request)))

    def code(self, method: str, **request: Any) -> grpc.StatusCode:
        with pytest.raises(grpc.RpcError) as caught:
            self.call(method, **request)
        return caught.value.code()

    def code_of(self, method: str, data: bytes) -> grpc.StatusCode:
        call = self.channel.unary_unary(f"/{SNAPSHOTS.name}/{method}").future(data, timeout=10)
        return call.code()

    def list(self) -> dict[str, dict[str, Any]]:
        schemas = SNAPSHOTS.methods["List"]
        stream = self.channel.unary_stream(f"/{SNAPSHOTS.name}/List")(encode(schemas.request, {}), timeout=10)
        return {info["name"]: info for page in stream for info in decode(schemas.response, page)["info"]}


@pytest.fixture
def prefetched():
    return []


@pytest.fixture
def served(short_tmp, prefetched):
    store = SnapshotStore(short_tmp / "snapshots.db")

    def seed(labels, rootfs):
        (rootfs / "seeded").touch()

    policy = SnapshotPolicy(("registry.example/pause",))
    snapshotter = Snapshotter(short_tmp, store, policy, prefetch=prefetched.append, seed=seed)
    service = SnapshotsService(snapshotter, short_tmp / "s.sock")
    service.start()
    caller = Caller(short_tmp / "s.sock")
    yield caller
    caller.channel.close()
    service.stop()
    store.close()


class FakeContainerd:
    """Containers, images and documents of one namespace."""

    def __init__(self) -> None:
        self.containers: dict[str, str] = {}
        self.images: dict[str, str] = {}
        self.documents: dict[str, bytes] = {}
        self.namespaces: list[str] = []
        self.server = grpc.server(ThreadPoolExecutor(4))
        for service, handlers in (
            (CONTAINERS, {"Get": grpc.unary_unary_rpc_method_handler(self._container)}),
            (IMAGES, {"Get": grpc.unary_unary_rpc_method_handler(self._image)}),
            (CONTENT, {"Read": grpc.unary_stream_rpc_method_handler(self._read)}),
        ):
            handler = grpc.method_handlers_generic_handler(service.name, handlers)
            self.server.add_generic_rpc_handlers((handler,))

    def _container(self, data: bytes, context: Any) -> bytes:
        self.namespaces.append(dict(context.invocation_metadata())["containerd-namespace"])
        container_id = decode(CONTAINERS.methods["Get"].request, data)["id"]
        if container_id not in self.containers:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such container")
        container = {"id": container_id, "image": self.containers[container_id]}
        return encode(CONTAINERS.methods["Get"].response, {"container": container})

    def _image(self, data: bytes, context: Any) -> bytes:
        name = decode(IMAGES.methods["Get"].request, data)["name"]
        if name not in self.images:
            context.abort(grpc.StatusCode.NOT_FOUND, "no such image")
        image = {"name": name, "target": {"digest": self.images[name]}}
        return encode(IMAGES.methods["Get"].response, {"image": image})

    def _read(self, data: bytes, context: Any) -> Any:
        document = self.documents[decode(CONTENT.methods["Read"].request, data)["digest"]]
        for start in range(0, len(document), 100):
            yield encode(
                CONTENT.methods["Read"].response, {"offset": start, "data": document[start : start + 100]}
            )


@pytest.fixture
def containerd(short_tmp):
    fake = FakeContainerd()
    fake.server.add_insecure_port(f"unix:{short_tmp / 'c.sock'}")
    fake.server.start()
    yield fake
    fake.server.stop(0).wait()
