"""What docs/how-to/middleware.md shows, works; and its tables say what the code does."""

from __future__ import annotations

import re
from typing import Any

import pytest

from arq_web import JobState
from arq_web.enqueuing import LOOK_S, MOST_HEADER_BYTES, MOST_IDLE_LOOKS
from arq_web.worker.maintenance import LONGEST_REFUSAL_S
from tests.docs.apps import app_on
from tests.docs.examples import middleware, middleware_fastapi, middleware_litestar
from tests.docs.pages import read
from tests.middleware.layers import Cipher
from tests.support.store_helpers import record_of
from tests.support.waiting import wait_until
from tests.support.working import make_hub, queue_of, working


@pytest.mark.parametrize("app", [middleware_fastapi.app, middleware_litestar.app], ids=["fastapi", "litestar"])
async def test_the_tenant_of_the_enqueue_is_the_jobs(redis_url: str, namespace: str, app: Any) -> None:
    async with app_on(app, redis_url, namespace) as (hub, _):
        token = middleware.tenant.set("acme")
        job = await hub.queue().enqueue(middleware.build_report, "May")
        middleware.tenant.reset(token)
        await hub.worker(burst=True).run()

        assert await job.result(5) == "the report of acme for May"
        assert (await job.info()).headers == {"tenant": "acme"}


@pytest.mark.parametrize("is_older", [False, True], ids=["of nobody", "queued before"])
async def test_a_job_without_a_tenant_is_enqueued_and_runs(redis_url: str, namespace: str, is_older: bool) -> None:
    """A schedule's, or one that was queued before the layers were deployed."""
    layers: Any = {"enqueue_middleware": [middleware.with_tenant], "middleware": [middleware.as_tenant]}
    hub = make_hub(redis_url, namespace, middleware.build_report, **layers)
    older = make_hub(redis_url, namespace, middleware.build_report)
    async with queue_of(older if is_older else hub) as queue:
        job = await queue.enqueue(middleware.build_report, "May")
        await hub.worker(burst=True).run()

        assert await job.result(5) == "the report of None for May"
    await hub.aclose()


async def test_sealed_arguments_cannot_be_read_in_redis(redis_url: str, namespace: str) -> None:
    sealed = middleware.Sealed(Cipher(b"k" * 32))
    layers: dict[str, Any] = {
        "enqueue_middleware": [middleware.with_tenant, sealed.close],
        "middleware": [middleware.as_tenant, sealed.open],
    }
    async with queue_of(make_hub(redis_url, namespace, middleware.build_report, **layers)) as queue:
        token = middleware.tenant.set("acme")
        job = await queue.enqueue(middleware.build_report, "May")
        middleware.tenant.reset(token)

        assert b"May" not in await record_of(queue.store, job.id)
        await make_hub(redis_url, namespace, middleware.build_report, **layers).worker(burst=True).run()
        assert await job.result(5) == "the report of acme for May"


async def test_a_task_that_is_switched_off_waits(redis_url: str, namespace: str) -> None:
    hub = make_hub(redis_url, namespace, middleware.build_report, middleware=[middleware.unless_switched_off])
    async with queue_of(hub) as queue:
        middleware.switched_off.add(middleware.build_report.name)
        job = await queue.enqueue(middleware.build_report, "May")

        async def is_put_off() -> bool:
            return await job.status() is JobState.SCHEDULED

        async with working(hub):
            await wait_until(is_put_off, description="it waits for its time")
        middleware.switched_off.clear()

        assert (await job.info()).failures == 0
        await job.cancel()


def test_the_page_says_how_long_layers_are_waited_for() -> None:
    page = read("how-to/middleware.md")

    assert f"stands still for {MOST_IDLE_LOOKS * LOOK_S:g} seconds" in page
    assert f"to the others for {LONGEST_REFUSAL_S:g} seconds" in page


def test_the_page_says_how_large_headers_may_be() -> None:
    [kib] = re.findall(r"at most (\d+) KiB", read("how-to/middleware.md"))

    assert int(kib) * 1024 == MOST_HEADER_BYTES
