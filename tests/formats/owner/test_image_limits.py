"""The owner's limits: looser or stricter than ours, never beyond what an enclave can keep."""

from __future__ import annotations

import pytest

from enclave_cc.core.fields import FieldError, Fields
from enclave_cc.formats.owner.limits import CAPS, DEFAULT_LIMITS, Limits
from enclave_cc.formats.owner.settings import OwnerSettings


def parse(**members):
    return Limits.parse(Fields(members, "enclave-cc.toml.image.limits"))


def test_nothing_said_means_the_defaults():
    assert parse() == DEFAULT_LIMITS
    assert OwnerSettings.parse({}).limits == DEFAULT_LIMITS


@pytest.mark.parametrize("name", sorted(CAPS))
def test_every_limit_can_be_set_up_to_its_cap(name):
    assert getattr(parse(**{name: 1}), name) == 1
    assert getattr(parse(**{name: CAPS[name]}), name) == CAPS[name]
    assert getattr(DEFAULT_LIMITS, name) <= CAPS[name]


@pytest.mark.parametrize("name", sorted(CAPS))
@pytest.mark.parametrize("value", [0, -1, True, 1.5, "many", [1]])
def test_what_is_no_number_in_bounds_is_refused(name, value):
    with pytest.raises(FieldError):
        parse(**{name: value})


@pytest.mark.parametrize("name", sorted(CAPS))
def test_more_than_the_cap_is_refused(name):
    with pytest.raises(FieldError):
        parse(**{name: CAPS[name] + 1})


@pytest.mark.parametrize("name", ["spool_bytes", "ratio_free_bytes", "speed"])
def test_other_names_are_refused(name):
    with pytest.raises(FieldError):
        parse(**{name: 1})


def test_the_settings_read_the_table():
    settings = OwnerSettings.parse({"image": {"limits": {"layers": 5, "pull_seconds": 60}}})
    assert (settings.limits.layers, settings.limits.pull_seconds) == (5, 60)
