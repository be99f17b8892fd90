"""Both bundles, built once."""

from __future__ import annotations

import pytest

from enclave_cc.node.bundles.build import build_bundle, remove_bundle


@pytest.fixture(scope="session")
def boot_bundle(tmp_path_factory):
    bundle = build_bundle("boot", tmp_path_factory.mktemp("built") / "boot")
    yield bundle
    remove_bundle(bundle.path)


@pytest.fixture(scope="session")
def agent_bundle(tmp_path_factory, boot_bundle):
    bundle = build_bundle("agent", tmp_path_factory.mktemp("built") / "agent", boot_bundle=boot_bundle.path)
    yield bundle
    remove_bundle(bundle.path)
