"""The health routes of a web app, in both frameworks: the same answers, behind what the app wants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Header, HTTPException
from litestar import Litestar
from litestar.connection import ASGIConnection
from litestar.exceptions import NotAuthorizedException
from litestar.handlers import BaseRouteHandler

import arq_web.fastapi
import arq_web.litestar
from arq_web import Config, Hub, task
from arq_web.errors import InvalidConfig
from arq_web.loading import app_lifespan
from tests.support.ports import free_port
from tests.support.waiting import wait_until

PATHS = ("/livez", "/readyz", "/startupz", "/scale", "/scale/mail")
Build = Callable[..., Any]


@task
async def nothing() -> None: ...


def token_only(x_token: Annotated[str, Header()] = "") -> None:
    if x_token != "kubelet":
        raise HTTPException(401)


def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    if connection.headers.get("x-token") != "kubelet":
        raise NotAuthorizedException


def fastapi_app(*, guarded: bool = False, **options: Any) -> FastAPI:
    app = FastAPI()
    dependencies = [Depends(token_only)] if guarded else []
    arq_web.fastapi.ArqWeb(app, tasks=[nothing], health_dependencies=dependencies, **options)
    return app


def litestar_app(*, guarded: bool = False, **options: Any) -> Litestar:
    guards: list[Any] = [guard] if guarded else []
    return Litestar(plugins=[arq_web.litestar.ArqWeb(tasks=[nothing], health_guards=guards, **options)])


@pytest.fixture(params=[fastapi_app, litestar_app], ids=["fastapi", "litestar"])
def build(request: pytest.FixtureRequest, redis_url: str, namespace: str) -> Build:
    made: Build = request.param

    def build(embedded: str = "never", **options: Any) -> Any:
        options = {"url": redis_url, "health_path": "/-/jobs", "queues": ("default", "mail")} | options
        config = Config(namespace=namespace, embedded=embedded)  # type: ignore[arg-type]
        return made(config=config, **options)

    return build


@asynccontextmanager
async def client_of(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        app_lifespan(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://t") as client,
    ):
        yield client


async def test_a_web_process_without_a_worker_tells_of_redis_and_of_its_queues(build: Build) -> None:
    """Its autoscaler finds the numbers here while no worker is left to ask."""
    async with client_of(build()) as client:
        answers = {path: await client.get("/-/jobs" + path) for path in PATHS}
        metrics, unknown = await client.get("/-/jobs/metrics"), await client.get("/-/jobs/scale/nobodys")

    assert {answer.status_code for answer in answers.values()} == {200}
    assert answers["/readyz"].json() == {"status": "ok", "reasons": {}}
    assert answers["/readyz"].headers["cache-control"] == "no-store"
    assert answers["/scale"].json() == {
        "ready": 0,
        "oldest_ready_age_s": 0.0,
        "running": 0,
        "slots": 0,
        "scheduled": 0,
        "workers": 0,
    }
    assert (metrics.status_code, unknown.status_code) == (404, 404)
    assert "metrics=True" in metrics.text


async def test_an_embedded_worker_is_told_of(build: Build) -> None:
    """Its slots, its tasks, the thread of its renewals."""
    async with client_of(build("always")) as client:

        async def is_up() -> bool:
            return (await client.get("/-/jobs/startupz")).status_code == 200

        async def is_seen() -> bool:
            return bool((await client.get("/-/jobs/scale")).json()["workers"])

        await wait_until(is_up, description="the embedded worker is up")
        live = (await client.get("/-/jobs/livez")).json()
        await wait_until(is_seen, description="it has claimed")
        scale = (await client.get("/-/jobs/scale")).json()

    assert (live["is_working"], live["slots"], live["tasks"]) == (True, Config().embedded_concurrency, 1)
    assert live["renewed_ago_s"] < 3
    assert (scale["workers"], scale["slots"]) == (1, Config().embedded_concurrency)


async def test_slots_are_those_of_the_workers_that_are_counted(build: Build, redis_url: str, namespace: str) -> None:
    """Beside an external worker the embedded one does nothing: its concurrency is nobody's."""
    hub = Hub(url=redis_url, tasks=[nothing], config=Config(namespace=namespace))
    worker = hub.worker()
    async with client_of(build("always")) as client, asyncio.TaskGroup() as group:
        group.create_task(worker.run())

        async def counts_it() -> bool:
            scale = (await client.get("/-/jobs/scale")).json()
            return (await hub.queue().store.workers()) != [] and scale["slots"] == Config().concurrency

        await wait_until(counts_it, description="the external worker's slots are told")
        up = (await client.get("/-/jobs/startupz")).json()
        worker.stop()
    await hub.aclose()

    assert up["slots"] == Config().embedded_concurrency != Config().concurrency


async def test_they_stand_behind_the_apps_own_guards(build: Build) -> None:
    async with client_of(build(guarded=True)) as client:
        without = {(await client.get("/-/jobs" + path)).status_code for path in (*PATHS, "/metrics")}
        with_token = (await client.get("/-/jobs/livez", headers={"x-token": "kubelet"})).status_code

    assert without == {401}
    assert with_token == 200


async def test_head_is_answered_too_and_nothing_else(build: Build) -> None:
    async with client_of(build()) as client:
        head, whole = await client.head("/-/jobs/livez"), await client.get("/-/jobs/livez")
        post = await client.post("/-/jobs/livez")

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(whole.content))
    assert post.status_code == 405


async def test_metrics_are_those_of_the_app(build: Build) -> None:
    async with client_of(build(metrics=True)) as client:
        answer = await client.get("/-/jobs/metrics")

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert "# TYPE arq_" in answer.text


async def test_there_are_none_unless_somebody_asks_and_none_are_documented(build: Build) -> None:
    """They are for machines inside; the API's readers need not know of them."""
    async with client_of(build(health_path=None)) as client:
        absent = await client.get("/-/jobs/livez")
    async with client_of(build()) as client:
        pages = [await client.get(path) for path in ("/openapi.json", "/schema/openapi.json")]

    assert absent.status_code == 404
    [document] = [page.text for page in pages if page.status_code == 200]
    assert "livez" not in document


@pytest.mark.parametrize("path", ["", "/", "jobs", "/-/jobs/", "/{tenant}/jobs"])
def test_a_path_that_is_none_is_refused(build: Build, path: str) -> None:
    with pytest.raises(InvalidConfig, match="health_path"):
        build(health_path=path)


async def test_redis_that_is_away_makes_it_not_ready(build: Build) -> None:
    """And the web process lives on."""
    app = build(url=f"redis://127.0.0.1:{free_port()}/0")
    async with client_of(app) as client:
        live, ready, scale = [await client.get("/-/jobs" + path) for path in ("/livez", "/readyz", "/scale")]

    assert (live.status_code, ready.status_code, scale.status_code) == (200, 503, 503)
    assert ready.json()["reasons"] == {"redis": "Redis does not answer"}
