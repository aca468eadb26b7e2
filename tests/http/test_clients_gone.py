"""Who waits and goes away: its place is free at once, and its job is left alone."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from arq_web import JobState
from tests.http.site import MakeSite, Site
from tests.http.streaming import Stream, scope_of
from tests.support.store_helpers import members
from tests.support.waiting import wait_until

WAIT = {"Prefer": "wait=5"}


async def leaves_while_waiting(site: Site, url: str, method: str = "GET") -> Stream:
    """A request that waits, whose client goes; how it was answered all the same."""
    stream = Stream()
    serving = asyncio.ensure_future(site.app(scope_of(url, WAIT, method), stream.receive, stream.send))
    await wait_until(lambda: site.front.waiters.open_count == 1, description="it waits")
    stream.leave()
    await wait_until(lambda: site.front.waiters.open_count == 0, description="its place is free", timeout_s=2)
    await asyncio.wait_for(serving, 2)
    return stream


@pytest.mark.parametrize("path", ["", "/result"])
async def test_a_long_poll_that_was_left_frees_its_place(site: Site, path: str) -> None:
    posted = await site.submit("/double/2")

    await leaves_while_waiting(site, posted.headers["location"] + path)

    assert await site.job(posted).status() is JobState.QUEUED


async def test_a_submit_that_was_left_frees_its_place_and_leaves_its_job(site: Site) -> None:
    answer = await leaves_while_waiting(site, "/double/21", "POST")
    [job_id] = await members(site.hub.queue().store, "ready")
    job: Any = site.hub.queue().job(job_id)
    await site.run()

    assert answer.status == 202
    assert await job.status() is JobState.SUCCEEDED


async def test_places_that_were_left_are_for_others(make_site: MakeSite) -> None:
    site = make_site(max_streams=1)
    posted = await site.submit("/double/2")
    for _ in range(3):
        await leaves_while_waiting(site, posted.headers["location"])

    response = await site.ask("GET", posted.headers["location"], headers={"Prefer": "wait=1"})

    assert response.status_code == 200


async def test_a_receive_that_repeats_the_body_holds_up_nothing(site: Site) -> None:
    """So do middlewares that have read the body: it never tells of the client, and never lets the loop go on."""
    stream = Stream()
    asked_count = 0

    async def receive() -> MutableMapping[str, Any]:
        nonlocal asked_count
        asked_count += 1
        assert asked_count < 10
        return {"type": "http.request", "body": b"", "more_body": False}

    posting = asyncio.ensure_future(site.app(scope_of("/double/21", WAIT, "POST"), receive, stream.send))
    await wait_until(lambda: site.front.waiters.open_count == 1, description="it waits")
    await site.run()
    await asyncio.wait_for(posting, 4)

    assert (stream.status, stream.body) == (200, b"42")
