"""Pictures are well-formed, and their bars are as long as the figures say."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from bench.bar_chart import Bar, Group, bar_chart

SVG = "{http://www.w3.org/2000/svg}"


def bars(chart):
    return [rect for rect in chart.iter(f"{SVG}rect") if rect.get("height") == "11" and rect.get("y") != "31"]


def test_bars_of_one_group_share_a_scale():
    group = Group("read", "ms", (Bar("a", 10, 9, 20), Bar("b", 5, 5, 5)))
    chart = ET.fromstring(bar_chart("t", [group], ("a", "b")))
    first, second = (float(bar.get("width")) for bar in bars(chart))
    assert first == 2 * second


def test_a_bar_has_the_colour_of_its_series():
    groups = [Group("x", "s", (Bar("b", 1, 1, 1),)), Group("y", "MB", (Bar("a", 1, 1, 1), Bar("b", 1, 1, 1)))]
    chart = ET.fromstring(bar_chart("t", groups, ("a", "b")))
    assert [bar.get("class") for bar in bars(chart)] == ["s1", "s0", "s1"]


def test_names_are_escaped():
    group = Group("<&>", "<s>", (Bar("a<b", 1, 1, 1),))
    chart = ET.fromstring(bar_chart('"quoted" & <odd>', [group], ("a<b",)))
    texts = [text.text for text in chart.iter(f"{SVG}text")]
    assert {"<&>", '"quoted" & <odd>', "a<b", "1 <s>"} <= set(texts)
