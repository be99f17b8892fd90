import pytest

from enclave_cc.core.fields import FieldError
from enclave_cc.formats.owner.settings import OwnerSettings


def parse(**image):
    return OwnerSettings.parse({"image": image})


def test_an_owner_who_says_nothing_has_no_private_keys_and_accepts_no_unauthenticated_wrapping():
    assert parse().decryption.keys == ()
    assert not parse().decryption.insecure_allow_a256ctr


def test_private_keys_keep_their_order():
    keys = ["kbs:///owner/keys/b", "kbs:///owner/keys/a"]
    assert parse(decryption_keys=keys).decryption.keys == tuple(keys)


@pytest.mark.parametrize(
    "keys", [["/etc/key.pem"], ["kbs:///a/b/c", 7], "kbs:///a/b/c", ["kbs:///a/b/c"] * 17]
)
def test_what_is_not_a_short_list_of_resources_is_refused(keys):
    with pytest.raises(FieldError, match="decryption_keys"):
        parse(decryption_keys=keys)


def test_accepting_unauthenticated_wrapping_is_named_as_a_weakness():
    assert parse(insecure_allow_a256ctr=True).weaknesses() == ("insecure_allow_a256ctr",)
