"""Whoever follows a link of the documentation arrives at a file."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*(ROOT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md")), *ROOT.glob("docs/**/*.md")]
)

# What looks like a link inside of code is an example.
CODE = re.compile(r"^ *```.*?^ *```|`[^`\n]*`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(\s*<?([^)\s>]+)")
# A scheme, or a fragment of the same page.
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|#", re.IGNORECASE)


def relative_links(text):
    targets = LINK.findall(CODE.sub("", text))
    return [unquote(target.partition("#")[0]) for target in targets if not ELSEWHERE.match(target)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_relative_link_points_at_an_existing_file(page):
    missing = [link for link in relative_links(page.read_text()) if not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ("[a](b.md) and ![c](d/e.svg#f 'title')", ["b.md", "d/e.svg"]),
        ("[a](https://b.example/c.md), [d](#e), [f](mailto:g@h.example)", []),
        ("`[a](b.md)`\n```md\n[c](d.md)\n```\n[e](f.md)", ["f.md"]),
    ],
)
def test_only_links_to_files_are_followed(text, links):
    assert relative_links(text) == links
