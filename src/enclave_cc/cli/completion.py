"""`enclave-cc completion`: the tree for a shell. Loaded only for that: nothing else needs shells' formats."""

from __future__ import annotations

from cyclopts.completion.install import create_install_completion_command

from enclave_cc.cli.main import build_app

completion = create_install_completion_command(build_app().install_completion, False)
