"""
A stand-in ``/etc/passwd`` for images that name their user.

containerd looks the name up in a container's snapshot, which is empty here because the real file is
the guest's. The stand-in lets the name pass; the agent resolves it again in the real root file
system, so the number below is never used.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import EnclaveCcError
from enclave_cc.core.fields import FieldError, Fields
from enclave_cc.core.strict_json import InvalidJsonError, loads
from enclave_cc.node.daemon.containerd_client import MAX_DOCUMENT_BYTES
from enclave_cc.node.daemon.snapshot_record import IMAGE_LABEL

if TYPE_CHECKING:
    from pathlib import Path

    from enclave_cc.node.daemon.containerd_client import ContainerdClient

_LOG: Final = logging.getLogger(__name__)
_NAMESPACE: Final = "k8s.io"
_STAND_IN_ID: Final = 65532
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_ARCHITECTURE: Final = "amd64"
_ROOT_LINE: Final = "root:x:0:"


class NamedUser:
    """Writes the stand-in into a container's empty directory, if containerd knows the image."""

    def __init__(self, client: ContainerdClient) -> None:
        self._client = client

    def seed(self, labels: dict[str, str], rootfs: Path) -> None:
        """Find the image's user by the labels of its top layer and write the files if the user is a name."""
        image = labels.get(IMAGE_LABEL, "")
        if not image:
            return
        try:
            user = self._user_of(image)
        except (EnclaveCcError, FieldError, InvalidJsonError) as error:
            _LOG.info("named-user-unknown", extra={"fields": {"image": image, "error": str(error)}})
            return
        user_name, _, group_name = user.partition(":")
        if _NAME.fullmatch(user_name) and user_name != "root":
            _write(rootfs, user_name, group_name if _NAME.fullmatch(group_name) else user_name)

    def _user_of(self, image: str) -> str:
        manifest = self._document(self._client.digest_of(_NAMESPACE, image), "manifest")
        for candidate in manifest.array("manifests"):
            entry = Fields(candidate, "index")
            if entry.object("platform").text("architecture", default="") == _ARCHITECTURE:
                manifest = self._document(entry.text("digest"), "manifest")
                break
        config = self._document(manifest.object("config").text("digest"), "config")
        return config.object("config").text("User", default="")

    def _document(self, digest: str, name: str) -> Fields:
        text = self._client.document(_NAMESPACE, digest)
        return Fields(loads(text, max_bytes=MAX_DOCUMENT_BYTES), name)


def _write(rootfs: Path, user: str, group: str) -> None:
    etc = rootfs / "etc"
    etc.mkdir(mode=0o755, exist_ok=True)
    lines = (f"{_ROOT_LINE}0::/:", f"{user}:x:{_STAND_IN_ID}:{_STAND_IN_ID}::/:", "")
    (etc / "passwd").write_text("\n".join(lines), encoding="utf-8")
    (etc / "group").write_text(f"{_ROOT_LINE}\n{group}:x:{_STAND_IN_ID}:\n", encoding="utf-8")
