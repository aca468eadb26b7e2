"""The how-tos about requests that are repeated, and about queues with a limit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx
import pytest

from arq_web import Job
from tests.docs.apps import app_on
from tests.docs.examples import orders_client, orders_fastapi, orders_litestar
from tests.support.working import make_hub, queue_of, working

every_app = pytest.mark.parametrize("app", [orders_fastapi.app, orders_litestar.app], ids=["fastapi", "litestar"])
every_limited = pytest.mark.parametrize(
    "app", [orders_fastapi.limited, orders_litestar.limited], ids=["fastapi", "litestar"]
)


class Stutter(httpx.AsyncBaseTransport):
    """Brings each request to the app twice, and answers only to the second."""

    def __init__(self, app: Any) -> None:
        self._inner = httpx.ASGITransport(app)
        self._asked: set[str] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self._inner.handle_async_request(request)
        key = request.headers["Idempotency-Key"]
        if key in self._asked:
            return answer
        self._asked.add(key)
        raise httpx.ReadError("the answer was lost", request=request)


@every_app
async def test_a_client_that_asks_again_has_one_order(redis_url: str, namespace: str, app: Any) -> None:
    """It waits, loses the answer, asks again, and has the handler's own answer."""
    async with app_on(app, redis_url, namespace) as (hub, _), working(hub):
        async with httpx.AsyncClient(transport=Stutter(app), base_url="http://test") as client:
            answer = await orders_client.order(client, "cup")

        job: Job[str] = hub.queue().job(answer.headers["Content-Location"].split("/")[2])
        info = await job.info()

    assert (answer.status_code, "1 x cup from north" in answer.text) == (200, True)
    assert answer.headers["Idempotent-Replayed"] == "true"
    assert (info.owner, info.attempt) == ("42", 1)


@every_app
async def test_the_answers_are_those_of_the_table(redis_url: str, namespace: str, app: Any) -> None:
    """Status by status."""
    async with app_on(app, redis_url, namespace) as (_, client):

        async def ask(shop: str, user: str | None = "1", key: str | None = "k") -> int:
            headers = {"X-User": user or "", **({"Idempotency-Key": key} if key is not None else {})}
            return (await client.post(f"/orders/{shop}", json={"item": "cup"}, headers=headers)).status_code

        assert [await ask("a"), await ask("a"), await ask("b")] == [202, 202, 422]
        assert [await ask("b", "2"), await ask("a", key=None), await ask("a", key="a b")] == [202, 400, 400]


@every_limited
async def test_a_full_queue_refuses_and_the_other_does_not(redis_url: str, namespace: str, app: Any) -> None:
    """100 reports may wait."""
    async with app_on(app, redis_url, namespace) as (_, client):
        answers = [await client.post("/reports", params={"month": "2026-03"}) for _ in range(101)]

    assert [answer.status_code for answer in answers] == [202] * 100 + [503]
    assert answers[-1].json()["type"].endswith("/queue-full")
    assert int(answers[-1].headers["Retry-After"]) > 0


async def test_by_hand_it_is_an_error_with_the_number(redis_url: str, namespace: str) -> None:
    """What waits, and what may."""
    hub = make_hub(redis_url, namespace, orders_client.make_report)
    hub.config, hub.queue_names = replace(hub.config, max_queued=1), ("default", "reports")
    async with queue_of(hub) as queue:
        assert "come back" not in await orders_client.enqueue_report(queue)
        assert await orders_client.enqueue_report(queue) == "1 reports wait already, come back later"
