"""A bundle is complete, small, read-only, reproducible, and runs from its own files."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from enclave_cc.core.errors import InvalidInputError
from enclave_cc.formats.initdata import initdata_digest
from enclave_cc.formats.sgx.measurement import mr_enclave
from enclave_cc.node.bundles.build import build_bundle, remove_bundle
from enclave_cc.node.bundles.reference import reference_value
from enclave_cc.platform.measurement import measure_bundle

MAX_BOOT_BYTES, MAX_AGENT_BYTES = 60 << 20, 70 << 20
INITDATA = 'version = "0.1.0"\nalgorithm = "sha256"\n'


def files(bundle):
    return {
        Path(directory, name).relative_to(bundle.path).as_posix(): Path(directory, name)
        for directory, _, names in os.walk(bundle.path)
        for name in names
    }


def in_bundle(bundle, code):
    """Run code as boot is run: by the bundle's own loader, outside of the bundle's root."""
    rootfs = bundle.path / "rootfs"
    settings = json.loads((bundle.path / "bundle.json").read_text())
    command = [f"{rootfs}{settings['loader']}", "--library-path", rootfs / "usr/lib/enclave-cc/lib"]
    command += [rootfs / "usr/bin/python3", "-I", "-B", "-c", code]
    return subprocess.run(
        command, env={"PATH": "/usr/bin"}, capture_output=True, text=True, check=True
    ).stdout


def test_the_same_inputs_have_the_same_measurement(boot_bundle, tmp_path):
    again = build_bundle("boot", tmp_path / "again")
    try:
        assert again.base == boot_bundle.base == measure_bundle(boot_bundle.path).base
    finally:
        remove_bundle(again.path)


def test_nothing_is_compiled_when_an_enclave_starts(boot_bundle):
    site = boot_bundle.path / "rootfs/usr/lib/enclave-cc/site"
    code = f"""
import builtins, sys
sys.path.insert(0, {str(site)!r})
compiled, original = [], compile
def noting(source, name, *arguments, **options):
    compiled.append(name)
    return original(source, name, *arguments, **options)
builtins.compile = noting
from enclave_cc.enclave.boot import main
print([name for name in compiled if name.endswith(".py")])
"""
    assert in_bundle(boot_bundle, code) == "[]\n"


def test_bundles_are_small(boot_bundle, agent_bundle):
    assert boot_bundle.size_bytes < MAX_BOOT_BYTES
    assert agent_bundle.size_bytes < MAX_AGENT_BYTES


def test_only_the_agent_verifies_openpgp(boot_bundle, agent_bundle):
    site = agent_bundle.path / "rootfs/usr/lib/enclave-cc/site"
    code = f"import sys; sys.path.insert(0, {str(site)!r}); import pysequoia; "
    code += "print(pysequoia.Tsk.generate('x').extract_certificate().is_revoked)"
    assert in_bundle(agent_bundle, code) == "False\n"
    assert not list(boot_bundle.path.rglob("pysequoia*"))


def test_nothing_is_writable_or_left_over(boot_bundle, agent_bundle):
    for bundle in (boot_bundle, agent_bundle):
        for name, path in files(bundle).items():
            assert not path.stat().st_mode & 0o222, name
        assert [entry.name for entry in bundle.path.parent.iterdir()] == [bundle.path.name]
        assert not stat.S_IMODE(bundle.path.stat().st_mode) & 0o222


@pytest.mark.parametrize("room", ["node", "trustee", "tenant", "cli", "demo"])
def test_rooms_that_are_not_trusted_stay_outside(boot_bundle, agent_bundle, room):
    for bundle in (boot_bundle, agent_bundle):
        assert not (bundle.path / "rootfs/usr/lib/enclave-cc/site/enclave_cc" / room).exists()


def test_each_enclave_has_its_own_program_only(boot_bundle, agent_bundle):
    inside = "rootfs/usr/lib/enclave-cc/site/enclave_cc/enclave"
    assert not (boot_bundle.path / inside / "agent").exists()
    assert not (agent_bundle.path / inside / "boot").exists()


def test_the_platforms_keys_and_daemon_stay_outside(agent_bundle):
    inside = agent_bundle.path / "rootfs/usr/lib/enclave-cc/site/enclave_cc/platform/simulated"
    assert {path.name for path in inside.glob("*.py")} == {"__init__.py", "driver.py"}


def test_what_runs_credential_helpers_stays_outside(agent_bundle):
    inside = agent_bundle.path / "rootfs/usr/lib/enclave-cc/site/enclave_cc/transport/registry"
    assert (inside / "client.py").exists()
    assert list(inside.glob("credential_*")) == []


def test_pip_test_suites_and_databases_stay_outside(boot_bundle):
    names = set(files(boot_bundle))
    assert not [name for name in names if "/test/" in name or "ensurepip" in name or "sqlite3" in name]


def test_the_description_says_how_to_start(boot_bundle, agent_bundle):
    for kind, product_id, bundle in (("agent", 1, agent_bundle), ("boot", 2, boot_bundle)):
        settings = json.loads((bundle.path / "bundle.json").read_text())
        assert (settings["kind"], settings["product_id"]) == (kind, product_id)
        assert settings["args"] == ["/usr/bin/python3", "-I", "-B", f"/usr/lib/enclave-cc/{kind}.py"]
        for path in (*settings["args"][::3], settings["loader"]):
            assert (bundle.path / "rootfs" / path.lstrip("/")).is_file()


def test_every_mount_point_exists_so_that_runc_makes_none(agent_bundle):
    for name in ("proc", "dev", "sys", "tmp", "run", "run/enclave-cc", "run/platform", "sealed", "blobs"):
        assert (agent_bundle.path / "rootfs" / name).is_dir()
    assert (agent_bundle.path / "rootfs/etc/resolv.conf").is_file()


def test_an_agent_knows_the_boot_bundle_it_serves(agent_bundle, boot_bundle):
    identity = json.loads((agent_bundle.path / "rootfs/etc/enclave-cc/boot.json").read_text())
    assert identity == {"base": boot_bundle.base.hex()}


@pytest.mark.parametrize(("kind", "with_boot"), [("agent", False), ("boot", True)])
def test_only_an_agent_takes_a_boot_bundle(tmp_path, boot_bundle, kind, with_boot):
    with pytest.raises(InvalidInputError) as caught:
        build_bundle(kind, tmp_path / "x", boot_bundle=boot_bundle.path if with_boot else None)
    assert caught.value.code == "bundle-kind-invalid"
    assert list(tmp_path.iterdir()) == []


def test_a_failed_build_leaves_nothing(tmp_path):
    with pytest.raises(InvalidInputError):
        build_bundle("agent", tmp_path / "x", boot_bundle=tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_replaces_an_older_one(tmp_path, boot_bundle):
    shutil.copytree(boot_bundle.path, tmp_path / "boot")
    rebuilt = build_bundle("boot", tmp_path / "boot")
    try:
        assert rebuilt.base == boot_bundle.base
        assert [path.name for path in tmp_path.iterdir()] == ["boot"]
    finally:
        remove_bundle(rebuilt.path)


def test_a_changed_file_changes_the_measurement(tmp_path, boot_bundle):
    copy = tmp_path / "boot"
    shutil.copytree(boot_bundle.path, copy)
    try:
        changed = copy / "rootfs/usr/lib/enclave-cc/boot.py"
        changed.chmod(0o644)
        changed.write_text(changed.read_text() + "\n")
        assert measure_bundle(copy).base != boot_bundle.base
    finally:
        remove_bundle(copy)


def test_reference_values_combine_bundle_and_initdata(agent_bundle):
    bare, owned = reference_value(agent_bundle.path), reference_value(agent_bundle.path, INITDATA)
    assert bare == mr_enclave(agent_bundle.base, b"").hex()
    assert owned == mr_enclave(agent_bundle.base, initdata_digest(INITDATA)).hex()
    assert bare != owned


@pytest.mark.parametrize("kind", ["agent", "boot"])
def test_the_built_interpreter_imports_the_whole_program_from_the_bundle_alone(request, kind):
    bundle = request.getfixturevalue(f"{kind}_bundle")
    site = bundle.path / "rootfs/usr/lib/enclave-cc/site"
    code = f"""
import sys
sys.path.insert(0, {str(site)!r})
import enclave_cc.enclave.{kind}.main
import ssl, ctypes, socket
for name, module in sorted(sys.modules.items()):
    print("module", getattr(module, "__file__", None) or "-")
for line in open("/proc/self/maps"):
    if ".so" in line:
        print("library", line.split()[-1])
"""
    lines = [line.split() for line in in_bundle(bundle, code).splitlines()]
    outside = {path for _, path in lines if path != "-" and not path.startswith(str(bundle.path))}
    assert outside == set()
    assert any(kind == "library" for kind, _ in lines)
