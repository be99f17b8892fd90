"""
What the data owner demands of the enclaves of one pod: the settings inside initdata.

They are measured into the identity of both enclaves, so every switch that weakens something is visible to
the broker before it releases a key. The host may write this text, but then the identity is another one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, Self
from urllib.parse import urlsplit

from enclave_cc.core.fields import FieldError, Fields
from enclave_cc.formats.owner.decryption import NO_DECRYPTION_KEYS, DecryptionSettings
from enclave_cc.formats.owner.limits import DEFAULT_LIMITS, Limits
from enclave_cc.formats.owner.lookaside import NO_LOOKASIDE, LookasideSettings
from enclave_cc.formats.owner.registries import RegistrySettings
from enclave_cc.formats.owner.rootfs import DEFAULT_ROOTFS_POLICY, RootfsPolicy

if TYPE_CHECKING:
    from collections.abc import Mapping

ArgsRule = Literal["image", "any"] | tuple[tuple[str, ...], ...]

# Each list is matched against every entry of the host's spec; nobody writes longer ones by hand.
MAX_LIST_ENTRIES: Final = 256
_PUBLIC_KEY_HEADER: Final = "-----BEGIN PUBLIC KEY-----"


@dataclass(frozen=True, slots=True)
class WorkloadPolicy:
    """What the owner accepts of the host's process spec; by default only what the image says."""

    exec: bool = False
    args: ArgsRule = "image"
    env: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    insecure_unrestricted: bool = False

    @classmethod
    def unrestricted(cls) -> Self:
        """Return the policy of a pod without an owner: whatever the host says, recorded all the same."""
        return cls(exec=True, args="any", env=("*",), mounts=("*",), insecure_unrestricted=True)

    @classmethod
    def parse(cls, table: Fields) -> Self:
        """Read the ``[workload]`` table; raise ``FieldError``."""
        table.only("exec", "args", "env", "mounts")
        return cls(
            exec=table.boolean("exec", default=False),
            args=_args_rule(table),
            env=_texts(table, "env"),
            mounts=_texts(table, "mounts"),
        )


@dataclass(frozen=True, slots=True)
class OwnerSettings:
    """The owner's demands, table by table; the default is that of a pod without initdata's settings."""

    broker_url: str | None = None
    broker_tls_ca: str = ""
    broker_token_key: str = ""
    insecure_broker_http: bool = False
    signature_policy: str = ""
    require_encrypted: bool = False
    insecure_accept_unsigned: bool = False
    insecure_http_registries: tuple[str, ...] = ()
    registry_credentials: str = ""
    decryption: DecryptionSettings = NO_DECRYPTION_KEYS
    registries: RegistrySettings = field(default_factory=RegistrySettings)
    limits: Limits = DEFAULT_LIMITS
    lookaside: LookasideSettings = NO_LOOKASIDE
    rootfs: RootfsPolicy = DEFAULT_ROOTFS_POLICY
    workload: WorkloadPolicy = WorkloadPolicy()

    @classmethod
    def parse(cls, toml: Mapping[str, object]) -> Self:
        """Read the tables of the whole document; raise ``FieldError``, also for unknown keys."""
        root = Fields(dict(toml), "enclave-cc.toml")
        root.only("broker", "image", "rootfs", "workload")
        broker, image = root.object("broker"), root.object("image")
        broker.only("url", "tls_ca", "token_key", "insecure_http")
        image.only(
            "signature_policy",
            "require_encrypted",
            "insecure_accept_unsigned",
            "insecure_http_registries",
            "registry_credentials",
            "decryption_keys",
            "insecure_allow_a256ctr",
            "registries",
            "limits",
            "lookaside",
        )
        insecure_http = broker.boolean("insecure_http", default=False)
        plain_http_hosts = _texts(image, "insecure_http_registries")
        return cls(
            broker_url=_broker_url(broker, insecure_http=insecure_http),
            broker_tls_ca=broker.text("tls_ca", default=""),
            broker_token_key=_token_key(broker),
            insecure_broker_http=insecure_http,
            signature_policy=_resource(image, "signature_policy"),
            require_encrypted=image.boolean("require_encrypted", default=False),
            insecure_accept_unsigned=image.boolean("insecure_accept_unsigned", default=False),
            insecure_http_registries=plain_http_hosts,
            registry_credentials=_resource(image, "registry_credentials"),
            decryption=DecryptionSettings.parse(image),
            registries=RegistrySettings.parse(image.object("registries")),
            limits=Limits.parse(image.object("limits")),
            lookaside=LookasideSettings.parse(image.object("lookaside"), plain_http_hosts=plain_http_hosts),
            rootfs=RootfsPolicy.parse(root.object("rootfs")),
            workload=WorkloadPolicy.parse(root.object("workload")),
        )

    def plain_http_hosts(self) -> frozenset[str]:
        """Name the registries that are spoken to without TLS."""
        return self.registries.insecure_hosts().union(self.insecure_http_registries)

    def weaknesses(self) -> tuple[str, ...]:
        """Name the switches that weaken something, for logs and status."""
        switches = {
            "insecure_broker_http": self.insecure_broker_http,
            "insecure_accept_unsigned": self.insecure_accept_unsigned,
            "insecure_allow_a256ctr": self.decryption.insecure_allow_a256ctr,
            "insecure_http_registries": bool(self.plain_http_hosts()),
            "insecure_unrestricted_workload": self.workload.insecure_unrestricted,
        }
        return tuple(name for name, on in switches.items() if on)


def _broker_url(broker: Fields, *, insecure_http: bool) -> str | None:
    if not broker.has("url"):
        if broker.has("token_key") or broker.has("tls_ca"):
            raise broker.error("url", "is missing")
        return None
    url = broker.text("url")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise broker.error("url", "is not a URL") from error
    if parts.scheme not in {"https", "http"} or not parts.hostname:
        raise broker.error("url", "is not an https:// URL")
    if parts.scheme == "http" and not insecure_http:
        # Responses are encrypted to the enclave, but without TLS nothing says who encrypted them.
        raise broker.error("url", "is http:// without insecure_http = true")
    return url


def _token_key(broker: Fields) -> str:
    """Read the key of the broker's tokens, by which an app enclave knows its agent: not optional."""
    if not broker.has("url"):
        return ""
    key = broker.text("token_key")
    if not key.strip().startswith(_PUBLIC_KEY_HEADER):
        raise broker.error("token_key", "is not a PEM public key")
    return key


def _resource(table: Fields, name: str) -> str:
    uri = table.text(name, default="")
    if uri and not uri.startswith("kbs:///"):
        raise table.error(name, "is not a kbs:/// resource")
    return uri


def _args_rule(table: Fields) -> ArgsRule:
    match table.raw("args"):
        case None | "image":
            return "image"
        case "any":
            return "any"
        case list() as lists if 0 < len(lists) <= MAX_LIST_ENTRIES:
            return tuple(_command(table, words) for words in lists)
        case _:
            raise table.error("args", 'is neither "image", "any" nor a list of commands')


def _command(table: Fields, words: object) -> tuple[str, ...]:
    if not isinstance(words, list) or not words:
        raise table.error("args", "holds something that is not a command")
    command = tuple(word for word in words if isinstance(word, str))
    if len(command) != len(words):
        raise table.error("args", "holds a word that is not a text")
    return command


def _texts(table: Fields, name: str) -> tuple[str, ...]:
    texts = table.texts(name)
    if len(texts) > MAX_LIST_ENTRIES:
        raise FieldError(f"{name}: has more than {MAX_LIST_ENTRIES} entries")
    return texts
