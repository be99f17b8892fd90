"""The configuration names our snapshotter and shims, and stays below the scene's directory."""

from __future__ import annotations

import tomllib

from enclave_cc.demo.scene.containerd_config import ContainerdConfig, shim_name
from enclave_cc.demo.scene.paths import ScenePaths


def _config(tmp_path):
    return ContainerdConfig(ScenePaths(tmp_path), "127.0.0.1:5000", "127.0.0.1:5000/pause:v1")


def test_the_shim_program_follows_the_runtime_type():
    assert shim_name("io.containerd.rune.v2") == "containerd-shim-rune-v2"


def test_both_handlers_pass_the_owners_annotations(tmp_path):
    cri = tomllib.loads(_config(tmp_path).toml())["plugins"]["io.containerd.grpc.v1.cri"]
    assert cri["containerd"]["snapshotter"] == "rune"
    assert cri["containerd"]["disable_snapshot_annotations"] is False
    for handler in ("enclave-cc", "enclave-cc-modified"):
        runtime = cri["containerd"]["runtimes"][handler]
        assert "enclave-cc.dev/*" in runtime["pod_annotations"]


def test_every_path_is_below_the_scene(tmp_path):
    settings = tomllib.loads(_config(tmp_path).toml())
    paths = [settings["root"], settings["state"], settings["grpc"]["address"], settings["ttrpc"]["address"]]
    assert all(path.startswith(f"{tmp_path}/c/") for path in paths)


def test_the_registry_is_reached_over_plain_http_on_loopback_only(tmp_path):
    config = _config(tmp_path)
    config.write()
    hosts = tomllib.loads((tmp_path / "c/certs.d/127.0.0.1:5000/hosts.toml").read_text())
    assert list(hosts["host"]) == ["http://127.0.0.1:5000"]
