"""P1, P2, P5, P6: no moment at which a process may not die. Killed before and after each command of a job's life."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from arq_web.store import scripts
from arq_web.store.scripts import Verb
from tests.chaos.lives import IN_CHILD_PROCESS, WORKER_LIVES, WorkerLife
from tests.chaos.web_lives import WEB_LIVES, WebLife
from tests.support.crash_points import Killer
from tests.support.forked import running_forker
from tests.support.points import visit_all
from tests.support.redis_server import RedisServer, running_redis
from tests.support.verdict import Verdict

Report = Callable[[Verdict], None]
OF_EVERY_WORKER = frozenset({"claim", "settle", "ZREM"})
QUICK = frozenset({"plain", "retry", "unique"})
"""The others take longer than a run of all tests should: together, not each."""


@pytest.fixture
async def killer(
    redis_server: RedisServer, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncGenerator[Killer]:
    """Kills processes that speak to the session's Redis."""
    monkeypatch.setenv("TEST_JOURNAL", str(tmp_path / "journal"))
    monkeypatch.setenv("ARQ_WEB_LOCK_DIR", str(tmp_path))  # else the dead of this test would lie about for long
    async with running_forker("tests.chaos.web_lives", "arq_web.worker.worker") as forker:
        yield Killer(forker, redis_server.port, namespace, tmp_path)


def _worker_lives() -> list[Any]:
    return [
        pytest.param(life, id=life.name, marks=() if life.name in QUICK else pytest.mark.slow)
        for life in (*WORKER_LIVES, IN_CHILD_PROCESS)
    ]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("life", _worker_lives())
async def test_p1_a_worker_killed_at_any_command_loses_and_doubles_nothing(
    life: WorkerLife, killer: Killer, report: Report
) -> None:
    """Another worker brings every job to its end, once; late copies of what the dead one sent change nothing."""
    points = await visit_all(f"worker, {life.name}", partial(killer.end_worker, life), at_once=life.at_once)
    report(points.verdict())
    print(points.table())

    assert not points.faults, "\n".join(points.faults)
    assert not points.missing(OF_EVERY_WORKER | life.names)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("life", WEB_LIVES, ids=lambda life: life.name)
async def test_p1_a_web_process_killed_at_any_command_has_done_all_or_nothing(
    life: WebLife, killer: Killer, report: Report
) -> None:
    """What Redis has executed is done and stays done, what it has not is not; asking again never makes it two."""
    points = await visit_all(f"web, {life.name}", partial(killer.end_web, life), at_once=life.at_once)
    report(points.verdict())
    print(points.table())

    assert not points.faults, "\n".join(points.faults)
    assert not points.missing({life.verb} | life.names)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_p1_a_worker_killed_while_redis_knows_no_script_loses_and_doubles_nothing(
    killer: Killer, report: Report
) -> None:
    """A Redis that was restarted has forgotten the scripts: between the digest and the text there are more moments."""
    [plain] = [life for life in WORKER_LIVES if life.name == "plain"]
    with running_redis() as server:  # its own: nobody else may teach it a script
        forgetful = replace(killer, port=server.port, forget_scripts=True)
        points = await visit_all("worker, no script known", partial(forgetful.end_worker, plain), at_once=1)
    report(points.verdict())
    print(points.table())

    assert not points.faults, "\n".join(points.faults)
    assert not points.missing(OF_EVERY_WORKER)
    assert {"claim as text", "settle as text"} <= {point.name for point in points.kills}


OF_AN_OUTBOX = {"relay", "forget"}
"""Their processes are killed between two databases: test_outbox.py."""


WITHOUT_A_LIFE = {"measure", "hasten"}
"""The one only counts jobs, the other is for tests."""


def test_every_verb_of_the_store_is_a_crash_point_of_some_life() -> None:
    """A verb that is added needs a life in which a process is killed before and after it."""
    verbs = {verb.script.name for verb in vars(scripts).values() if isinstance(verb, Verb)}

    of_lives = OF_EVERY_WORKER.union(*(life.names for life in WORKER_LIVES), *(life.names for life in WEB_LIVES))

    assert verbs - OF_AN_OUTBOX - WITHOUT_A_LIFE <= of_lives | {life.verb for life in WEB_LIVES}
