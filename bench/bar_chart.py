"""
Groups of bars as SVG, readable on light and dark pages; nothing is needed to view or to make it.

Each group has a scale of its own, because its unit is its own: within a group, lengths compare.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from xml.sax.saxutils import escape, quoteattr

_WIDTH: Final = 760
_LABELS: Final = 190
_VALUES: Final = 90
_BAR: Final = 13
_GAP: Final = 12
_TOP: Final = 62
# Distinguishable without colour vision too: their lightness differs.
_LIGHT: Final = ("#1f6feb", "#83b4f5", "#0b3d91", "#d9730d", "#4d555e", "#858d96", "#b9c0c7")
_DARK: Final = ("#58a6ff", "#2f5f9e", "#a5d0ff", "#f0883e", "#c3cad1", "#8b949e", "#565e66")


@dataclass(frozen=True, slots=True)
class Bar:
    """One figure: which series it belongs to, its value and extremes."""

    series: str
    value: float
    minimum: float
    maximum: float


@dataclass(frozen=True, slots=True)
class Group:
    """Figures that compare."""

    name: str
    unit: str
    bars: tuple[Bar, ...]


def bar_chart(title: str, groups: list[Group], series: tuple[str, ...]) -> str:
    """Draw the groups below each other, a legend on top; at most seven series."""
    height = _TOP + sum(len(group.bars) * _BAR + _GAP for group in groups)
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label={quoteattr(title)}>',
        _style(),
        f'<text class="title" x="0" y="18">{escape(title)}</text>',
        *_legend(series),
    ]
    top = _TOP
    for group in groups:
        parts += _group(group, series, top)
        top += len(group.bars) * _BAR + _GAP
    return "\n".join([*parts, "</svg>"]) + "\n"


def _style() -> str:
    light = "".join(f".s{number}{{fill:{colour}}}" for number, colour in enumerate(_LIGHT))
    dark = "".join(f".s{number}{{fill:{colour}}}" for number, colour in enumerate(_DARK))
    return (
        "<style>text{font:12px system-ui,sans-serif;fill:#24292f}.title{font-size:15px;font-weight:600}"
        f".value{{font-size:10.5px}}line{{stroke:#24292f;stroke-width:1}}{light}"
        f"@media(prefers-color-scheme:dark){{text{{fill:#d0d7de}}line{{stroke:#d0d7de}}{dark}}}</style>"
    )


def _legend(series: tuple[str, ...]) -> list[str]:
    step = _WIDTH // len(series)
    return [
        f'<rect class="s{number}" x="{number * step}" y="31" width="11" height="11" rx="2"/>'
        f'<text x="{number * step + 16}" y="41">{escape(name)}</text>'
        for number, name in enumerate(series)
    ]


def _group(group: Group, series: tuple[str, ...], top: int) -> list[str]:
    scale = (_WIDTH - _LABELS - _VALUES) / max(bar.maximum for bar in group.bars)
    middle = top + len(group.bars) * _BAR / 2 + 4
    parts = [f'<text x="0" y="{middle:g}">{escape(group.name)}</text>']
    for number, bar in enumerate(group.bars):
        parts += _bar(bar, series.index(bar.series), scale, top + number * _BAR, group.unit)
    return parts


def _bar(bar: Bar, colour: int, scale: float, top: int, unit: str) -> list[str]:
    width, centre = max(1.0, bar.value * scale), top + (_BAR - 2) / 2
    figure = f"{_number(bar.value)} {escape(unit)}"
    low, high = _LABELS + bar.minimum * scale, _LABELS + bar.maximum * scale
    return [
        f'<rect class="s{colour}" x="{_LABELS}" y="{top}" width="{width:.1f}" height="{_BAR - 2}" rx="1.5"/>',
        f'<line x1="{low:.1f}" y1="{centre:g}" x2="{high:.1f}" y2="{centre:g}"/>',
        f'<text class="value" x="{max(high, _LABELS + width) + 5:.1f}" y="{top + 9.5:g}">{figure}</text>',
    ]


def _number(value: float) -> str:
    """Three figures, and no exponent."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004 - three figures
