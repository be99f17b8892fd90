"""CRI messages survive the wire, and a failure's host line is found in containerd's text."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.core.errors import RefusedError, Stage
from enclave_cc.demo.cri.client import CriCallError, CriClient
from enclave_cc.demo.cri.host_view import HostView
from enclave_cc.demo.cri.messages import IMAGE_SERVICE, POD_SANDBOX_CONFIG, RUNTIME_SERVICE, NamespaceMode
from enclave_cc.formats.protobuf import decode, encode

_REQUEST_ID = "0123456789ABCDEFGHJKMNPQRS"


def test_a_sandbox_configuration_round_trips():
    config = {
        "metadata": {"name": "pod", "uid": "u", "namespace": "ns", "attempt": 0},
        "hostname": "",
        "log_directory": "/logs",
        "labels": {"app": "pod"},
        "annotations": {"enclave-cc.dev/initdata": "x"},
        "linux": {
            "cgroup_parent": "/group",
            "security_context": {
                "namespace_options": {"network": NamespaceMode.NODE, "pid": 1, "ipc": 0},
                "readonly_rootfs": False,
            },
        },
    }
    assert decode(POD_SANDBOX_CONFIG, encode(POD_SANDBOX_CONFIG, config)) == config


def test_the_annotation_field_is_number_seven_as_in_the_published_api():
    # Key 0x3a = field 7, length-delimited; then the map entry {1: "a", 2: "b"}.
    assert encode(POD_SANDBOX_CONFIG, {"annotations": {"a": "b"}}) == b"\x3a\x06\x0a\x01a\x12\x01b"


def test_every_request_of_both_services_can_be_empty():
    for service in (RUNTIME_SERVICE, IMAGE_SERVICE):
        for method in service.methods.values():
            assert encode(method.request, decode(method.request, b"")) == b""


def test_the_host_line_is_found_inside_containerds_words():
    error = RefusedError("layer-hmac-mismatch", "a layer was changed", stage=Stage.DECRYPT)
    text = f"failed to create containerd task: {error.host_line(_REQUEST_ID)}: unknown"
    view = HostView.find(text)
    assert (view.code, view.stage, view.request_id) == ("layer-hmac-mismatch", "decrypt", _REQUEST_ID)
    assert view.summary == "a layer was changed"


def test_an_error_without_a_host_line_keeps_its_words():
    assert HostView.find("image not found") == HostView("image not found")


@given(text=st.text(max_size=300))
def test_any_text_gives_a_view(text):
    assert len(HostView.find(text).summary) <= 500


class _Refusing(grpc.GenericRpcHandler):
    def service(self, handler_call_details):
        if handler_call_details.method.endswith("/ExecSync"):
            return grpc.unary_unary_rpc_method_handler(lambda *_: b"\x0a\x02hi\x18\x03")
        return grpc.unary_unary_rpc_method_handler(self._refuse)

    def _refuse(self, _request, context):
        line = RefusedError("image-unsigned", "no signature", stage=Stage.POLICY).host_line(_REQUEST_ID)
        context.abort(grpc.StatusCode.UNKNOWN, f"rpc error: {line}")


@pytest.fixture
def client(short_tmp):
    server = grpc.server(ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers((_Refusing(),))
    server.add_insecure_port(f"unix:{short_tmp}/cri.sock")
    server.start()
    with CriClient(short_tmp / "cri.sock") as connection:
        yield connection
    server.stop(None).wait()


def test_a_refused_call_carries_code_and_request_id(client):
    with pytest.raises(CriCallError, match="StartContainer failed") as caught:
        client.runtime("StartContainer", container_id="c")
    assert (caught.value.host.code, caught.value.host.request_id) == ("image-unsigned", _REQUEST_ID)


def test_exec_sync_returns_code_and_output(client):
    assert client.exec_sync("c", "true") == (3, b"hi", b"")
