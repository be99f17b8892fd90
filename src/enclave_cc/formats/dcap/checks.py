"""The record of one verification: every rule leaves a finding, the first failed rule ends it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar, cast

from enclave_cc.core.errors import RefusedError, Stage
from enclave_cc.core.findings import Finding, Outcome

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable
    from typing import NoReturn

T = TypeVar("T")


class Checks:
    """Collects findings; each method raises RefusedError with all of them when its rule fails."""

    def __init__(self) -> None:
        self._findings: list[Finding] = []

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings so far, in the order of evaluation."""
        return tuple(self._findings)

    def require(self, code: str, rule: str, *, holds: bool, expected: str = "", actual: str = "") -> None:
        """Record `rule`; refuse under `code` unless it holds."""
        outcome = Outcome.PASSED if holds else Outcome.FAILED
        self._findings.append(Finding(rule, outcome, expected, actual))
        if not holds:
            self._refuse(code, rule)

    def present(self, code: str, rule: str, value: T | None, *, actual: str) -> T:
        """Require a value to be there and return it."""
        self.require(code, rule, holds=value is not None, actual=actual)
        return cast("T", value)

    def equal(self, code: str, rule: str, *, expected: bytes | int, actual: bytes | int) -> None:
        """Require two values to be the same; bytes are shown in hexadecimal."""
        self.require(code, rule, holds=expected == actual, expected=_show(expected), actual=_show(actual))

    def current(self, code: str, rule: str, now: dt.datetime, start: dt.datetime, end: dt.datetime) -> None:
        """Require `now` to lie within a validity period."""
        self.require(
            code,
            rule,
            holds=start <= now <= end,
            expected=f"{start.isoformat()} to {end.isoformat()}",
            actual=now.isoformat(),
        )

    def attempt(self, code: str, rule: str, action: Callable[[], T]) -> T:
        """Record `rule` as what `action` does; refuse if it raises.

        The libraries below raise many kinds of errors for hostile bytes; any of them is a refusal.
        """
        try:
            result = action()
        except Exception as error:  # noqa: BLE001 - fail closed: whatever a parser raises, the quote is refused
            self._findings.append(
                Finding(rule, Outcome.FAILED, actual=f"{type(error).__name__}: {error}"[:200])
            )
            self._refuse(code, rule, error)
        self._findings.append(Finding(rule, Outcome.PASSED))
        return result

    def _refuse(self, code: str, rule: str, cause: Exception | None = None) -> NoReturn:
        raise RefusedError(
            code, "the quote was refused", stage=Stage.ATTEST, detail=rule, findings=self.findings
        ) from cause


def _show(value: bytes | int) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
