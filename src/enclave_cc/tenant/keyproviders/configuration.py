"""
Which key providers there are: the file that ocicrypt reads (``OCICRYPT_KEYPROVIDER_CONFIG``).

``{"key-providers": {NAME: {"cmd": {"path", "args"}, "grpc": "HOST:PORT", "grpc-tls": {…}}}}``. A program
goes before a server, as in ocicrypt. ``ttrpc`` and ``native`` are other agents' and are not spoken here;
``insecure-skip-verify`` is refused: TLS with anybody is no TLS.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol

from enclave_cc.core.fields import FieldError, Fields
from enclave_cc.core.strict_json import InvalidJsonError, loads
from enclave_cc.tenant.keyproviders.command import CommandProvider
from enclave_cc.tenant.keyproviders.failures import misconfigured
from enclave_cc.tenant.keyproviders.grpc_client import GrpcProvider, GrpcTls
from enclave_cc.tenant.places.files import unusable

CONFIG_VARIABLE: Final = "OCICRYPT_KEYPROVIDER_CONFIG"
_MAX_BYTES: Final = 1 << 20


class Provider(Protocol):
    """Something that answers the protocol's documents."""

    def call(self, method: str, document: bytes) -> bytes:
        """Answer one request; raise the error family."""
        ...


def find_provider(name: str, config: Path | None) -> Provider:
    """Return the provider of that name; raise ``InvalidInputError`` (keyprovider-config-invalid)."""
    if config is None:
        raise misconfigured(f"{name}: no configuration was named (--keyprovider-config, {CONFIG_VARIABLE})")
    try:
        root = Fields(loads(config.read_bytes(), max_bytes=_MAX_BYTES), config.name)
        providers = root.object("key-providers")
        if not providers.has(name):
            raise misconfigured(
                f"{name}: is not in {config}, which has {', '.join(providers.names()) or 'none'}"
            )
        return _provider(providers.object(name))
    except OSError as error:
        raise unusable(config, error) from error
    except (InvalidJsonError, FieldError) as error:
        raise misconfigured(f"{config}: {error}") from error


def _provider(entry: Fields) -> Provider:
    if entry.has("cmd"):
        command = entry.object("cmd")
        return CommandProvider((command.text("path"), *command.texts("args")))
    if entry.has("grpc"):
        return GrpcProvider(entry.text("grpc"), _tls(entry))
    raise entry.error("cmd", "and grpc are both missing")


def _tls(entry: Fields) -> GrpcTls | None:
    if not entry.has("grpc-tls"):
        return None
    tls = entry.object("grpc-tls")
    tls.only("root-ca-file", "cert-file", "key-file", "server-name", "insecure-skip-verify")
    if tls.boolean("insecure-skip-verify", default=False):
        raise tls.error("insecure-skip-verify", "would hand layer keys to anybody")
    return GrpcTls(
        ca=_file(tls, "root-ca-file"),
        certificate=_file(tls, "cert-file"),
        key=_file(tls, "key-file"),
        server_name=tls.text("server-name", default=""),
    )


def _file(tls: Fields, name: str) -> bytes | None:
    path = tls.text(name, default="")
    return Path(path).read_bytes() if path else None
