"""What a comparison will take: more of anything takes longer, and nothing takes no time."""

from __future__ import annotations

import pytest

from engine.lab.compare.contenders import CONTENDER_NAMES
from engine.lab.compare.estimate import expected_seconds

SMALL = (2_000, 128, 50)


@pytest.mark.parametrize("name", CONTENDER_NAMES)
def test_everybody_takes_time_and_more_frames_or_queries_take_more(name: str) -> None:
    usual = expected_seconds([name], *SMALL)
    assert usual > expected_seconds([], *SMALL) > 0
    assert expected_seconds([name], 2_000_000, 128, 50) > usual
    assert expected_seconds([name], 2_000, 128, 500) > usual


@pytest.mark.parametrize("how", ["sweep", "cold"])
def test_a_sweep_and_cold_files_take_longer(how: str) -> None:
    assert expected_seconds(["routed"], *SMALL, **{how: True}) > expected_seconds(["routed"], *SMALL)


def test_each_contender_adds_its_own() -> None:
    both = expected_seconds(["naive", "exact"], *SMALL)
    alone = expected_seconds(["naive"], *SMALL) + expected_seconds(["exact"], *SMALL) - expected_seconds([], *SMALL)
    assert both == pytest.approx(alone)
