"""The guides' commands are executed as they stand; only the registry's example name is replaced."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from tests.simulators.programs import elf
from tests.simulators.registry import running_registry

from enclave_cc.cli.main import COMMANDS, build_app
from enclave_cc.formats.owner.settings import OwnerSettings
from enclave_cc.formats.rootfs_annotations import CONTAINER_NAME, RootfsWish
from enclave_cc.formats.rootfs_options import Writable
from enclave_cc.tenant.building.image import LayerInput, ProcessDescription, build_image
from enclave_cc.tenant.building.layers import LayerBuilder
from enclave_cc.tenant.places.image_layout import ImageLayout

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands_of(page):
    return "\n".join(BLOCK.findall((ROOT / "docs" / "guides" / page).read_text()))


def wait_for(words, log):
    """Wait for a server that was started last, for as long as it runs; what it said is the failure's text."""
    return f'until grep -q "{words}" {log}; do kill -0 $! || {{ cat {log}; exit 1; }}; sleep 0.1; done\n'


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return str(free.getsockname()[1])


@pytest.fixture
def workplace(tmp_path):
    layers = [LayerInput(LayerBuilder().file("hello", elf(), mode=0o755))]
    build_image(ImageLayout.create(tmp_path / "app"), layers, ProcessDescription(entrypoint=("/hello",)))
    return tmp_path


def run(script, directory):
    """Run in a process group of its own, and end the group: a guide starts a broker in the background."""
    environment = {"PATH": f"{PROGRAMS}:{os.environ['PATH']}", "HOME": str(directory), "COLUMNS": "120"}
    process = subprocess.Popen(
        ["sh", "-ec", script],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=240)
    except subprocess.TimeoutExpired as late:
        pytest.fail(f"the commands do not end:\n{(late.output or b'').decode()}")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, output
    return output


def test_preparing_an_image_and_running_the_broker_work_as_written(workplace):
    with running_registry() as registry:
        prepare = commands_of("preparing-an-image.md")
        prepare = re.sub(r"(image .*registry\.example.*)", rf"\1 --insecure-http {registry.host}", prepare)
        output = run(prepare.replace("registry.example", registry.host), workplace)
        assert "will run" in output
        assert "policy: accepted" in output
        assert '"encrypted": true' in output
        original = ImageLayout.open(workplace / "app").find().digest
        assert ImageLayout.open(workplace / "back").find().digest == original
    serve = commands_of("running-the-broker.md").replace("18443", free_port())
    serve = serve.replace(
        "broker.toml &\n", "broker.toml > broker.log 2>&1 &\n" + wait_for("ready at", "broker.log")
    )
    output = run(serve + "\nkill $!\n", workplace)
    assert "kbs:///team/keys/app" in output
    assert "package policy" in output


def sections_of(page):
    """The page's commands, section by section."""
    text = (ROOT / "docs" / "guides" / page).read_text()
    return ["\n".join(BLOCK.findall(section)) for section in text.split("\n## ")[1:]]


def insecure_policy(script):
    return script.replace("skopeo copy", "skopeo --insecure-policy copy")


# Does with our own commands what a skopeo that knows key providers does, with the same words.
OTHER_SKOPEO = """
skopeo() {
    case "$2" in
        --encryption-key) enclave-cc image encrypt "$4" "$5" --recipient "$3" ;;
        --decryption-key) enclave-cc image decrypt "$4" "$5" --key "$3" ;;
    esac
}
"""


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
def test_encrypting_with_skopeo_and_a_key_pair_works_as_written(workplace):
    pair, _ = sections_of("using-skopeo.md")
    assert "jwe" in run(insecure_policy(pair), workplace)
    for name in ("app.back", "app.again"):
        assert _layers(workplace / name) == _layers(workplace / "app")


def test_the_key_provider_works_as_written(workplace):
    _, provider = sections_of("using-skopeo.md")
    script = provider.replace("50000", free_port()).replace(
        "image.key &\n", "image.key 2> provider.log &\n" + wait_for("ready at", "provider.log")
    )
    run(OTHER_SKOPEO + "enclave-cc image keygen keys\n" + script + "\nkill -TERM $!\nwait $!\n", workplace)
    assert _layers(workplace / "app.opened") == _layers(workplace / "app")
    said = (workplace / "provider.log").read_text().splitlines()
    assert {line.split()[0] for line in said[1:]} == {"WrapKey", "UnWrapKey"}


def _layers(directory):
    layout = ImageLayout.open(directory)
    return [layer.digest for layer in layout.read_manifest(layout.find()).layers]


def test_signing_an_image_works_as_written(workplace):
    with running_registry() as registry:
        script = commands_of("signing-an-image.md").replace("registry.example", registry.host)
        for command in (f"push app {registry.host}/team/app:v1", f"verify {registry.host}/team/app:v1"):
            script = script.replace(f"image {command}", f"image {command} --insecure-http {registry.host}")
        output = run(script, workplace)
    assert output.count("accepted") == 3
    assert '"accepted": true' in output


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_says_what_it_does(command):
    environment = {"PATH": os.environ["PATH"], "COLUMNS": "100", "NO_COLOR": "1"}
    text = subprocess.run(
        [PROGRAMS / "enclave-cc", *command, "--help"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    leaf = not any(other != command and other[: len(command)] == command for other in COMMANDS)
    assert "Usage:" in text
    assert not leaf or "Example:" in text


def test_the_overview_has_a_line_for_each_command():
    text = subprocess.run([PROGRAMS / "enclave-cc"], capture_output=True, text=True, check=True).stdout
    rows = re.findall(r"^  ([a-z]+) +\S.*$", text, re.MULTILINE)
    assert set(rows) == {command[0] for command in COMMANDS} | {"completion"}


def test_the_list_of_commands_is_the_tree():
    app = build_app()
    names = {name for name in app if not name.startswith("-")} - {"completion"}
    assert names == {command[0] for command in COMMANDS}


def test_the_generated_pages_are_fresh():
    checked = subprocess.run(
        [sys.executable, ROOT / "tools" / "docs.py", "--check"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


def _block(page, language):
    """The page's only block of a language."""
    text = (ROOT / "docs" / "guides" / page).read_text()
    (block,) = re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return block


def test_the_policy_about_writable_layers_is_one_and_what_the_pod_asks_for_means_something():
    page = "choosing-the-writable-layer.md"
    policy = OwnerSettings.parse(tomllib.loads(_block(page, "toml"))).rootfs
    assert policy.writable == (Writable.MEMORY,)
    assert (policy.memory_bytes, policy.decrypt_to_memory_bytes) == (512 << 20, 0)
    annotations = dict(re.findall(r"^ +(enclave-cc\.dev/\S+): (\S+)$", _block(page, "yaml"), re.MULTILINE))
    wishes = [RootfsWish.read({**annotations, CONTAINER_NAME: name}) for name in ("web", "builder")]
    assert wishes == [RootfsWish(None, 256 << 20), RootfsWish(Writable.SCRATCH, 8 << 30)]
