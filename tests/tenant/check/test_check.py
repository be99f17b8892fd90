"""Images with one fault each, and what is said about them."""

import dataclasses
import io
import json
import tarfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.simulators.memory_registry import MemoryResources
from tests.simulators.programs import elf

from enclave_cc.core.errors import RefusedError
from enclave_cc.core.secret import Secret
from enclave_cc.formats.oci.descriptor import Descriptor, Platform
from enclave_cc.formats.ocicrypt.wrapping import BrokerKey
from enclave_cc.image.keys.layer_key import KeyRing
from enclave_cc.tenant.building.image import LayerInput, ProcessDescription, build_image
from enclave_cc.tenant.building.layers import LayerBuilder
from enclave_cc.tenant.check.elf import ElfHead
from enclave_cc.tenant.check.image import check_image
from enclave_cc.tenant.encryption.layouts import encrypt_image
from enclave_cc.tenant.images import read_images
from enclave_cc.tenant.places.image_layout import ImageLayout
from enclave_cc.tenant.places.layout import LayoutReader
from enclave_cc.tenant.work import Work

AMD64 = Platform("linux", "amd64")
LOADER = "/lib64/ld-linux-x86-64.so.2"


def layer():
    return LayerBuilder().file("bin/app", elf(loader=LOADER), mode=0o755).file(LOADER[1:], elf(), mode=0o755)


class World:
    def __init__(self, directory):
        self.directory = directory
        self.process = ProcessDescription(entrypoint=("/bin/app",))

    def build(self, *layers, **members):
        layout = ImageLayout.create(self.directory / "app")
        process = dataclasses.replace(self.process, **members)
        build_image(layout, [LayerInput(each) for each in layers], process)
        return layout

    def check(self, layout, keys=None, platform=AMD64):
        reader = LayoutReader(layout)
        (image,) = read_images(reader, (platform,)).images
        return check_image(reader, image, platform, keys, Work())

    def rules(self, *layers, **members):
        report = self.check(self.build(*layers, **members))
        found = {problem.rule: str(problem.severity) for problem in report.problems}
        assert report.runs == ("error" not in found.values())
        return {rule for rule, severity in found.items() if severity != "note"}


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_a_sound_image_will_run(world):
    assert world.rules(layer(), LayerBuilder().file("etc/passwd", b"app:x:1:1::/:\n"), user="app") == set()


def test_a_program_is_found_in_the_path_and_through_links(world):
    linked = LayerBuilder().symlink("usr/bin", "../bin").symlink("opt/tool", "/usr/bin/app")
    assert world.rules(layer(), linked, entrypoint=("tool",), env=("PATH=/nowhere:/opt",)) == set()


@pytest.mark.parametrize(
    ("members", "rule"),
    [
        ({"entrypoint": ()}, "command.missing"),
        ({"entrypoint": ("/bin/other",)}, "command.not-found"),
        ({"entrypoint": ("app",), "env": ("PATH=/nowhere",)}, "command.not-found"),
        ({"entrypoint": ("/bin",)}, "command.not-a-file"),
        ({"user": "nobody-here"}, "user.unknown"),
        ({"user": "0:no-group"}, "user.unknown"),
        ({"architecture": "arm64"}, "platform"),
    ],
)
def test_a_fault_of_the_configuration_is_named(world, members, rule):
    assert rule in world.rules(layer(), **members)


@pytest.mark.parametrize(
    ("content", "mode", "rule"),
    [
        (elf(loader=LOADER), 0o644, "command.not-executable"),
        (elf(loader="/lib/ld-musl-x86_64.so.1"), 0o755, "command.loader-missing"),
        (elf(machine=183), 0o755, "command.architecture"),
        (elf(bits=1, machine=3), 0o755, "command.architecture"),
        (elf()[:70], 0o755, "command.elf-invalid"),
        (b"echo hello", 0o755, "command.unknown-format"),
        (b"#!/bin/sh\n", 0o755, "command.not-found"),
        (b"#!\n", 0o755, "command.interpreter"),
        (b"#!/bin/app\r\n", 0o755, "command.script-line-end"),
        (b"#!/bin/script\n", 0o755, "command.interpreter"),
        (b"#!/bin/app python3\n", 0o755, None),
        (elf(), 0o755, None),
    ],
)
def test_a_fault_of_the_program_is_named(world, content, mode, rule):
    script = LayerBuilder().file("bin/script", content, mode=mode)
    found = world.rules(layer(), script, entrypoint=("/bin/script",))
    assert found == (set() if rule is None else {rule})


def test_what_env_looks_for_has_to_be_there(world):
    tools = (
        LayerBuilder()
        .file("usr/bin/env", elf(), mode=0o755)
        .file("bin/script", b"#!/usr/bin/env -S python3 -u\n", mode=0o755)
    )
    assert world.rules(layer(), tools, entrypoint=("/bin/script",)) == {"command.not-found"}


def test_a_loop_of_links_leads_nowhere(world):
    loop = LayerBuilder().symlink("bin/loop", "loop")
    assert world.rules(layer(), loop, entrypoint=("/bin/loop",)) == {"command.not-found"}


def test_privileges_and_devices_are_listed(world):
    raised = LayerBuilder().file("bin/su", elf(), mode=0o4755)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        device = tarfile.TarInfo("dev/null")
        device.type, device.devmajor, device.devminor = tarfile.CHRTYPE, 1, 3
        archive.addfile(device)
        capable = tarfile.TarInfo("bin/ping")
        capable.pax_headers = {"SCHILY.xattr.security.capability": "x"}
        archive.addfile(capable)
    found = world.rules(layer(), raised, out.getvalue())
    assert found == {"contents.setuid", "contents.devices", "contents.capabilities"}


def test_declared_volumes_are_not_sealed(world):
    layout = world.build(layer())
    manifest = layout.read_manifest(layout.find())
    config = json.loads(layout.read_document(manifest.config.digest))
    config["config"]["Volumes"] = {"/data": {}}
    digest, size = layout.add_blob([json.dumps(config).encode()])
    changed = dataclasses.replace(manifest, config=Descriptor(manifest.config.media_type, digest, size))
    layout.add_manifest(changed, name="latest")
    assert "volumes" in {problem.rule for problem in world.check(layout).problems}


def test_a_layer_that_is_no_archive_will_not_unpack(world):
    assert world.rules(layer(), b"no tar" * 200) == {"layers.unpack"}


def test_a_layer_that_grows_beyond_the_limit_is_named(world):
    assert world.rules(layer(), LayerBuilder().file("zeros", bytes(80 << 20))) == {"limits.unpacked"}


def test_a_damaged_layer_is_refused_as_pulling_would(world):
    layout = world.build(layer())
    damaged = layout.read_manifest(layout.find()).layers[0]
    (layout.directory / "blobs" / "sha256" / damaged.digest.hex).write_bytes(bytes(damaged.size))
    with pytest.raises(RefusedError):
        world.check(layout)


def test_an_encrypted_image_is_looked_into_with_a_key(world, tmp_path):
    key = BrokerKey(Secret(bytes(32)), "kbs:///a/b/c")
    plain = world.build(layer(), entrypoint=("/bin/other",))
    encrypted = ImageLayout.create(tmp_path / "encrypted")
    encrypt_image(plain, encrypted, [key])
    outside = world.check(encrypted)
    assert (outside.complete, outside.runs) == (False, True)
    inside = world.check(encrypted, KeyRing(MemoryResources({key.kid: bytes(key.kek.reveal())})))
    assert (inside.complete, inside.runs) == (True, False)


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda tail: elf(loader=LOADER)[:64] + tail))
@settings(max_examples=80)
def test_any_bytes_are_a_program_or_none(data):
    try:
        head = ElfHead.parse(data)
    except ValueError:
        head = None
    assert head is None or head.architecture
