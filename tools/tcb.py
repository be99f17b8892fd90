"""Print how large the trusted computing base is, and which packages of others are inside it."""

from __future__ import annotations

import ast
import importlib.metadata
import sys
from pathlib import Path
from typing import Final

ROOMS: Final = ("core", "formats", "transport", "image", "platform", "enclave")
# What code inside an enclave may import from others, and what for. The import-linter contract in
# pyproject.toml and the bundle builder hold the same line.
PACKAGES: Final = {
    "cryptography": "AES, HMAC, X25519, ECDSA, X.509 (OpenSSL)",
    "cffi": "needed by cryptography",
    "isal": "gzip (Intel ISA-L)",
    "pysequoia": "OpenPGP signatures (Sequoia); loaded only where a policy has signedBy",
    "urllib3": "HTTP and TLS to registry and broker; no dependencies of its own",
    "zstandard": "zstd",
}


def code_lines(path: Path) -> int:
    """Count lines that hold code: no blank lines, comments or docstrings."""
    source = path.read_text()
    documentation: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            documentation.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = source.splitlines()
    return sum(
        1
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.strip().startswith("#") and number not in documentation
    )


def main() -> int:
    """Print one row per room and per package."""
    source = Path(__file__).parent.parent / "src" / "enclave_cc"
    total = 0
    for room in ROOMS:
        files = sorted((source / room).rglob("*.py"))
        lines = sum(code_lines(path) for path in files)
        total += lines
        print(f"{room:<12} {len(files):>4} files {lines:>7} lines of code")
    print(f"{'total':<12} {'':>4}       {total:>7} lines of code")
    print()
    for name, purpose in PACKAGES.items():
        try:
            version = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            version = "absent"
        print(f"{name:<14} {version:<10} {purpose}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
