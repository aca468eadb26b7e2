"""``GET /jobs/{id}/result``: what the handler's route would have answered without a job in between."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx
import pytest
import redis.asyncio as redis_async

from arq_web.http.problems import PROBLEM_BASE
from arq_web.job import JobState
from tests.http.site import Site, said, slug
from tests.support.waiting import wait_until


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/double/21", None),
        ("/greet", {"name": "Ünal", "loud": True}),
        ("/nothing", None),
        ("/refuse/404", None),
        ("/refuse/503", None),
    ],
)
async def test_the_result_is_what_the_plain_route_answers(site: Site, path: str, body: object) -> None:
    """Status, headers and bytes; beside them only how it may be cached."""
    plain = await site.client.post("/plain" + path, json=body)

    posted = await site.finished(path, json=body)
    result = await site.ask("GET", result_of(posted))

    headers = dict(result.headers)
    assert headers.pop("cache-control") == "private"
    if plain.status_code == 204:
        plain.headers.pop("content-type", None)  # FastAPI says one all the same
    assert (result.status_code, headers, result.content) == said(plain)


async def test_a_handler_that_failed_is_a_500_that_says_no_more_than_its_route_would(sites: list[Site]) -> None:
    """Neither message nor traceback: they name hosts, tables, paths."""
    posted = await sites[0].finished("/crash")

    results = [await site.ask("GET", result_of(posted)) for site in sites]

    assert results[0].status_code == 500
    job_id = posted.json()["id"]
    assert results[0].json() == {
        "type": PROBLEM_BASE + "handler-failed",
        "title": "The job failed",
        "status": 500,
        "detail": "The job's handler failed.",
        "instance": f"/jobs/{job_id}",
        "job": job_id,
        "attempts": 1,
    }
    assert said(results[0]) == said(results[1])


async def test_while_developing_the_failure_says_why(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    posted = await site.finished("/crash")
    monkeypatch.setenv("ARQ_WEB_DEV", "1")

    result = await site.ask("GET", result_of(posted))

    assert result.json()["detail"] == "ValueError: broken pixel at 10.0.0.7"
    assert "Traceback" not in result.text


async def test_a_job_that_has_not_ended_has_no_result_yet(sites: list[Site]) -> None:
    """202 with the status, never 404 or 204: a client that looks too early has done nothing wrong."""
    posted = await sites[0].submit("/double/2")

    results = [await site.ask("GET", result_of(posted)) for site in sites]

    assert results[0].status_code == 202
    assert results[0].headers["location"] == posted.headers["location"]
    assert int(results[0].headers["retry-after"]) >= 1
    assert "etag" not in results[0].headers
    status = await sites[0].ask("GET", posted.headers["location"])
    assert results[0].json() == status.json()
    assert said(results[0]) == said(results[1])


async def test_a_client_may_wait_for_the_result(site: Site) -> None:
    """It comes by push, in the same request."""
    posted = await site.submit("/greet", json={"name": "Ann"})
    began_at = time.monotonic()
    waiting = asyncio.create_task(site.ask("GET", result_of(posted), headers={"Prefer": "wait=20"}))
    await wait_until(lambda: site.front.waiters.open_count, description="somebody waits")

    async with site.working():
        result = await waiting

    assert (result.status_code, result.json()) == (200, {"words": "Hello, Ann.", "length": 11})
    assert result.headers["preference-applied"] == "wait=20"
    assert time.monotonic() - began_at < 15


async def test_a_result_that_does_not_come_in_time_is_a_202(site: Site) -> None:
    posted = await site.submit("/double/2")

    result = await site.ask("GET", result_of(posted), headers={"Prefer": "wait=1"})

    assert (result.status_code, result.headers["preference-applied"]) == (202, "wait=1")


async def test_a_refusal_that_was_waited_for_is_replayed_too(site: Site) -> None:
    """With what was granted beside its own headers."""
    posted = await site.finished("/refuse/404")

    result = await site.ask("GET", result_of(posted), headers={"Prefer": "wait=3"})

    assert result.status_code == 404
    assert (result.headers["x-why"], result.headers["preference-applied"]) == ("gone", "wait=3")


async def test_a_cancelled_job_has_no_result(sites: list[Site]) -> None:
    posted = await sites[0].submit("/double/2")
    await sites[0].job(posted).cancel()

    results = [await site.ask("GET", result_of(posted)) for site in sites]

    assert (results[0].status_code, slug(results[0])) == (409, "job-cancelled")
    assert results[0].json()["instance"] == posted.headers["location"]
    assert said(results[0]) == said(results[1])


async def test_an_expired_job_has_no_result(site: Site) -> None:
    """No worker came in time."""
    queue = site.hub.queue()
    task = site.hub.registry.find("http.noted")
    assert task is not None
    job = await queue.enqueue(task.options(expires=0.001), "late")
    await site.run()

    result = await site.ask("GET", f"/jobs/{job.id}/result")

    assert await job.status() is JobState.EXPIRED
    assert (result.status_code, slug(result)) == (410, "job-expired")


async def test_a_result_that_was_not_kept_is_gone(site: Site) -> None:
    posted = await site.finished("/unkept")

    result = await site.ask("GET", result_of(posted))

    assert (result.status_code, slug(result)) == (410, "result-not-kept")
    assert "secret" not in result.text


async def test_the_result_of_a_job_that_is_no_routes_is_its_json(sites: list[Site]) -> None:
    """There is no route that would have answered otherwise."""
    task = sites[0].hub.registry.find("http.noted")
    assert task is not None
    job = await sites[0].hub.queue().enqueue(task, "hello")
    await sites[0].run()

    results = [await site.ask("GET", f"/jobs/{job.id}/result") for site in sites]

    assert (results[0].status_code, results[0].json()) == (200, "hello")
    assert said(results[0]) == said(results[1])


async def test_a_head_is_the_result_without_its_body(site: Site) -> None:
    posted = await site.finished("/greet", json={"name": "Ann"})
    whole = await site.ask("GET", result_of(posted))

    head = await site.ask("HEAD", result_of(posted))

    assert (head.status_code, head.content, dict(head.headers)) == (200, b"", dict(whole.headers))


async def test_a_result_of_a_task_that_is_not_known_here_is_not_shown(sites: list[Site]) -> None:
    """It was renamed without an alias, say. What its route would have hidden is not known any more either."""
    posted = await sites[0].finished("/greet", json={"name": "Ann"})
    for site in sites:
        tasks: dict[str, Any] = site.hub.registry._by_name
        del tasks["http.greet"]

    results = [await site.ask("GET", result_of(posted)) for site in sites]

    assert (results[0].status_code, slug(results[0])) == (500, "result-unreadable")
    assert "Ann" not in results[0].text
    assert said(results[0]) == said(results[1])
    assert "result" not in (await sites[0].ask("GET", posted.headers["location"])).json()


async def test_a_result_that_is_no_json_of_ours_is_not_shown(site: Site, redis: redis_async.Redis) -> None:
    """A pickle of arq's, for example."""
    posted = await site.finished("/note", json={"name": "Ann"})
    key = site.hub.queue("emails").store.base + b"j:" + posted.json()["id"].encode()
    record = await redis.get(key)
    assert isinstance(record, bytes)
    await redis.set(key, record.replace(b'{"r":"Ann"}', b"pickled....."[:11]), keepttl=True)

    result = await site.ask("GET", result_of(posted))

    assert (result.status_code, slug(result)) == (500, "result-unreadable")


def result_of(posted: httpx.Response) -> str:
    return str(posted.json()["links"]["result"])
