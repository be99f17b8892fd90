"""Our key provider: what callers may ask for, and what they may not."""

import json
import threading

import pytest

from enclave_cc.core.digest import Digest
from enclave_cc.core.errors import EnclaveCcError, InvalidInputError, Stage
from enclave_cc.core.secret import Secret
from enclave_cc.formats.ocicrypt.annotation_packet import AnnotationPacket
from enclave_cc.formats.ocicrypt.keyprovider import UnwrapRequest, WrapRequest, parse_unwrapped, parse_wrapped
from enclave_cc.formats.ocicrypt.layer_cipher import PrivateOptions
from enclave_cc.tenant.keyproviders.grpc_client import GrpcProvider
from enclave_cc.tenant.keyproviders.provider import NamedProvider
from enclave_cc.tenant.keyproviders.served_keys import ServedKeys
from enclave_cc.tenant.keyproviders.server import KeyProviderServer
from enclave_cc.tenant.keyproviders.service import KeyProvider

KID, OTHER = "kbs:///team/keys/app", "kbs:///team/keys/other"
NEW = "kbs:///team/new"
OPTIONS = PrivateOptions.fresh(Digest.of(b"x"))


class Store:
    def __init__(self, *names):
        self.keys = dict.fromkeys(names, b"")

    def create(self, uri, key):
        if str(uri) in self.keys:
            raise InvalidInputError("key-exists", "no", stage=Stage.CONFIG)
        self.keys[str(uri)] = bytes(key.reveal())


@pytest.fixture
def kek(tmp_path):
    (tmp_path / "kek").write_bytes(bytes(range(32)))
    return tmp_path / "kek"


@pytest.fixture
def provider(kek):
    return KeyProvider(ServedKeys([f"{KID}={kek}"]))


def wrap(provider, parameters, options=None):
    request = WrapRequest({"attestation-agent": (parameters.encode(),)}, options or OPTIONS.encode())
    return AnnotationPacket.parse(parse_wrapped(provider.answer("WrapKey", request.encode()).document))


def unwrap(provider, packet):
    request = UnwrapRequest({}, packet.encode()).encode()
    return PrivateOptions.parse(parse_unwrapped(provider.answer("UnWrapKey", request).document))


def refusal(function, *arguments, **options):
    with pytest.raises(EnclaveCcError) as caught:
        function(*arguments, **options)
    return caught.value.code, caught.value.detail


@pytest.mark.parametrize(
    "parameters",
    [
        "Enabled",
        f"keyid={KID}",
        "keyid=/team/keys/app",
        f"keypath={{}}::keyid={KID}::algorithm=A256GCM",
        f"sample=false::keyid={KID}",
    ],
)
def test_what_is_wrapped_opens_with_the_owners_key(provider, kek, parameters):
    packet = wrap(provider, parameters.format(kek))
    assert packet.kid == KID
    assert packet.unwrap(Secret(kek.read_bytes())) == OPTIONS
    assert unwrap(provider, packet) == OPTIONS


def test_no_nonce_is_used_twice(provider):
    assert wrap(provider, "Enabled").iv != wrap(provider, "Enabled").iv


@pytest.mark.parametrize(
    ("parameters", "complaint"),
    [
        ("sample=true", "published"),
        (f"keyid={KID}::sample=true", "published"),
        ("algorithm=A256CTR", "only A256GCM"),
        (f"keyid={OTHER}", "not a key of this provider"),
        ("keypath=/etc/passwd", "is not the file"),
        (f"keyid={KID}::keypath=/dev/zero", "is not the file"),
        (f"keyid={KID}::keyid={KID}", "stands twice"),
        ("keyid", "has no value"),
        ("command=id", "is unknown"),
        ("", "is unknown"),
        ("\udcff".encode("utf-8", "surrogateescape").decode("latin-1"), "is unknown"),
        ("x" * 5000, "too long"),
    ],
)
def test_a_caller_chooses_among_the_owners_keys_and_nothing_else(provider, parameters, complaint):
    code, detail = refusal(wrap, provider, parameters)
    assert code == "keyprovider-refused"
    assert complaint in detail


def test_a_key_id_that_names_another_broker_is_refused(provider):
    assert refusal(wrap, provider, "keyid=kbs://evil.example/a/b/c")[0] == "resource-uri-invalid"


def test_without_a_key_id_there_must_be_one_key(kek):
    provider = KeyProvider(ServedKeys([f"{KID}={kek}", f"{OTHER}={kek}"]))
    assert "keyid: is missing" in refusal(wrap, provider, "Enabled")[1]


def test_new_keys_are_stored_below_the_owners_name_and_used_again():
    store = Store()
    provider = KeyProvider(ServedKeys(new_keys=store, create_in=NEW))
    packets = [wrap(provider, f"keyid={NEW}/a") for _ in range(2)]
    assert list(store.keys) == [f"{NEW}/a"]
    assert packets[0].unwrap(Secret(store.keys[f"{NEW}/a"])) == OPTIONS
    assert unwrap(provider, packets[1]) == OPTIONS
    assert wrap(provider, "Enabled").kid.startswith(f"{NEW}/")
    assert len(store.keys) == 2


@pytest.mark.parametrize("name", [f"{KID}", "kbs:///team/newer/a", "kbs:///team/new.x/a"])
def test_no_key_is_made_elsewhere(name):
    store = Store()
    provider = KeyProvider(ServedKeys(new_keys=store, create_in=NEW))
    assert refusal(wrap, provider, f"keyid={name}")[0] == "keyprovider-refused"
    assert store.keys == {}


def test_a_key_that_the_broker_has_is_neither_replaced_nor_used():
    provider = KeyProvider(ServedKeys(new_keys=Store(f"{NEW}/a"), create_in=NEW))
    assert refusal(wrap, provider, f"keyid={NEW}/a")[0] == "key-exists"
    assert refusal(wrap, provider, f"keyid={NEW}/a")[0] == "key-exists"


def test_packets_of_other_keys_are_not_opened(provider):
    packet = AnnotationPacket.wrap(OPTIONS, kek=Secret(bytes(32)), kid=OTHER)
    assert refusal(unwrap, provider, packet)[0] == "keyprovider-refused"
    packet = AnnotationPacket.wrap(OPTIONS, kek=Secret(bytes(32)), kid=KID)
    assert refusal(unwrap, provider, packet)[0] == "layer-key-refused"


def test_what_is_not_a_layers_options_is_not_wrapped(provider):
    assert refusal(wrap, provider, "Enabled", b"anything")[0] == "layer-encryption-invalid"


def test_options_that_are_not_encoded_are_no_request(provider):
    document = json.loads(WrapRequest({"attestation-agent": (b"Enabled",)}, OPTIONS.encode()).encode())
    document["keywrapparams"]["optsdata"] = OPTIONS.encode().decode()
    code, _ = refusal(provider.answer, "WrapKey", json.dumps(document).encode())
    assert code == "keyprovider-request-invalid"


def test_method_and_document_must_ask_for_the_same(provider):
    document = UnwrapRequest({}, b"x").encode()
    assert refusal(provider.answer, "WrapKey", document)[0] == "keyprovider-refused"
    assert refusal(provider.answer, "WrapKey", b"{}")[0] == "keyprovider-request-invalid"


@pytest.mark.parametrize("text", ["x", f"{KID}", "file:///x=y", f"{KID}=/nowhere"])
def test_a_listed_key_is_a_name_and_a_file(text):
    assert refusal(ServedKeys, [text])[0] in {"recipient-invalid", "file-unusable"}


def test_a_name_for_new_keys_has_two_parts():
    assert refusal(ServedKeys, create_in="kbs:///a")[0] == "resource-uri-invalid"


@pytest.fixture(params=["127.0.0.1:0", "unix"])
def served(request, provider, short_tmp):
    said = []
    listen = f"unix:{short_tmp}/k" if request.param == "unix" else request.param
    server = KeyProviderServer(provider, listen, said.append)
    address = server.start()
    yield address, said
    server.stop()


def named(address):
    return NamedProvider("attestation-agent", f"keyid={KID}", GrpcProvider(address))


def test_the_server_wraps_and_unwraps_and_says_so_without_keys(served):
    address, said = served
    (attempt,) = named(address).attempts(named(address).wrap(OPTIONS))
    assert attempt.unwrap() == OPTIONS
    assert said == [f"WrapKey done with {KID}", f"UnWrapKey done with {KID}"]


def test_a_refusal_arrives_as_one(served):
    address, said = served
    provider = NamedProvider("attestation-agent", f"keyid={OTHER}", GrpcProvider(address))
    code, detail = refusal(provider.wrap, OPTIONS)
    assert code == "keyprovider-refused"
    assert "PERMISSION_DENIED" in detail
    assert OTHER in detail
    assert len(said) == 1
    assert "refused" in said[0]


def test_a_socket_is_private_and_goes_with_the_server(provider, short_tmp):
    path = short_tmp / "k"
    server = KeyProviderServer(provider, f"unix:{path}", lambda _: None)
    server.start()
    assert path.stat().st_mode & 0o077 == 0
    server.stop()
    assert not path.exists()


def test_what_is_no_socket_is_left_alone(provider, short_tmp):
    (short_tmp / "k").write_text("a file")
    server = KeyProviderServer(provider, f"unix:{short_tmp}/k", lambda _: None)
    assert refusal(server.start)[0] == "keyprovider-config-invalid"
    assert (short_tmp / "k").read_text() == "a file"


def test_a_port_that_is_taken_is_not_shared(provider):
    first = KeyProviderServer(provider, "127.0.0.1:0", lambda _: None)
    address = first.start()
    try:
        assert (
            refusal(KeyProviderServer(provider, address, lambda _: None).start)[0]
            == "keyprovider-config-invalid"
        )
    finally:
        first.stop()


@pytest.mark.parametrize(
    "address", ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "broker.example:1", "1", "dns:///x:1"]
)
def test_layer_keys_do_not_travel_in_plain_text(provider, address):
    assert refusal(KeyProviderServer, provider, address, lambda _: None)[0] == "keyprovider-config-invalid"
    assert refusal(named(address).wrap, OPTIONS)[0] == "keyprovider-config-invalid"


def test_a_server_that_is_not_there_is_unavailable():
    assert refusal(named("127.0.0.1:1").wrap, OPTIONS)[0] == "keyprovider-unavailable"


def test_a_server_that_does_not_answer_is_unavailable(provider):
    slow = threading.Event()

    class Slow:
        def answer(self, method, document):
            slow.wait(20)
            return provider.answer(method, document)

    server = KeyProviderServer(Slow(), "127.0.0.1:0", lambda _: None)
    address = server.start()
    try:
        late = NamedProvider("attestation-agent", "Enabled", GrpcProvider(address, timeout_s=0.2))
        assert refusal(late.wrap, OPTIONS)[0] == "keyprovider-unavailable"
    finally:
        slow.set()
        server.stop()


def test_a_fault_of_ours_tells_nothing():
    class Broken:
        def answer(self, method, document):
            raise KeyError("the key itself")

    said = []
    server = KeyProviderServer(Broken(), "127.0.0.1:0", said.append)
    address = server.start()
    try:
        assert "the key itself" not in refusal(named(address).wrap, OPTIONS)[1]
    finally:
        server.stop()
    assert said == ["WrapKey failed: KeyError"]


def test_an_answer_that_is_none_is_refused():
    class Odd:
        def answer(self, method, document):
            return type("Answer", (), {"document": b'{"keywrapresults": {}}', "key_id": ""})

    server = KeyProviderServer(Odd(), "127.0.0.1:0", lambda _: None)
    address = server.start()
    try:
        assert refusal(named(address).wrap, OPTIONS)[0] == "keyprovider-answer-invalid"
    finally:
        server.stop()
