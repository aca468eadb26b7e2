"""``queue.after_response``: enqueued when the request went well, dropped when it did not; in both frameworks."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from arq_web import Config, Hub, Job, JobState
from arq_web.errors import NothingToTieTo
from tests.support.event_log import listening
from tests.support.ports import free_port
from tests.tied import apps, fastapi_app, litestar_app
from tests.tied.apps import Build, note

BUILD: dict[str, Build] = {"fastapi": fastapi_app.build, "litestar": litestar_app.build}

pytestmark = pytest.mark.parametrize("framework", BUILD)


@pytest.fixture
async def app(framework: str, redis_url: str, namespace: str) -> AsyncIterator[tuple[Any, Hub]]:
    apps.seen.clear()
    apps.kept.clear()
    app, hub = BUILD[framework](url=redis_url, config=Config(namespace=namespace, embedded="never"))
    yield app, hub
    await hub.aclose()


@pytest.fixture
async def client(app: tuple[Any, Hub]) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app[0], raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://web") as client:
        yield client


async def queued(hub: Hub) -> list[Any]:
    """The arguments of the jobs that are there, in order; they are cancelled."""
    store = hub.queue().store
    ids = await store.connections.get().execute("ZRANGE", store.base + b"ready", 0, -1)
    assert isinstance(ids, list)
    found = []
    for job_id in ids:
        assert isinstance(job_id, bytes)
        job: Job[str] = hub.queue().job(job_id.decode(), note)
        found.append((await job.info(with_payload=True)).payload)
        await job.cancel()
    return [payload.decode().removeprefix('{"text":"').removesuffix('"}') for payload in found]


@pytest.mark.parametrize("status", [200, 201, 303, 399])
async def test_a_response_below_400_enqueues_the_job_that_it_named(
    app: tuple[Any, Hub], client: httpx.AsyncClient, status: int
) -> None:
    """The id was in the response, before the job was in Redis."""
    response = await client.post(f"/answer/{status}")

    job = app[1].queue().job(response.json()["job"], note)
    assert response.status_code == status
    assert await job.status() is JobState.QUEUED
    await job.cancel()


@pytest.mark.parametrize("status", [400, 404, 500])
@pytest.mark.parametrize("path", ["/answer", "/answer-sync", "/refuse"])
async def test_a_response_from_400_on_drops_the_job(
    app: tuple[Any, Hub], client: httpx.AsyncClient, path: str, status: int
) -> None:
    """Whether it was returned or raised."""
    response = await client.post(f"{path}/{status}")

    assert response.status_code == status
    assert await queued(app[1]) == []


@pytest.mark.parametrize("path", ["/crash", "/broken-stream", "/closing-fails", "/background-fails"])
async def test_an_exception_drops_the_job(app: tuple[Any, Hub], client: httpx.AsyncClient, path: str) -> None:
    """In the handler, in the middle of a stream, and in what comes after it: a commit that failed is no success."""
    with contextlib.suppress(Exception):  # what the transport makes of a response that ends in the middle
        await client.post(path)

    assert await queued(app[1]) == []


async def test_a_def_handler_ties_by_the_sync_queue(app: tuple[Any, Hub], client: httpx.AsyncClient) -> None:
    """It runs in a thread, and its request is the same."""
    await client.post("/answer-sync/200")

    assert await queued(app[1]) == ["sync"]


async def test_dependencies_may_tie_too(app: tuple[Any, Hub], client: httpx.AsyncClient) -> None:
    """Async ones and those that run in a thread; in the order of their calls."""
    response = await client.post("/depends")

    assert len(response.json()) == 2
    assert sorted(await queued(app[1])) == ["dependency", "sync dependency"]


async def test_it_comes_after_the_response_and_all_that_follows_it(
    app: tuple[Any, Hub], client: httpx.AsyncClient
) -> None:
    """A dependency that commits when it closes has committed: the job finds its rows."""
    await client.post("/closing")

    assert sorted(apps.seen) == ["background, 0 jobs", "closed, 0 jobs"]
    assert await queued(app[1]) == ["closing"]


async def test_a_stream_enqueues_at_its_end(app: tuple[Any, Hub], client: httpx.AsyncClient) -> None:
    response = await client.post("/stream")

    assert (response.content, apps.seen) == (b"ab", ["last part, 0 jobs"])
    assert await queued(app[1]) == ["stream"]


async def test_a_redis_that_is_away_breaks_no_answer_and_the_log_names_the_job(framework: str, namespace: str) -> None:
    """The response is out: what was lost is all that can still be said."""
    url = f"redis://127.0.0.1:{free_port()}/0"
    config = Config(namespace=namespace, embedded="never", command_deadline_s=0.05)
    app, hub = BUILD[framework](url=url, config=config)
    with listening("queue") as log:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://web") as client:
            response = await client.post("/answer/200")
    await hub.aclose()

    [fields] = log.of("enqueue.failed")
    assert response.status_code == 200
    assert (fields["job"], fields["task"], fields["queue"], fields["after"]) == (
        response.json()["job"],
        "tied.note",
        "default",
        "response",
    )
    assert "StoreUnavailable" in fields["error"]


async def test_two_requests_at_once_do_not_mix(app: tuple[Any, Hub], client: httpx.AsyncClient) -> None:
    """Each has its own response to wait for."""
    responses = await asyncio.gather(*(client.post(f"/answer/{status}") for status in (200, 500) * 10))

    expected = {response.json()["job"] for response in responses if response.status_code == 200}
    store = app[1].queue().store
    ids = await store.connections.get().execute("ZRANGE", store.base + b"ready", 0, -1)
    assert isinstance(ids, list)
    assert {job_id.decode() for job_id in ids if isinstance(job_id, bytes)} == expected
    assert len(await queued(app[1])) == 10


async def test_what_outlives_its_request_is_refused(app: tuple[Any, Hub], client: httpx.AsyncClient) -> None:
    """It would wait for ever, and nobody would see it."""
    await client.post("/keep")

    with pytest.raises(NothingToTieTo, match="its request has ended"):
        apps.kept[0].enqueue(note, "late")


async def test_where_nothing_is_answered_there_is_nothing_to_wait_for(app: tuple[Any, Hub]) -> None:
    """A job, a script."""
    with pytest.raises(NothingToTieTo, match=r"await queue\.enqueue"):
        _ = app[1].queue().after_response


async def test_a_websocket_has_no_response(app: tuple[Any, Hub]) -> None:
    received: list[dict[str, Any]] = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1000}]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return received.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope: dict[str, Any] = {"type": "websocket", "path": "/ws", "raw_path": b"/ws", "query_string": b"", "headers": []}
    scope |= {"asgi": {"version": "3.0"}, "scheme": "ws", "root_path": "", "subprotocols": [], "state": {}}
    scope |= {"client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "http_version": "1.1"}
    await app[0](scope, receive, send)

    [text] = [message["text"] for message in sent if message["type"] == "websocket.send"]
    assert "nothing to tie a job to" in text
