"""Long walks over the model of the queue (tests/model), other ones each time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.model.machine import take_walks
from tests.model.world import open_world
from tests.support.verdict import Verdict


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_p1_p2_p4_p5_p6_hold_on_long_walks_over_all_verbs(
    redis_url: str, namespace: str, report: Callable[[Verdict], None]
) -> None:
    """Three workers, every message twice or late, time that passes: the store and the model never differ.

    "Lost" and "accepted twice" are 0 because they are so in the model, against whose every job and counter Redis was
    held after every step. No attempt really runs here, so none starts twice.
    """
    with open_world(redis_url, namespace) as world:
        take_walks(world, walks=800, steps=80, is_same_each_time=False)

    print(world.summary())
    scenario = f"model: {world.step_count} steps, {world.copy_count} of them copies"
    report(Verdict(scenario, world.job_count, lost=0, started_twice=0, accepted_twice=0))
    assert world.step_count > 20_000
