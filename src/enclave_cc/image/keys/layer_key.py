"""
Where a layer's key comes from: every wrapped copy on its descriptor is tried, in a fixed order.

The order is that of the ring's schemes, within an annotation that of its items, within an item that of
the keys. The first copy that opens and fits the public options is taken. Nothing that fails hides what
comes after it, and every attempt leaves a finding.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from enclave_cc.core.errors import (
    EnclaveCcError,
    InvalidInputError,
    RefusedError,
    Stage,
    UnavailableError,
)
from enclave_cc.core.findings import Finding, Outcome
from enclave_cc.formats.ocicrypt.layer_cipher import PUBLIC_OPTIONS_ANNOTATION, PublicOptions
from enclave_cc.formats.ocicrypt.wrapping import KEYS_PREFIX, MAX_ITEMS, decode_item
from enclave_cc.image.keys.broker_private_keys import BrokerPrivateKeys
from enclave_cc.image.keys.schemes import BrokerPackets, JweItems, Pkcs7Items

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from enclave_cc.formats.oci.descriptor import Descriptor
    from enclave_cc.formats.ocicrypt.layer_cipher import PrivateOptions
    from enclave_cc.image.checks import Checks
    from enclave_cc.image.keys.schemes import Attempt, KeyScheme, NamedKey
    from enclave_cc.image.ports import Resources

RULE: Final = "image.layer.key"
# Items times keys, for each scheme: attempts cost time, and a registry chooses how many items there are.
MAX_ATTEMPTS: Final = 64


@dataclass(frozen=True, slots=True)
class LayerKey:
    """All that is needed to authenticate and decrypt one layer."""

    public: PublicOptions
    private: PrivateOptions

    def wipe(self) -> None:
        """Overwrite the key."""
        self.private.symkey.wipe()


class KeyRing:
    """
    The keys that a reader was given, in the order in which their schemes are tried.

    First packets under keys of the broker, then JWE, then PKCS#7, each with the private keys at hand and
    then those that the broker holds (``decryption_keys``), then any further schemes. Without a broker and
    without private keys, the schemes that need them are not known here.
    """

    def __init__(
        self,
        resources: Resources | None = None,
        *,
        decryption_keys: Sequence[str] = (),
        private_keys: Sequence[NamedKey] = (),
        schemes: Sequence[KeyScheme] = (),
        insecure_allow_a256ctr: bool = False,
    ) -> None:
        found: list[KeyScheme] = []
        keys = tuple(private_keys)
        if resources is not None:
            found.append(BrokerPackets(resources, insecure_allow_a256ctr=insecure_allow_a256ctr))
            keys += BrokerPrivateKeys(resources).named(decryption_keys)
        if keys:
            found += (JweItems(keys), Pkcs7Items(keys))
        self._schemes = (*found, *schemes)

    def unwrap(self, descriptor: Descriptor, checks: Checks) -> LayerKey:
        """
        Open the first wrapped copy that opens; keys are asked for one after the other.

        Raises ``UnavailableError`` when a copy could not be tried for now, else ``RefusedError``
        (layer-key-refused, or the broker's), else ``InvalidInputError`` (layer-key-invalid,
        layer-encryption-invalid).
        """
        public = PublicOptions.parse(_annotation(descriptor, PUBLIC_OPTIONS_ANNOTATION))
        problems: list[EnclaveCcError] = []
        for attempt in self._attempts(descriptor, checks, problems):
            try:
                private = attempt.unwrap()
                _require_one_nonce(public, private)
            except EnclaveCcError as error:
                _skip(checks, attempt.name, error)
                problems.append(error)
                continue
            checks.note(Finding(RULE, Outcome.PASSED, attempt.name, attempt.name))
            return LayerKey(public, private)
        unknown = self._note_unknown(descriptor, checks)
        raise _failure(problems, unknown, checks)

    def _attempts(
        self, descriptor: Descriptor, checks: Checks, problems: list[EnclaveCcError]
    ) -> Iterator[Attempt]:
        """Walk the schemes; no layer makes us try more than a bounded number of keys."""
        for scheme in self._schemes:
            attempts = _attempts_of(scheme, descriptor, checks, problems)
            yield from islice(attempts, MAX_ATTEMPTS)
            if next(attempts, None) is not None:
                checks.note(Finding(RULE, Outcome.SKIPPED, _name(scheme), f"after {MAX_ATTEMPTS} attempts"))

    def _note_unknown(self, descriptor: Descriptor, checks: Checks) -> tuple[str, ...]:
        """Name the schemes that the layer is wrapped for and nobody here has a key for."""
        known = {scheme.annotation for scheme in self._schemes}
        names = tuple(
            name.removeprefix(KEYS_PREFIX)
            for name in sorted(descriptor.annotations)
            if name.startswith(KEYS_PREFIX) and name not in known
        )[:MAX_ITEMS]
        for name in names:
            checks.note(Finding(RULE, Outcome.SKIPPED, name, "there is no key for this scheme here"))
        return names


def _attempts_of(
    scheme: KeyScheme, descriptor: Descriptor, checks: Checks, problems: list[EnclaveCcError]
) -> Iterator[Attempt]:
    """Walk items and keys; what does not parse is noted and passed over."""
    for name, text in _items(descriptor, scheme.annotation, checks):
        try:
            yield from scheme.attempts(decode_item(text))
        except EnclaveCcError as error:
            _skip(checks, name, error)
            problems.append(error)


def _name(scheme: KeyScheme) -> str:
    return scheme.annotation.removeprefix(KEYS_PREFIX)


def _items(descriptor: Descriptor, annotation: str, checks: Checks) -> Iterator[tuple[str, str]]:
    """Yield name and text of each item of one annotation, up to more than anybody writes."""
    scheme = annotation.removeprefix(KEYS_PREFIX)
    text = descriptor.annotations.get(annotation, "")
    if not text:
        return
    items = text.split(",", MAX_ITEMS)
    for number, item in enumerate(items[:MAX_ITEMS], start=1):
        yield f"{scheme}, item {number}", item
    if len(items) > MAX_ITEMS:
        checks.note(Finding(RULE, Outcome.SKIPPED, scheme, f"items after the first {MAX_ITEMS}"))


def _skip(checks: Checks, name: str, error: EnclaveCcError) -> None:
    checks.note(Finding(RULE, Outcome.SKIPPED, name, error.detail or error.summary))


def _failure(problems: Sequence[EnclaveCcError], unknown: Sequence[str], checks: Checks) -> EnclaveCcError:
    """Choose what to raise: what may pass with time, then what was refused, then what is malformed."""
    for kind in (UnavailableError, RefusedError):
        for problem in problems:
            if isinstance(problem, kind):
                return _with_findings(problem, checks) if kind is RefusedError else problem
    if unknown:
        return _with_findings(_refused(f"wrapped for {', '.join(unknown)}"), checks)
    return problems[0] if problems else _invalid("the layer has no wrapped key")


def _with_findings(problem: EnclaveCcError, checks: Checks) -> EnclaveCcError:
    """Close the record with the one finding that failed, unless the refusal has its own."""
    if problem.findings:
        return problem
    checks.note(Finding(RULE, Outcome.FAILED, "a wrapped key that opens", problem.detail))
    return RefusedError(
        problem.code,
        problem.summary,
        stage=problem.stage,
        detail=problem.detail,
        findings=checks.findings,
    )


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


def _refused(detail: str) -> RefusedError:
    return RefusedError(
        "layer-key-refused", "the key does not open a layer of the image", stage=Stage.DECRYPT, detail=detail
    )


def _invalid(detail: str) -> InvalidInputError:
    return InvalidInputError(
        "layer-key-invalid", "a layer's wrapped key is malformed", stage=Stage.DECRYPT, detail=detail
    )
