"""A goal says by itself whether it was met."""

from __future__ import annotations

import pytest
from bench.report import Goal


@pytest.mark.parametrize(
    ("goal", "line"),
    [
        (Goal("ratio", 0.5, 1.0), "goal ratio 0.5 1 met"),
        (Goal("ratio", 1.0, 1.0), "goal ratio 1 1 met"),
        (Goal("ratio", 1.5, 1.0), "goal ratio 1.5 1 missed"),
        (Goal("share", 0.95, 0.9, at_least=True), "goal share 0.95 0.9 met"),
        (Goal("share", 0.9, 0.9, at_least=True), "goal share 0.9 0.9 met"),
        (Goal("share", 0.5, 0.9, at_least=True), "goal share 0.5 0.9 missed"),
    ],
)
def test_a_goal_is_a_bound_from_above_or_from_below(goal, line):
    assert goal.line() == line
