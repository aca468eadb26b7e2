"""``GET /jobs/{id}/events``: what happens to a job, as it happens; and to who comes back, what is new since then."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from arq_web import Config
from arq_web.http import events as events_module
from arq_web.http import front as front_module
from tests.http.fastapi_site import fastapi_site
from tests.http.litestar_site import litestar_site
from tests.http.site import BuildSite, MakeSite, Site, slug
from tests.http.streaming import Stream, streaming
from tests.support.ports import free_port
from tests.support.redis_server import running_redis
from tests.support.store_helpers import claim_one, expire_lease, reclaim, settle
from tests.support.waiting import wait_until


@asynccontextmanager
async def following(site: Site, job_id: str, headers: dict[str, str] | None = None) -> AsyncIterator[Stream]:
    async with streaming(site.app, f"/jobs/{job_id}/events", headers) as stream:
        yield stream


async def submitted(site: Site, url: str = "/step") -> str:
    return str((await site.submit(url)).json()["id"])


async def test_a_job_is_followed_from_the_queue_to_its_end(site: Site) -> None:
    job_id = await submitted(site)
    async with following(site, job_id) as stream:
        queued = await stream.next()
        async with site.working():
            running = await stream.next()
            progress = await stream.next()
            site.go_on.set()
            succeeded, done = await stream.rest()

    assert [event and event.name for event in (queued, running, progress, succeeded, done)] == [
        *("state", "state", "progress", "state", "done")
    ]
    assert queued
    assert running
    assert progress
    assert [event.data["state"] for event in (queued, running, succeeded)] == ["queued", "running", "succeeded"]
    assert progress.data == {"fraction": 0.5, "message": "half"}
    assert (done.data["done"], done.data["result"]) == (True, "done")
    assert done.data == (await site.ask("GET", f"/jobs/{job_id}")).json()
    assert len({event.id for event in (queued, running, progress, succeeded, done)}) == 5


async def test_the_response_is_one_that_nobody_keeps_or_collects(site: Site) -> None:
    """A proxy that collects the events passes them on when the job has ended: too late."""
    job_id = await submitted(site)
    async with following(site, job_id) as stream:
        assert stream.status == 200
        assert stream.headers == {
            "content-type": "text/event-stream",
            "cache-control": "no-store",
            "x-accel-buffering": "no",
        }
        await stream.next()
        assert stream.body.startswith(b"retry: 2000\n\n")


async def test_both_frameworks_send_the_same_bytes(sites: list[Site]) -> None:
    job_id = (await sites[0].finished("/double/21")).json()["id"]

    bodies = []
    for site in sites:
        async with following(site, job_id) as stream:
            await stream.rest()
            bodies.append((stream.status, stream.headers, stream.body))

    assert bodies[0] == bodies[1]


async def test_who_comes_back_gets_what_is_new_since_then(site: Site) -> None:
    """To whatever process: the id says what the client has seen of the record."""
    job_id = await submitted(site)
    seen: list[str] = []
    async with site.working():
        async with following(site, job_id) as stream:
            while not seen or not seen[-1].startswith("progress"):
                event = await stream.next()
                assert event
                seen.append(f"{event.name} {event.id}")
        last_id = seen[-1].split(" ")[1]
        async with following(site, job_id, {"last-event-id": last_id}) as stream:
            site.go_on.set()
            assert [(event.name, event.data["state"]) for event in await stream.rest()] == [
                ("state", "succeeded"),
                ("done", "succeeded"),
            ]


@pytest.mark.parametrize("how", ["header", "query"])
async def test_who_has_seen_the_end_is_told_to_come_no_more(site: Site, how: str) -> None:
    """A 204: an EventSource comes back after every other end."""
    job_id = (await site.finished("/double/21")).json()["id"]
    async with following(site, job_id) as stream:
        state, done = await stream.rest()

    async def again(last_id: str) -> Stream:
        url, headers = f"/jobs/{job_id}/events", {}
        if how == "header":
            headers["last-event-id"] = last_id
        else:
            url += f"?after={last_id}"
        async with streaming(site.app, url, headers) as stream:
            if stream.status == 200:
                await stream.rest()
            return stream

    assert (await again(state.id)).body.count(b"event:") == 1
    finally_ = await again(done.id)
    assert (finally_.status, finally_.body) == (204, b"")
    assert (await again("no id of ours")).body.count(b"event:") == 2


async def test_a_job_that_is_redriven_is_told_of_again(site: Site) -> None:
    response = await site.finished("/crash")
    async with following(site, response.json()["id"]) as stream:
        last = (await stream.rest())[-1]
    assert last.data["state"] == "dead"
    await site.job(response).redrive()

    async with following(site, response.json()["id"], {"last-event-id": last.id}) as stream:
        event = await stream.next()

    assert event
    assert (event.name, event.data["state"]) == ("state", "queued")


async def test_a_cancellation_that_was_asked_for_is_told(site: Site) -> None:
    """The button turns grey at once, for everybody who looks."""
    job_id = await submitted(site, "/hang")
    store = site.hub.queue().store
    job = await claim_one(store)
    async with following(site, job_id) as stream:
        await stream.next()
        assert (await site.ask("POST", f"/jobs/{job_id}/cancel")).status_code == 202
        asked = await stream.next()
        await settle(store, job, "cancel")
        cancelled, done = await stream.rest()

    assert asked
    assert (asked.name, asked.data["cancel_requested"]) == ("state", True)
    assert (cancelled.data["state"], done.name) == ("cancelled", "done")


async def test_the_stream_goes_on_when_the_worker_dies(site: Site) -> None:
    """Each attempt is told, and its progress begins anew."""
    job_id = await submitted(site)
    store = site.hub.queue().store
    job = await claim_one(store)
    await store.progress(job_id, job.attempt, job.token, b'{"progress":[0.9,"almost"]}')
    async with following(site, job_id) as stream:
        names = [event.name for event in (await stream.next(), await stream.next()) if event]
        await expire_lease(store, job_id)
        await reclaim(store)
        again = await stream.next()
        async with site.working():
            site.go_on.set()
            rest = await stream.rest()

    assert names == ["state", "progress"]
    assert again
    assert (again.data["state"], again.data["attempt"], again.data["crashes"]) == ("queued", 1, 1)
    assert "progress" not in again.data
    states = [event.data for event in rest if event.name == "state"]
    assert [(data["state"], data["attempt"]) for data in states][-1] == ("succeeded", 2)
    assert rest[-1].name == "done"


async def test_a_stream_ends_by_itself_and_asks_to_come_back_soon(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_module, "WAIT_S", 0.3)
    monkeypatch.setattr(front_module, "DEVELOPMENT_WAIT_S", 0.3)
    job_id = await submitted(site)
    async with following(site, job_id) as stream:
        [event] = await stream.rest()

    assert event.data["state"] == "queued"
    assert stream.parser.retries == [2000, 250]
    assert site.front.waiters.open_count == 0


async def test_a_quiet_stream_says_that_it_lives(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "HEARTBEAT_S", 0.02)
    job_id = await submitted(site)
    async with following(site, job_id) as stream:
        await stream.next()
        await wait_until(lambda: len(stream.parser.comments) >= 3, description="three heartbeats")
        assert stream._events.empty()


async def test_who_leaves_frees_everything_at_once(site: Site) -> None:
    job_id = await submitted(site)
    follower = site.hub.queues.follower()
    async with following(site, job_id) as stream, following(site, job_id) as other:
        await stream.next()
        assert site.front.waiters.open_count == 2

        stream.leave()

        await wait_until(lambda: site.front.waiters.open_count == 1, description="one place is free", timeout_s=2)
        other.leave()
        await wait_until(lambda: not follower._jobs, description="nobody follows", timeout_s=2)


async def test_there_is_a_limit_of_streams(make_site: MakeSite) -> None:
    """Long polls count too; whoever is refused may come again."""
    site = make_site(max_streams=2)
    job_id = await submitted(site)
    poll = asyncio.create_task(site.ask("GET", f"/jobs/{job_id}", headers={"prefer": "wait=20"}))
    await wait_until(lambda: site.front.waiters.open_count == 1, description="the poll waits")
    async with following(site, job_id) as stream:
        await stream.next()

        for refused in (
            await site.ask("GET", f"/jobs/{job_id}/events"),
            await site.ask("GET", f"/jobs/{job_id}", headers={"prefer": "wait=1"}),
        ):
            assert (refused.status_code, slug(refused)) == (503, "too-many-waiting")
            assert refused.headers["retry-after"] == "5"
        assert (await site.ask("GET", f"/jobs/{job_id}")).status_code == 200

    async with following(site, job_id) as stream:
        assert await stream.next()
        await site.hub.queue().job(job_id).cancel()
        assert (await poll).json()["state"] == "cancelled"


async def test_only_the_head_is_sent_to_who_asks_for_it(site: Site) -> None:
    job_id = await submitted(site)
    async with streaming(site.app, f"/jobs/{job_id}/events", method="HEAD") as stream:
        assert await stream.rest() == []

    assert (stream.status, stream.headers["content-type"], stream.body) == (200, "text/event-stream", b"")
    assert "content-length" not in stream.headers


@pytest.mark.parametrize("job_id", ["0" * 12 + "4" + "0" * 3 + "8" + "0" * 15, "order:1"])
async def test_a_job_that_is_not_there_is_a_problem_and_no_stream(site: Site, job_id: str) -> None:
    """An EventSource gives up then."""
    answer = await site.ask("GET", f"/jobs/{job_id}/events")

    assert (answer.status_code, slug(answer)) == (404, "job-not-found")


async def test_who_may_not_look_gets_the_answer_of_an_unknown_job(make_site: MakeSite) -> None:
    site = make_site(authorize=lambda request, job: request.headers.get("x-user") == "ann")
    job_id = await submitted(site)

    refused = await site.ask("GET", f"/jobs/{job_id}/events", headers={"x-user": "bob"})
    async with following(site, job_id, {"x-user": "ann"}) as stream:
        assert stream.status == 200

    assert (refused.status_code, slug(refused)) == (404, "job-not-found")


async def test_the_stream_of_a_job_that_goes_ends(site: Site) -> None:
    """Its next one is a 404."""
    job_id = await submitted(site)
    async with following(site, job_id) as stream:
        await stream.next()
        await site.hub.queue().job(job_id).dismiss()

        assert await stream.rest() == []


async def test_streams_and_polls_end_when_the_app_shuts_down(site: Site) -> None:
    """A server that ends the lifespan first is not held up, and no connection is opened again behind its back."""
    async with site.hub.lifespan():
        job_id = await submitted(site)
        poll = asyncio.create_task(site.ask("GET", f"/jobs/{job_id}", headers={"prefer": "wait=20"}))
        stream_context = following(site, job_id)
        stream = await stream_context.__aenter__()
        await stream.next()
        follows = site.front.waiters._open
        await wait_until(lambda: [each._seen for each in follows] == [1, 1], description="both wait")

    assert await stream.rest() == []
    assert (await poll).json()["state"] == "queued"
    await stream_context.__aexit__(None, None, None)


async def test_a_client_that_reads_nothing_is_given_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its send never returns: it would hold its place, and the server's exit, for ever."""
    monkeypatch.setattr(front_module, "WAIT_S", 0.05)
    monkeypatch.setattr(front_module, "DEVELOPMENT_WAIT_S", 0.05)
    monkeypatch.setattr(events_module, "STUCK_AFTER_S", 0.05)
    job_id = await submitted(site)

    async def never(_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Stream, "send", lambda self, message: never(message))
    async with following(site, job_id):
        await wait_until(lambda: site.front.waiters.open_count == 0, description="its place is free", timeout_s=5)


@pytest.mark.parametrize("build", [fastapi_site, litestar_site])
async def test_the_stream_goes_on_when_redis_restarts(build: BuildSite, config: Config, tmp_path: Path) -> None:
    """What happened before and after is told; meanwhile the stream stays open."""
    options = ("--appendonly", "yes", "--appendfsync", "always", "--dir", str(tmp_path))
    port = free_port()
    site = build(url=f"redis://127.0.0.1:{port}/0", config=config, options={})
    try:
        with running_redis(*options, port=port):
            job_id = await submitted(site)
            context = following(site, job_id)
            stream = await context.__aenter__()
            assert await stream.next()
        site.go_on.set()
        with running_redis(*options, port=port):
            async with site.working():
                rest = await stream.rest()
            await context.__aexit__(None, None, None)
            await site.hub.aclose()
    finally:
        await site.aclose()

    assert [event.name for event in rest][-2:] == ["state", "done"]
    assert rest[-1].data["state"] == "succeeded"
