"""The guides' commands are executed as they stand; only the registry's example name is replaced."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.simulators.registry import running_registry

from enclave_cc.cli.main import COMMANDS, build_app
from enclave_cc.tenant.image import LayerInput, ProcessDescription, build_image
from enclave_cc.tenant.image_layout import ImageLayout
from enclave_cc.tenant.layers import LayerBuilder

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent
BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands_of(page):
    return "\n".join(BLOCK.findall((ROOT / "docs" / "guides" / page).read_text()))


def wait_for_broker(log):
    return f'for _ in $(seq 100); do grep -q "ready at" {log} && break; sleep 0.1; done\n'


@pytest.fixture
def workplace(tmp_path):
    layers = [LayerInput(LayerBuilder().file("hello", b"world"))]
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
        output, _ = process.communicate(timeout=90)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, output
    return output


def test_preparing_an_image_and_running_the_broker_work_as_written(workplace):
    with running_registry() as registry:
        prepare = commands_of("preparing-an-image.md").replace("registry.example", registry.host)
        prepare = re.sub(r"(image (?:push|inspect) [^\n]*)", rf"\1 --insecure-http {registry.host}", prepare)
        output = run(prepare, workplace)
        assert "yes" in output
        assert '"encrypted": true' in output
    serve = commands_of("running-the-broker.md").replace("serve --config broker/broker.toml &", "SERVE")
    serve = serve.replace(
        "enclave-cc kbs SERVE",
        "enclave-cc kbs serve --config broker/broker.toml > broker.log 2>&1 &\n"
        + wait_for_broker("broker.log"),
    )
    output = run(serve + "\nkill $!\n", workplace)
    assert "kbs:///team/keys/app" in output
    assert "package policy" in output


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


def test_the_list_of_commands_is_the_tree():
    app = build_app()
    names = {name for name in app if not name.startswith("-")} - {"completion"}
    assert names == {command[0] for command in COMMANDS}


def test_the_generated_pages_are_fresh():
    checked = subprocess.run(
        [sys.executable, ROOT / "tools" / "docs.py", "--check"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
