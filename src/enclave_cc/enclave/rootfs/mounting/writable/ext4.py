"""
Make an empty ext4 file system, with the host's mke2fs.

That program sees an empty device and nothing else: it is trusted no more than the kernel is that mounts
what it wrote. Everything it does is said here, so that the host's own configuration changes nothing.
"""

from __future__ import annotations

import subprocess
from typing import Final

from enclave_cc.core.errors import Stage, UnavailableError

# No journal, because nothing is ever mounted again; no checksums, because every block has a tag.
_FEATURES: Final = (
    "none,64bit,dir_index,dir_nlink,ext_attr,extent,extra_isize,filetype,flex_bg,huge_file,large_file,"
    "sparse_super,uninit_bg"
)
_COMMAND: Final = (
    "mke2fs",
    *("-q", "-F", "-t", "ext4", "-O", _FEATURES),
    *("-b", "4096", "-I", "256", "-i", "8192", "-m", "0"),
    # What was never written reads as zeros already.
    *("-E", "nodiscard,lazy_itable_init=1"),
)
_ENVIRONMENT: Final = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "MKE2FS_CONFIG": "/dev/null"}
# It takes some milliseconds; a busy disk may need seconds.
_TIMEOUT_S: Final = 60
_MAX_DETAIL: Final = 1000
MOUNT_OPTIONS: Final = "barrier=0,discard,noinit_itable,errors=remount-ro"


def make_ext4(device: str) -> None:
    """Write the file system onto a block device; raise ``UnavailableError`` (``scratch-unavailable``)."""
    try:
        result = subprocess.run(
            [*_COMMAND, device],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_ENVIRONMENT,
            cwd="/",
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise scratch_unavailable(f"mke2fs: {error}") from error
    if result.returncode != 0:
        raise scratch_unavailable(f"mke2fs: {result.stdout.decode('utf-8', 'replace').strip()[:_MAX_DETAIL]}")


def scratch_unavailable(detail: str) -> UnavailableError:
    """Return the error for a scratch that this machine cannot give."""
    return UnavailableError(
        "scratch-unavailable",
        "the encrypted scratch could not be set up on this node",
        stage=Stage.MOUNT,
        detail=detail,
    )
