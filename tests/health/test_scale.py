"""The numbers for autoscalers are those of the queues, whoever is asked."""

from __future__ import annotations

from datetime import timedelta

import pytest
import redis.asyncio as redis_async

from arq_web import Queue
from arq_web.store.keys import base_key
from tests.health.app import hub, nap
from tests.health.support import HEALTH_APP, body, status
from tests.support.journal import counts, read_journal
from tests.support.ports import free_port
from tests.support.projects import Project
from tests.support.waiting import wait_until
from tests.support.waiting_jobs import make_older


async def test_the_numbers_are_right(
    project: Project, queue: Queue, redis: redis_async.Redis, namespace: str, port: int
) -> None:
    """Four run; five wait, the oldest with the lowest priority; one is due later. One worker of two has three slots."""
    base = base_key(namespace, "default")
    for slots, each in ((1, port), (3, free_port())):
        await project.start(HEALTH_APP, "-c", str(slots), "--health-port", str(each))
    long = await queue.enqueue_many([nap.call(60_000) for _ in range(4)])

    def are_running() -> bool:
        return sum(counts(read_journal(project.folder / "journal"), "start").values()) == 4

    await wait_until(are_running, description="all slots are taken")
    high = await queue.enqueue_many([nap.options(priority=5).call(1) for _ in range(3)])
    plain = await queue.enqueue(nap, 1)
    low = await queue.enqueue(nap.options(priority=-10), 1)
    later = await queue.enqueue(nap.options(delay=timedelta(hours=1)), 1)
    await make_older(redis, base, high[0].id, 100_000)
    await make_older(redis, base, low.id, 600_000)

    whole, default, mail = [await body(port, path) for path in ("/scale", "/scale/default", "/scale/mail")]
    unknown = await status(port, "/scale/nobodys")

    assert 600 <= default.pop("oldest_ready_age_s") < 610
    assert default == {"ready": 5, "running": 4, "slots": 4, "scheduled": 1, "workers": 2}
    assert 600 <= whole.pop("oldest_ready_age_s") < 610
    assert whole == default
    assert mail == {
        "ready": 0,
        "oldest_ready_age_s": 0.0,
        "running": 0,
        "slots": 4,
        "scheduled": 0,
        "workers": 2,
    }
    assert unknown == 404
    for job in (*high, plain, low, later, *long):
        await job.cancel()


async def test_they_are_flat_json_of_numbers(project: Project, port: int) -> None:
    """As KEDA's metrics-api reads them: ``valueLocation: oldest_ready_age_s``."""
    await project.start(HEALTH_APP, "--health-port", str(port))

    found = await body(port, "/scale/default")

    assert list(await body(port, "/scale/%64efault")) == list(found)
    assert list(found) == ["ready", "oldest_ready_age_s", "running", "slots", "scheduled", "workers"]
    assert all(isinstance(value, (int, float)) for value in found.values())


async def test_a_worker_of_some_queues_tells_of_those_only(project: Project, port: int) -> None:
    """Its deployment is scaled by what it serves."""
    await project.start(HEALTH_APP, "--queue", "mail", "--health-port", str(port))

    assert await status(port, "/scale/mail") == 200
    assert await status(port, "/scale/default") == 404


@pytest.mark.parametrize("path", ["/scale/", "/scale/default/", "/scaled"])
async def test_what_is_no_queue_is_not_found(project: Project, port: int, path: str) -> None:
    await project.start(HEALTH_APP, "--health-port", str(port))

    assert await status(port, path) == 404


def test_the_app_of_these_tests_has_two_queues() -> None:
    assert hub.queue_names == ("default", "mail")
