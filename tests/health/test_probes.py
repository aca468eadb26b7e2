"""What follows from which facts."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from arq_web.config import Config
from arq_web.health.facts import Facts
from arq_web.health.probes import MAX_LAG_S, READY_LAG_S, why_not_live, why_not_ready, why_not_started

WELL = Facts(is_working=True, loop_lag_s=0.0, renewed_ago_s=0.4, lease_s=8.0, running=1, slots=10, tasks=3)


def test_a_worker_that_is_well_is_all_of_it() -> None:
    assert why_not_live(WELL) == why_not_ready(WELL) == why_not_started(WELL) == {}


@pytest.mark.parametrize(
    ("change", "live", "ready"),
    [
        ({"loop_lag_s": READY_LAG_S - 0.1}, set(), set()),
        ({"loop_lag_s": READY_LAG_S + 0.1}, set(), {"loop"}),
        ({"loop_lag_s": 15.0}, set(), {"loop"}),
        ({"loop_lag_s": MAX_LAG_S + 0.1}, {"loop"}, {"loop"}),
        ({"renewed_ago_s": 15.9}, set(), set()),
        ({"renewed_ago_s": 16.1}, {"renewals"}, {"renewals"}),
        ({"renewed_ago_s": math.inf}, {"renewals"}, {"renewals"}),
        ({"renewed_ago_s": None, "loop_lag_s": None}, set(), set()),
        ({"is_draining": True}, set(), {"draining"}),
        ({"tasks": 0}, set(), {"tasks"}),
    ],
)
def test_what_is_wrong_is_said_by_the_probe_that_it_concerns(
    change: dict[str, object], live: set[str], ready: set[str]
) -> None:
    facts = replace(WELL, **change)  # type: ignore[arg-type]

    assert set(why_not_live(facts)) == live
    assert set(why_not_ready(facts)) == ready
    assert why_not_started(facts) == {}


def test_a_worker_that_starts_is_alive_but_neither_started_nor_ready() -> None:
    """However long the import takes: who kills it then has it begin again."""
    starting = Facts()

    assert why_not_live(starting) == {}
    assert set(why_not_started(starting)) == set(why_not_ready(starting)) == {"starting"}


def test_a_process_without_a_worker_is_ready_when_redis_is() -> None:
    """A web process whose jobs run elsewhere."""
    assert why_not_live(None) == why_not_started(None) == why_not_ready(None) == {}
    assert why_not_ready(None, "Redis does not answer") == {"redis": "Redis does not answer"}


def test_a_smaller_limit_of_the_lag_is_one_for_being_ready_too() -> None:
    """What is not alive is not ready."""
    facts = replace(WELL, loop_lag_s=3.0)

    assert set(why_not_live(facts, 2.0)) == set(why_not_ready(facts, max_lag_s=2.0)) == {"loop"}
    assert why_not_ready(facts) == {}


def test_the_limit_of_a_silent_thread_is_above_what_a_silent_redis_makes_of_it() -> None:
    """Else Redis' absence would restart all workers: one pass waits twice the deadline of a command, at most."""
    longest_pass_s = 1.0 + 2 * Config().command_deadline_s

    assert why_not_live(replace(WELL, renewed_ago_s=longest_pass_s, lease_s=Config().lease_s)) == {}
