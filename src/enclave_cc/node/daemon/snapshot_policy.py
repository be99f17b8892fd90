"""Which images this host may unpack itself; every other image is the guest's, and stays encrypted here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from enclave_cc.node.daemon.snapshot_record import IMAGE_LABEL, REFERENCE_LABEL

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class SnapshotPolicy:
    """Prefixes of image references, such as the pause image's."""

    host_images: tuple[str, ...]

    def is_guest_layer(self, labels: Mapping[str, str]) -> bool:
        """Tell whether a layer about to be unpacked belongs to the guest; no image name means yes."""
        return REFERENCE_LABEL in labels and not self.is_host_image(labels.get(IMAGE_LABEL, ""))

    def is_host_image(self, reference: str) -> bool:
        """Compare with the prefixes; each ends at a separator: ``pause`` does not cover ``pause-evil``."""
        return any(
            reference == prefix or (reference.startswith(prefix) and _ends(prefix, reference))
            for prefix in self.host_images
        )


def _ends(prefix: str, reference: str) -> bool:
    return prefix.endswith(("/", ":", "@")) or reference[len(prefix)] in "/:@"
