"""How calls to a key provider fail; the details name the provider and never quote a document."""

from __future__ import annotations

from enclave_cc.core.errors import InvalidInputError, RefusedError, Stage, UnavailableError

_MAX_CHARS = 512


def unavailable(detail: str) -> UnavailableError:
    """Say that a provider did not answer; it may later."""
    return UnavailableError(
        "keyprovider-unavailable",
        "a key provider does not answer",
        stage=Stage.DECRYPT,
        detail=detail[:_MAX_CHARS],
    )


def refused(detail: str) -> RefusedError:
    """Say that a provider said no."""
    return RefusedError(
        "keyprovider-refused", "a key provider refused", stage=Stage.DECRYPT, detail=detail[:_MAX_CHARS]
    )


def misconfigured(detail: str) -> InvalidInputError:
    """Say that a provider cannot be called as it is configured."""
    return InvalidInputError(
        "keyprovider-config-invalid",
        "a key provider is not configured",
        stage=Stage.CONFIG,
        detail=detail[:_MAX_CHARS],
    )
