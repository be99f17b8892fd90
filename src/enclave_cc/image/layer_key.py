"""Where a layer's key comes from: the packets on its descriptor and the broker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import EnclaveCcError, InvalidInputError, RefusedError, Stage
from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.core.secret import Secret
from enclave_cc.formats.ocicrypt.annotation_packet import KEYS_ANNOTATION, parse_packets
from enclave_cc.formats.ocicrypt.layer_cipher import PUBLIC_OPTIONS_ANNOTATION, PublicOptions

if TYPE_CHECKING:
    from enclave_cc.formats.oci.descriptor import Descriptor
    from enclave_cc.formats.ocicrypt.annotation_packet import AnnotationPacket
    from enclave_cc.formats.ocicrypt.layer_cipher import PrivateOptions
    from enclave_cc.image.checks import Checks
    from enclave_cc.image.ports import Resources

RULE: Final = "image.layer.key"


@dataclass(frozen=True, slots=True)
class LayerKey:
    """All that is needed to authenticate and decrypt one layer."""

    public: PublicOptions
    private: PrivateOptions

    def wipe(self) -> None:
        """Overwrite the key."""
        self.private.symkey.wipe()


def unwrap_layer_key(
    descriptor: Descriptor,
    resources: Resources,
    checks: Checks,
    *,
    insecure_allow_a256ctr: bool = False,
) -> LayerKey:
    """
    Open the first packet that opens; the broker is asked for one key after the other.

    Raises ``RefusedError`` (layer-key-refused), ``InvalidInputError`` (layer-key-invalid,
    layer-encryption-invalid), or what the broker's client raises for the first packet.
    """
    public = PublicOptions.parse(_annotation(descriptor, PUBLIC_OPTIONS_ANNOTATION))
    packets = parse_packets(_annotation(descriptor, KEYS_ANNOTATION))
    problem: EnclaveCcError | None = None
    for packet in packets:
        try:
            private = _unwrap(packet, resources, insecure_allow_a256ctr=insecure_allow_a256ctr)
        except EnclaveCcError as error:
            checks.note(Finding(RULE, Outcome.SKIPPED, packet.kid, error.detail or error.summary))
            problem = problem or error
            continue
        checks.note(Finding(RULE, Outcome.PASSED, packet.kid, packet.kid))
        _require_one_nonce(public, private)
        return LayerKey(public, private)
    if isinstance(problem, RefusedError) and not problem.findings:
        finding = Finding(RULE, Outcome.FAILED, "a packet that its key opens", problem.detail)
        checks.require(finding, problem.code, problem.summary, stage=problem.stage)
    raise problem or _invalid("the layer has no wrapped key")


def _unwrap(
    packet: AnnotationPacket, resources: Resources, *, insecure_allow_a256ctr: bool
) -> PrivateOptions:
    kek = Secret(resources.get(packet.kid))
    try:
        return packet.unwrap(kek, insecure_allow_a256ctr=insecure_allow_a256ctr)
    finally:
        kek.wipe()


def _annotation(descriptor: Descriptor, name: str) -> str:
    text = descriptor.annotations.get(name)
    if not text:
        raise _invalid(f"the layer has no annotation {name}")
    return text


def _require_one_nonce(public: PublicOptions, private: PrivateOptions) -> None:
    """Refuse a public nonce that contradicts the wrapped one; it is never used instead of it."""
    if public.nonce and public.nonce != private.nonce:
        raise InvalidInputError(
            "layer-encryption-invalid",
            "a layer's encryption options are malformed",
            stage=Stage.DECRYPT,
            detail="the public nonce differs from the wrapped one",
        )


def _invalid(detail: str) -> InvalidInputError:
    return InvalidInputError(
        "layer-key-invalid", "a layer's wrapped key is malformed", stage=Stage.DECRYPT, detail=detail
    )
