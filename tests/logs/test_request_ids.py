"""One id from a request into its job and its log lines, the same in both frameworks."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from litestar import Litestar, post

from arq_web import Config, Hub, task
from arq_web.fastapi import ArqWeb as FastAPIArqWeb
from arq_web.fastapi import Queue as FastAPIQueue
from arq_web.litestar import ArqWeb as LitestarArqWeb
from arq_web.litestar import Queue as LitestarQueue
from arq_web.logs import LogContext, RequestIds, current_job
from tests.support.working import working


@task(name="ids:tell")
async def tell() -> str | None:
    """Say from which request it comes."""
    job = current_job()
    return None if job is None else job.request_id


def fastapi_app(url: str, namespace: str) -> tuple[Any, Hub]:
    app = FastAPI()
    context = LogContext()
    config = Config(namespace=namespace, embedded="never")
    jobs = FastAPIArqWeb(app, url=url, config=config, tasks=[tell], enqueue_middleware=[context.carry])
    app.add_middleware(RequestIds)

    @app.post("/tell")
    async def tell_later(queue: FastAPIQueue) -> str:
        return (await queue.enqueue(tell)).id

    @app.post("/after")
    async def tell_after(queue: FastAPIQueue) -> str:
        return queue.after_response.enqueue(tell).id

    return app, jobs.hub


def litestar_app(url: str, namespace: str) -> tuple[Any, Hub]:
    @post("/tell")
    async def tell_later(queue: LitestarQueue) -> str:
        return (await queue.enqueue(tell)).id

    @post("/after")
    async def tell_after(queue: LitestarQueue) -> str:
        return queue.after_response.enqueue(tell).id

    config = Config(namespace=namespace, embedded="never")
    jobs = LitestarArqWeb(url=url, config=config, tasks=[tell], enqueue_middleware=[LogContext().carry])
    app = Litestar([tell_later, tell_after], plugins=[jobs], middleware=[RequestIds])
    return app, app.state.arq_web


@pytest.mark.parametrize("make", [fastapi_app, litestar_app], ids=["fastapi", "litestar"])
@pytest.mark.parametrize("path", ["/tell", "/after"])
@pytest.mark.parametrize(
    ("given", "expected"),
    [("req-42", "req-42"), (None, r"[0-9a-f]{32}"), ("x" * 129, r"[0-9a-f]{32}"), ("a b", r"[0-9a-f]{32}")],
)
async def test_a_request_and_its_job_have_one_id(
    redis_url: str, namespace: str, make: Any, path: str, given: str | None, expected: str
) -> None:
    """Its own, or a new one where it has none that may go into a log; the response says which."""
    app, hub = make(redis_url, namespace)
    headers = {} if given is None else {"X-Request-ID": given}
    try:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
            response = await client.post(path, headers=headers)
        request_id = response.headers["x-request-id"]
        async with working(hub):
            found = await hub.queue().job(response.text.strip('"'), tell).result(10)
    finally:
        await hub.aclose()

    assert re.fullmatch(expected, request_id)
    assert found == request_id
