"""Every code that the source raises has a remedy, and no remedy is orphaned."""

from __future__ import annotations

import ast
from pathlib import Path

import enclave_cc
from enclave_cc.core.catalogue import REMEDIES

_ERRORS = {"InvalidInputError", "RefusedError", "UnavailableError", "InternalError"}


def _codes():
    root = Path(enclave_cc.__file__).parent
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            first = node.args[0]
            if name in _ERRORS and isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield first.value, f"{path.relative_to(root)}:{node.lineno}"


def test_every_code_that_is_raised_has_a_remedy():
    missing = [(code, where) for code, where in _codes() if code not in REMEDIES]
    assert missing == []


def test_remedies_are_one_line_each():
    assert all(text and "\n" not in text and len(text) < 200 for text in REMEDIES.values())
