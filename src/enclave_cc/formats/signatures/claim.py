"""What a signature says once it is known to be authentic: this manifest, under this name."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Self

from enclave_cc.core import strict_json
from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import Stage
from enclave_cc.formats.oci.edge import foreign, read_object

if TYPE_CHECKING:
    from enclave_cc.core.fields import Fields

# A payload is a few hundred bytes.
MAX_PAYLOAD_BYTES: Final = 64 << 10
SUMMARY: Final = "an image signature is malformed"


class PayloadType(StrEnum):
    """Who wrote a simple-signing payload; one is never taken for the other."""

    COSIGN = "cosign container image signature"
    ATOMIC = "atomic container signature"


@dataclass(frozen=True, slots=True)
class SignedClaim:
    """A manifest and the name it was signed under; the name is empty where the signer wrote none."""

    manifest_digest: Digest
    docker_reference: str

    @classmethod
    def parse(cls, payload: bytes, kind: PayloadType = PayloadType.COSIGN) -> Self:
        """
        Read a payload whose signature verified; raise ``InvalidInputError`` (signature-invalid).

        containers-signature(5): ``critical`` has exactly three members, ``optional`` decides nothing.
        """
        with foreign("signature-invalid", SUMMARY, stage=Stage.VERIFY):
            fields = read_object(payload, "payload", max_bytes=MAX_PAYLOAD_BYTES)
            fields.only("critical", "optional")
            critical = fields.object("critical")
            critical.only("identity", "image", "type")
            if critical.text("type") != kind:
                raise critical.error("type", "is another kind of signature")
            return cls(
                manifest_digest=Digest.parse(_only(critical, "image", "docker-manifest-digest")),
                docker_reference=_only(critical, "identity", "docker-reference"),
            )

    def to_bytes(self, kind: PayloadType = PayloadType.COSIGN) -> bytes:
        """Write the payload that is signed."""
        critical = {
            "identity": {"docker-reference": self.docker_reference},
            "image": {"docker-manifest-digest": str(self.manifest_digest)},
            "type": str(kind),
        }
        return strict_json.canonical({"critical": critical, "optional": None})


def _only(fields: Fields, name: str, member: str) -> str:
    """Read the one member of an object; critical ones that we do not know are refused."""
    inner = fields.object(name)
    inner.only(member)
    return inner.text(member)
