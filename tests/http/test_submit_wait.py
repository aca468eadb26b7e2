"""``Prefer: wait=N`` on the submit itself: the handler's own answer, if it comes in time; else the 202."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from arq_web import JobState
from tests.http.site import MakeSite, Site, said
from tests.support.store_helpers import command, members
from tests.support.waiting import wait_until

WAIT = {"Prefer": "wait=5"}
OURS = ("cache-control", "preference-applied", "content-location", "idempotent-replayed")


async def only_job(site: Site) -> str:
    """The id of the job that waits for a worker."""
    [job_id] = await members(site.hub.queue().store, "ready")
    return job_id


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/double/21", None),
        ("/greet", {"name": "Ann", "loud": True}),
        ("/nothing", None),
        ("/refuse/404", None),
        ("/refuse/503", None),
    ],
)
async def test_the_answer_is_the_handlers_own(site: Site, path: str, body: object) -> None:
    """As if no job were in between: status, headers and body; also the exception that it raises."""
    plain = await site.ask("POST", "/plain" + path, json=body)
    async with site.working():
        answer = await site.ask("POST", path, json=body, headers=WAIT)

    if plain.status_code == 204:
        plain.headers.pop("content-type", None)  # FastAPI says one all the same
    assert answer.status_code == plain.status_code
    assert answer.content == plain.content
    assert {name: value for name, value in answer.headers.items() if name not in OURS} == dict(plain.headers)
    assert answer.headers["preference-applied"] == "wait=5"
    assert answer.headers["content-location"].startswith("/jobs/")
    assert answer.headers["content-location"].endswith("/result")


async def test_where_its_result_is_found_is_told(site: Site) -> None:
    async with site.working():
        answer = await site.ask("POST", "/double/21", headers=WAIT)

    again = await site.ask("GET", answer.headers["content-location"])
    assert (again.status_code, again.content) == (200, answer.content)


async def test_a_job_that_fails_is_a_500_as_its_route_would_be(site: Site) -> None:
    async with site.working():
        answer = await site.ask("POST", "/crash", headers=WAIT)

    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["preference-applied"] == "wait=5"
    assert "10.0.0.7" not in answer.text


async def test_a_job_that_is_not_over_in_time_is_a_202(site: Site) -> None:
    """With how it stands by then."""
    async with site.working():
        answer = await site.ask("POST", "/hang", headers={"Prefer": "wait=1"})
        await site.job(answer).cancel()

    assert (answer.status_code, answer.json()["state"]) == (202, "running")
    assert answer.headers["preference-applied"] == "wait=1"
    assert "content-location" not in answer.headers
    assert answer.headers["location"] == answer.json()["links"]["self"]


@pytest.mark.parametrize("prefer", ["wait=0", "respond-async, wait=0"])
async def test_no_time_at_all_is_a_202_at_once(site: Site, prefer: str) -> None:
    answer = await site.ask("POST", "/double/21", headers={"Prefer": prefer})

    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    assert answer.headers["preference-applied"] == "wait=0"


@pytest.mark.parametrize("prefer", ["wait=a", "wait", "wait=-1", "respond-async", "return=minimal"])
async def test_another_preference_is_passed_over(site: Site, prefer: str) -> None:
    """As RFC 7240 wants it."""
    answer = await site.ask("POST", "/double/21", headers={"Prefer": prefer})

    assert answer.status_code == 202
    assert "preference-applied" not in answer.headers


async def test_a_route_that_grants_no_wait_answers_202(site: Site) -> None:
    """A client cannot hold a connection open by itself; the status code is always the same."""
    async with site.working():
        answer = await site.ask("POST", "/note", json={"name": "Ann"}, headers=WAIT)

    assert answer.status_code == 202
    assert "preference-applied" not in answer.headers


async def test_a_wait_is_cut_to_what_the_route_grants(site: Site) -> None:
    async with site.working():
        answer = await site.ask("POST", "/double/21", headers={"Prefer": "wait=3600"})

    assert answer.headers["preference-applied"] == "wait=5"


async def test_where_nobody_may_wait_any_more_the_job_is_enqueued_all_the_same(make_site: MakeSite) -> None:
    """The 202 is no error: a 503 would let the client send it once more."""
    site = make_site(max_streams=1)
    with site.front.waiters.follow(site.hub.queue().job("another")):
        answer = await site.ask("POST", "/double/21", headers=WAIT)

    assert (answer.status_code, answer.json()["id"]) == (202, await only_job(site))


async def test_a_job_that_is_there_is_a_202_whatever_becomes_of_its_record(site: Site) -> None:
    """A 500 would say that there is none."""
    asking = asyncio.create_task(site.ask("POST", "/double/21", headers=WAIT))

    async def is_enqueued() -> bool:
        return bool(await members(site.hub.queue().store, "ready"))

    await wait_until(is_enqueued, description="the job is enqueued")
    job_id = await only_job(site)
    store = site.hub.queue().store
    record = store.base + b"j:" + job_id.encode()
    before = await command(store, "GET", record)
    assert isinstance(before, bytes)
    await command(store, "SET", record, b"nothing of ours")
    answer = await asking
    await command(store, "SET", record, before)

    assert (answer.status_code, answer.json()["id"]) == (202, job_id)


async def test_a_client_that_goes_away_leaves_its_job(site: Site) -> None:
    asking = asyncio.create_task(site.ask("POST", "/double/21", headers=WAIT))

    async def is_enqueued() -> bool:
        return bool(await members(site.hub.queue().store, "ready"))

    await wait_until(is_enqueued, description="the job is enqueued")
    asking.cancel()
    await asyncio.wait((asking,))
    job: Any = site.hub.queue().job(await only_job(site))
    await site.run()

    assert await job.status() is JobState.SUCCEEDED


async def test_a_request_that_comes_again_waits_for_the_same_job(site: Site) -> None:
    """The client lost its connection while it waited: it gets the answer that it would have had."""
    headers = {**WAIT, "Idempotency-Key": "k"}
    first = await site.ask("POST", "/double/21", headers={**headers, "Prefer": "wait=0"})
    async with site.working():
        again = await site.ask("POST", "/double/21", headers=headers)

    assert (again.status_code, again.json()) == (200, 42)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["content-location"] == first.json()["links"]["result"]


async def test_a_refusal_is_replayed_to_a_request_that_comes_again(site: Site) -> None:
    headers = {**WAIT, "Idempotency-Key": "k"}
    async with site.working():
        answers = [await site.ask("POST", "/refuse/404", headers=headers) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [404, 404]
    assert answers[0].content == answers[1].content
    assert ["idempotent-replayed" in answer.headers for answer in answers] == [False, True]


async def test_where_a_result_has_no_route_none_is_told(make_site: MakeSite) -> None:
    site = make_site(routes=["status"])
    async with site.working():
        answer = await site.ask("POST", "/double/21", headers=WAIT)

    assert (answer.status_code, answer.json()) == (200, 42)
    assert "content-location" not in answer.headers


async def test_both_frameworks_say_the_same(make_sites: Callable[..., list[Site]]) -> None:
    sites = make_sites()
    answers: list[list[httpx.Response]] = []
    for site in sites:
        async with site.working():
            answers.append([await site.ask("POST", path, headers=WAIT) for path in ("/double/21", "/crash")])

    for one, other in zip(*answers, strict=True):
        ids = [answer.headers["content-location"].split("/")[2] for answer in (one, other)]
        texts = [str(said(answer)).replace(id_, "ID") for answer, id_ in zip((one, other), ids, strict=True)]
        assert texts[0] == texts[1]
