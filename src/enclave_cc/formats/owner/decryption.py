"""How layer keys may be unwrapped: a part of the owner's ``[image]`` table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from enclave_cc.core.fields import Fields

# Each is tried on each wrapped key of each layer.
MAX_DECRYPTION_KEYS: Final = 16


@dataclass(frozen=True, slots=True)
class DecryptionSettings:
    """Private keys for JWE and PKCS#7, named as resources, and one switch that weakens."""

    keys: tuple[str, ...] = ()
    insecure_allow_a256ctr: bool = False

    @classmethod
    def parse(cls, image: Fields) -> Self:
        """Read the members of the ``[image]`` table that this part is about; raise ``FieldError``."""
        keys = image.texts("decryption_keys")
        if len(keys) > MAX_DECRYPTION_KEYS:
            raise image.error("decryption_keys", f"has more than {MAX_DECRYPTION_KEYS} entries")
        if not all(key.startswith("kbs:///") for key in keys):
            raise image.error("decryption_keys", "holds something that is not a kbs:/// resource")
        return cls(keys, image.boolean("insecure_allow_a256ctr", default=False))


NO_DECRYPTION_KEYS: Final = DecryptionSettings()
