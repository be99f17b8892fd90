"""What the layers of one image share while they are opened: the spool, and how much they may become."""

from __future__ import annotations

from enclave_cc.core.errors import Stage
from enclave_cc.image.layers.spool import Spool
from enclave_cc.image.limits import DEFAULT_LIMITS, Limits, Meter


class ImageBudget:
    """Made once per image and given to everybody who opens one of its layers."""

    def __init__(self, limits: Limits = DEFAULT_LIMITS) -> None:
        self.limits = limits
        self.spool = Spool(limits.spool_bytes)
        self.uncompressed = Meter(
            "image.limit.uncompressed-image-bytes",
            "the image grows beyond the limit",
            limit=limits.uncompressed_image_bytes,
            stage=Stage.UNPACK,
        )
