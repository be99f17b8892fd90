"""Draw a sequence picture as SVG from a few lines of text; see docs/images/flow.txt for the form."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape
from typing import Final

COLUMN_PX: Final = 204
ROW_PX: Final = 44
HEAD_PX: Final = 78
MARGIN_PX: Final = 112
# The host, the registry and the network are not trusted; the picture says so by colour and by a word.
_TRUST: Final = {
    "Tenant": ("#e6f4ea", "owner"),
    "Broker": ("#e6f4ea", "owner"),
    "Agent enclave": ("#e3ecfb", "measured"),
    "App enclave": ("#e3ecfb", "measured"),
}
_UNTRUSTED: Final = ("#fbe9e7", "untrusted")
_STEP: Final = re.compile(r"(?P<left>.+?) (?P<arrow><->|->|<-|\.) (?P<right>.+?): (?P<text>.+)")


@dataclass(frozen=True, slots=True)
class Step:
    """One arrow, or a note when both ends are the same actor."""

    left: str
    arrow: str
    right: str
    text: str


def parse(text: str) -> tuple[list[str], list[Step]]:
    """Read actors and steps; raise ``ValueError`` naming a line that is neither."""
    actors: list[str] = []
    steps: list[Step] = []
    for line in text.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("actors:"):
            actors = [name.strip() for name in line.removeprefix("actors:").split("|")]
        elif (match := _STEP.fullmatch(line)) and {match["left"], match["right"]} <= set(actors):
            steps.append(Step(match["left"], match["arrow"], match["right"], match["text"]))
        else:
            raise ValueError(f"neither actors nor a step: {line}")
    return actors, steps


def draw(text: str) -> str:
    """Render the picture."""
    actors, steps = parse(text)
    place = {name: MARGIN_PX + index * COLUMN_PX for index, name in enumerate(actors)}
    width = 2 * MARGIN_PX + (len(actors) - 1) * COLUMN_PX
    height = HEAD_PX + (len(steps) + 1) * ROW_PX
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"',
        ' font-family="sans-serif" font-size="12">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8"',
        ' orient="auto-start-reverse"><path d="M0 0L8 4L0 8z" fill="#333"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    parts += [_actor(name, x, height) for name, x in place.items()]
    parts += [_step(step, place, HEAD_PX + (row + 1) * ROW_PX, row + 1) for row, step in enumerate(steps)]
    return "\n".join([*parts, "</svg>", ""])


def _actor(name: str, x: int, height: int) -> str:
    fill, trust = _TRUST.get(name, _UNTRUSTED)
    left, box = x - 92, 184
    return (
        f'<line x1="{x}" y1="58" x2="{x}" y2="{height - 12}" stroke="#999" stroke-dasharray="3 4"/>'
        f'<rect x="{left}" y="12" width="{box}" height="46" rx="6" fill="{fill}" stroke="#555"/>'
        f'<text x="{x}" y="32" text-anchor="middle" font-weight="bold">{escape(name)}</text>'
        f'<text x="{x}" y="49" text-anchor="middle" fill="#555">{trust}</text>'
    )


def _step(step: Step, place: dict[str, int], y: int, number: int) -> str:
    left, right = place[step.left], place[step.right]
    label = f"{number}. {escape(step.text)}"
    if step.left == step.right:
        return (
            f'<rect x="{left - 110}" y="{y - 15}" width="220" height="22" rx="4" fill="#fff8e1"'
            ' stroke="#c9a227"/>'
            f'<text x="{left}" y="{y}" text-anchor="middle">{label}</text>'
        )
    start, end = (right, left) if step.arrow == "<-" else (left, right)
    both = ' marker-start="url(#tip)"' if step.arrow == "<->" else ""
    return (
        f'<line x1="{start}" y1="{y}" x2="{end}" y2="{y}" stroke="#333" marker-end="url(#tip)"{both}/>'
        f'<text x="{(left + right) // 2}" y="{y - 6}" text-anchor="middle" stroke="#fff" stroke-width="4" '
        f'paint-order="stroke">{label}</text>'
    )
