"""registries.conf: which endpoint is asked for which name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enclave_cc.core.errors import InvalidInputError, RefusedError
from enclave_cc.formats.oci.reference import Reference
from enclave_cc.formats.registries.configuration import Registries

DIGEST = f"sha256:{'a' * 64}"


def parse(text, *, strict=True):
    return Registries.parse(text.encode(), strict=strict)


def asked(registries, image):
    return [str(endpoint.reference) for endpoint in registries.endpoints(Reference.parse(image))]


def rule(**members):
    return "[[registry]]\n" + "".join(f'{name} = "{value}"\n' for name, value in members.items())


def test_without_a_rule_a_name_means_itself():
    assert asked(Registries(), "registry.example/app:1") == ["registry.example/app:1"]


@pytest.mark.parametrize(
    ("prefix", "image", "covered"),
    [
        ("registry.example", "registry.example/app:1", True),
        ("registry.example/team", "registry.example/team/app:1", True),
        ("registry.example/team/app", "registry.example/team/app:1", True),
        ("registry.example/team/app", f"registry.example/team/app@{DIGEST}", True),
        ("registry.example/team/app:1", "registry.example/team/app:1", True),
        ("registry.example/team/app:1", "registry.example/team/app:10", False),
        ("registry.example/te", "registry.example/team/app:1", False),
        ("registry.example", "registry.example.evil.example/app:1", False),
        ("registry.example", "registry.example:5000/app:1", False),
        ("registry.example", "evil.example/registry.example/app:1", False),
        ("docker.io", "evil.example/x/docker.io/foo:1", False),
        ("*.example.com", "a.example.com/app:1", True),
        ("*.example.com", "a.b.example.com:5000/app:1", True),
        ("*.example.com", "example.com/app:1", False),
        ("*.example.com", "badexample.com/app:1", False),
        ("*.example.com", "evil.example/a.example.com/app:1", False),
    ],
)
def test_a_prefix_covers_whole_components_from_the_beginning(prefix, image, covered):
    registries = parse(f'[[registry]]\nprefix = "{prefix}"\nblocked = true\n')
    if covered:
        with pytest.raises(RefusedError) as caught:
            registries.endpoints(Reference.parse(image))
        assert caught.value.code == "registry-blocked"
    else:
        assert asked(registries, image) == [image]


def test_the_longest_prefix_wins_and_a_name_beats_a_wildcard():
    registries = parse(
        rule(prefix="*.example.com", location="wild.example")
        + rule(prefix="*.b.example.com", location="wilder.example")
        + rule(prefix="a.example.com", location="host.example")
        + rule(prefix="a.example.com/team", location="team.example/mirror")
    )
    assert asked(registries, "c.example.com:80/x:1") == ["wild.example/x:1"]
    assert asked(registries, "a.b.example.com/x:1") == ["wilder.example/x:1"]
    assert asked(registries, "a.example.com/x:1") == ["host.example/x:1"]
    assert asked(registries, "a.example.com/team/x:1") == ["team.example/mirror/x:1"]


def test_mirrors_come_first_and_the_location_last():
    registries = parse(
        rule(prefix="registry.example", location="moved.example/all")
        + '[[registry.mirror]]\nlocation = "m1.example:5000/cache"\ninsecure = true\n'
        + '[[registry.mirror]]\nlocation = "m2.example"\n'
    )
    endpoints = registries.endpoints(Reference.parse(f"registry.example/app:1@{DIGEST}"))
    assert [(str(endpoint.reference), endpoint.plain_http) for endpoint in endpoints] == [
        (f"m1.example:5000/cache/app:1@{DIGEST}", True),
        (f"m2.example/app:1@{DIGEST}", False),
        (f"moved.example/all/app:1@{DIGEST}", False),
    ]
    assert registries.insecure_hosts() == {"m1.example:5000"}


@pytest.mark.parametrize(
    ("use", "by_tag", "by_digest"),
    [("all", True, True), ("digest-only", False, True), ("tag-only", True, False)],
)
def test_a_mirror_may_be_for_tags_or_digests_only(use, by_tag, by_digest):
    registries = parse(
        rule(prefix="registry.example")
        + f'[[registry.mirror]]\nlocation = "m.example"\npull-from-mirror = "{use}"\n'
    )
    assert ("m.example/app:1" in asked(registries, "registry.example/app:1")) is by_tag
    image = f"app@{DIGEST}"
    assert (f"m.example/{image}" in asked(registries, f"registry.example/{image}")) is by_digest


def test_mirror_by_digest_only_is_about_all_mirrors():
    registries = parse(
        '[[registry]]\nprefix = "registry.example"\nmirror-by-digest-only = true\n'
        '[[registry.mirror]]\nlocation = "m.example"\n'
    )
    assert asked(registries, "registry.example/app:1") == ["registry.example/app:1"]
    assert len(asked(registries, f"registry.example/app@{DIGEST}")) == 2


def test_a_block_wins_over_mirrors():
    registries = parse(
        '[[registry]]\nprefix = "registry.example"\nblocked = true\n'
        '[[registry.mirror]]\nlocation = "m.example"\n'
    )
    with pytest.raises(RefusedError):
        asked(registries, "registry.example/app:1")


def test_docker_hub_is_an_ordinary_registry():
    registries = parse(rule(location="docker.io") + '[[registry.mirror]]\nlocation = "m.example/hub"\n')
    assert asked(registries, "busybox:1") == [
        "m.example/hub/library/busybox:1",
        "docker.io/library/busybox:1",
    ]


def test_a_name_with_a_registry_is_never_looked_for_elsewhere():
    registries = parse('unqualified-search-registries = ["a.example", "docker.io"]')
    assert registries.candidates("docker.io/team/app") == (Reference.parse("docker.io/team/app"),)
    assert asked(registries, "docker.io/team/app:1") == ["docker.io/team/app:1"]


def test_a_short_name_is_looked_for_where_the_configuration_says():
    registries = parse(
        'unqualified-search-registries = ["a.example", "docker.io"]\n'
        '[aliases]\n"tool" = "b.example/team/tool"\n'
    )
    assert [str(name) for name in registries.candidates("app:1")] == [
        "a.example/app:1",
        "docker.io/library/app:1",
    ]
    assert [str(name) for name in registries.candidates("tool:2")] == ["b.example/team/tool:2"]
    assert [str(name) for name in registries.candidates(f"tool@{DIGEST}")] == [
        f"b.example/team/tool@{DIGEST}"
    ]
    assert [str(name) for name in Registries().candidates("app")] == ["docker.io/library/app:latest"]


@pytest.mark.parametrize(
    "text",
    [
        "not toml [",
        'unknown = "x"',
        rule(blocked="x"),
        rule(prefix="registry.example", unknown="x"),
        rule(location=""),
        rule(prefix="https://registry.example"),
        rule(prefix="registry"),
        rule(prefix="*.example.com/team"),
        rule(prefix="*.*.example.com"),
        rule(prefix="registry.example", location="Registry.example/UPPER"),
        rule(prefix="registry.example", location="registry.example/app:1"),
        rule(prefix="registry.example") * 2,
        rule(prefix="registry.example") + "[[registry.mirror]]\ninsecure = true\n",
        rule(prefix="registry.example") + '[[registry.mirror]]\nlocation = "m.example"\nunknown = 1\n',
        rule(prefix="registry.example")
        + '[[registry.mirror]]\nlocation = "m.example"\npull-from-mirror = "never"\n',
        (
            '[[registry]]\nprefix = "a.example"\nmirror-by-digest-only = true\n'
            '[[registry.mirror]]\nlocation = "m.example"\npull-from-mirror = "all"\n'
        ),
        '[[registry]]\nprefix = "*.example.com"\ninsecure = true\n',
        'unqualified-search-registries = ["not a registry"]',
        'registry = "x"',
        "registry = [1]",
        rule(prefix="a.example") + '[[registry.mirror]]\nlocation = "m.example"\n' * 17,
        "".join(rule(prefix=f"a{number}.example") for number in range(257)),
    ],
)
def test_what_is_not_understood_is_refused(text):
    with pytest.raises(InvalidInputError) as caught:
        parse(text)
    assert caught.value.code == "registries-config-invalid"


def test_a_nodes_file_may_hold_keys_for_other_tools():
    text = 'credential-helpers = ["x"]\n' + rule(prefix="registry.example", location="m.example", unknown="x")
    assert asked(parse(text, strict=False), "registry.example/app:1") == ["m.example/app:1"]


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_the_declared_error(data):
    try:
        Registries.parse(data, strict=True)
    except InvalidInputError as error:
        assert error.code == "registries-config-invalid"  # noqa: PT017


@given(
    st.from_regex(r"[a-z.*:/@0-9]{1,30}", fullmatch=True), st.from_regex(r"[a-z.:/0-9]{1,30}", fullmatch=True)
)
def test_no_prefix_and_location_raise_anything_but_the_declared_errors(prefix, location):
    try:
        parse(rule(prefix=prefix, location=location)).endpoints(Reference.parse("a.example/team/app:1"))
    except InvalidInputError as error:
        assert error.code in {"registries-config-invalid", "reference-invalid"}  # noqa: PT017
