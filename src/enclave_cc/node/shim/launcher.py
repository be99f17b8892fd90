"""
Writes the program that containerd finds as ``containerd-shim-rune-v2``.

A script, because an interpreter with ``-I -S`` and one path entry starts in half the time of an
installed entry point. Used at installation; the shim itself never imports this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

NAME: Final = "containerd-shim-rune-v2"
# Linux reads no more of a script's first line.
_MAX_SHEBANG_BYTES: Final = 255


def write_shim_launcher(path: Path, config_path: Path, python: Path, source_root: Path) -> None:
    """Write the script; ``source_root`` is the directory that holds the package. Raises ``ValueError``."""
    shebang = f"#!{python} -IS"
    if len(shebang) > _MAX_SHEBANG_BYTES or any(character.isspace() for character in str(python)):
        raise ValueError("the interpreter's path does not fit into a script's first line")
    lines = (
        shebang,
        "import sys",
        f"sys.path.insert(0, {str(source_root)!r})",
        "from enclave_cc.node.shim.main import main",
        f"main({str(config_path)!r})",
        "",
    )
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text("\n".join(lines), encoding="utf-8")
    temporary.chmod(0o755)
    temporary.replace(path)
