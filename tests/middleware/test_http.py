"""Routes that are jobs pass through the enqueue middleware, in both frameworks; what clients see does not change."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from arq_web import Config, Job, OutgoingJob
from arq_web.errors import InvalidConfig
from arq_web.middleware import Observer
from tests.http.site import MakeSite, Site
from tests.middleware.layers import Cipher, Noting, Switch, acting_for, as_tenant, with_tenant
from tests.support.event_log import listening
from tests.support.store_helpers import record_of
from tests.tied import fastapi_app, litestar_app
from tests.tied.apps import Build

Next = Callable[[OutgoingJob], Awaitable[Any]]
CIPHER = Cipher(b"k" * 32)
KEY = {"Idempotency-Key": "order-1"}


async def test_a_routes_job_has_its_headers_and_its_arguments_are_sealed(make_site: MakeSite) -> None:
    site = make_site(enqueue_middleware=[with_tenant, CIPHER.sealing], middleware=[as_tenant, CIPHER.opening])

    with acting_for("acme"):
        response = await site.submit("/greet", json={"name": "ada"})
    stored = await record_of(site.hub.queue().store, response.json()["id"])
    await site.hub.worker(burst=True).run()

    job = site.job(response)
    assert b"ada" not in stored
    assert (await job.info()).headers == {"tenant": "acme"}
    assert (await site.ask("GET", response.json()["links"]["result"])).json()["words"] == "Hello, ada."


async def test_a_request_that_comes_again_is_its_first_job_though_the_sealed_bytes_differ(make_site: MakeSite) -> None:
    """What is compared is the request, not what the layers make of it."""
    site = make_site(enqueue_middleware=[with_tenant, CIPHER.sealing], middleware=[CIPHER.opening])

    with acting_for("acme"):
        first = await site.submit("/greet", json={"name": "ada"}, headers=KEY)
    with acting_for("wayne"):
        again = await site.submit("/greet", json={"name": "ada"}, headers=KEY)
    other = await site.ask("POST", "/greet", json={"name": "bob"}, headers=KEY)

    assert (again.json()["id"], again.headers["idempotent-replayed"]) == (first.json()["id"], "true")
    assert other.status_code == 422
    assert (await site.job(first).info()).headers == {"tenant": "acme"}
    await site.job(first).cancel()


async def test_call_next_says_whether_the_job_was_there(make_site: MakeSite) -> None:
    created: list[bool] = []

    async def looking(job: OutgoingJob, call_next: Next) -> Any:
        handle = await call_next(job)
        created.append(handle.created)
        return handle

    site = make_site(enqueue_middleware=[looking])
    first = await site.submit("/nothing", headers=KEY)
    await site.submit("/nothing", headers=KEY)

    assert created == [True, False]
    await site.job(first).cancel()


async def test_a_route_that_enqueues_by_hand_passes_too(make_site: MakeSite) -> None:
    site = make_site(enqueue_middleware=[with_tenant])

    with acting_for("acme"):
        response = await site.ask("POST", "/mine")

    job: Job[Any] = site.hub.queue().job(response.json()["job"])
    assert (await job.info()).headers == {"tenant": "acme"}
    await job.cancel()


@pytest.mark.parametrize("build", [fastapi_app.build, litestar_app.build], ids=["fastapi", "litestar"])
@pytest.mark.parametrize("path", ["/answer/200", "/answer-sync/200"])
async def test_a_job_that_waits_for_its_response_has_the_requests_tenant(
    redis_url: str, config: Config, build: Build, path: str
) -> None:
    """Also of a handler in a thread."""
    app, hub = build(url=redis_url, config=config, enqueue_middleware=[with_tenant])
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://web") as client:
        with acting_for("acme"):
            response = await client.post(path)

    job: Job[Any] = hub.queue().job(response.json()["job"])
    assert (await job.info()).headers == {"tenant": "acme"}
    await job.cancel()
    await hub.aclose()


async def test_an_error_of_the_apps_own_is_the_frameworks_to_answer(make_site: MakeSite) -> None:
    """And there is no job."""
    notes: list[str] = []
    site = make_site(enqueue_middleware=[Noting(notes, "a")])
    task = await task_of(site, "/nothing")
    refusing = make_site(enqueue_middleware=[Switch({task}).refusing])

    response = await refusing.ask("POST", "/nothing")

    assert response.status_code == 500
    assert notes == ["a in", "a out"]


async def task_of(site: Site, path: str) -> str:
    """The name under which the route's job is known."""
    job = site.job(await site.submit(path))
    name = (await job.info()).task
    await job.cancel()
    return name


@pytest.mark.parametrize("option", ["middleware", "enqueue_middleware"])
async def test_one_layer_that_is_not_in_a_list_is_refused(make_site: MakeSite, option: str) -> None:
    with pytest.raises(InvalidConfig, match=option):
        make_site(**{option: with_tenant})


class Statuses(Observer):
    """Writes down what clients were answered."""

    def __init__(self) -> None:
        self.told: list[tuple[int, bool]] = []

    def request_answered(self, status: int, *, is_replayed: bool) -> None:
        self.told.append((status, is_replayed))


class Clumsy(Observer):
    def request_answered(self, status: int, *, is_replayed: bool) -> None:
        raise ValueError("the counter is broken")


async def test_an_observer_that_raises_costs_no_request(make_site: MakeSite) -> None:
    """Its job is stored: a 500 would have the client send it again."""
    site, statuses = make_site(), Statuses()
    site.hub.observers += [Clumsy(), statuses]

    with listening("worker") as log:
        first = await site.submit("/nothing", headers=KEY)
        again = await site.submit("/nothing", headers=KEY)

    assert (first.status_code, again.status_code) == (202, 202)
    assert statuses.told == [(202, False), (202, True)]
    assert [each["helper"] for each in log.of("helper.failed")] == ["observer Clumsy.request_answered"]
    await site.job(first).cancel()


async def test_an_answer_that_is_an_exception_is_told_too(make_site: MakeSite) -> None:
    site, statuses = make_site(), Statuses()
    site.hub.observers.append(statuses)

    async with site.working():
        answer = await site.ask("POST", "/refuse/404", headers={"Prefer": "wait=5"})

    assert answer.status_code == 404
    assert statuses.told == [(404, False)]
