"""How-to: test your jobs. Pytest collects this file itself: it is what the page shows."""

# --8<-- [start:imports]
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI

from arq_web import Config, Hub

# --8<-- [end:imports]
from arq_web.fastapi import ArqWeb
from tests.docs.examples.first_job_fastapi import send_welcome, signup


# --8<-- [start:function]
async def test_a_welcome_is_sent() -> None:
    assert await send_welcome(42) == "sent a welcome to user 42"  # a task is a function
    # --8<-- [end:function]


# --8<-- [start:job]
@pytest.fixture
async def hub(redis_url: str, namespace: str) -> AsyncIterator[Hub]:
    hub = Hub(url=redis_url, tasks=[send_welcome], config=Config(namespace=namespace))
    yield hub
    await hub.aclose()


async def test_a_job_runs(hub: Hub) -> None:
    job = await hub.queue().enqueue(send_welcome, 42)

    await hub.worker(burst=True).run()  # until nothing is left to do

    assert await job.result(timeout=5) == "sent a welcome to user 42"
    # --8<-- [end:job]


# --8<-- [start:route]
async def test_a_route_makes_a_job(app: FastAPI) -> None:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        response = await client.post("/signup/42")

    hub: Hub = app.state.arq_web
    await hub.worker(burst=True).run()
    job = hub.queue().job(response.json()["job"], send_welcome)
    assert await job.result(timeout=5) == "sent a welcome to user 42"
    await hub.aclose()
    # --8<-- [end:route]


@pytest.fixture
def app(redis_url: str, namespace: str) -> FastAPI:
    app = FastAPI()
    ArqWeb(app, url=redis_url, tasks=[send_welcome], config=Config(namespace=namespace, embedded="never"))
    app.post("/signup/{user_id}")(signup)
    return app
