"""SHA-2 from the interpreter's own modules: ``import hashlib`` loads OpenSSL, 3 ms of every shim start."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hashlib import sha256, sha512
else:
    try:
        from _sha2 import sha256, sha512
    except ImportError:  # Python 3.11 keeps them apart
        from _sha256 import sha256
        from _sha512 import sha512

__all__ = ["sha256", "sha512"]
