"""The suite's app in FastAPI; see site.py."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import FastAPI, Header, HTTPException, Request

from arq_web import Config
from arq_web.fastapi import INJECTED, ArqWeb, Progress, Queue, background_job
from tests.http.site import Greeted, Greeting, Site, greeted, noted

QUEUES = ("default", "emails")


def fastapi_site(*, url: str, config: Config, options: Mapping[str, Any]) -> Site:
    """A fresh app."""
    app = FastAPI(redirect_slashes=False)
    plugin = ArqWeb(app, url=url, config=config, tasks=[noted], queues=QUEUES, **options)
    site = Site("fastapi", app, plugin.hub, app.state.arq_web_front, openapi_path="/openapi.json")
    _add_twins(app)
    _add_jobs(app, site)
    return site


def user_of(request: Request) -> str | None:
    """For ``owner=``."""
    return request.headers.get("x-user")


def _add_twins(app: FastAPI) -> None:
    def double(number: int) -> int:
        return number * 2

    async def greet(greeting: Greeting) -> Greeted:
        return greeted(greeting)

    async def nothing() -> None: ...

    async def refuse(status: int) -> None:
        raise HTTPException(status, "no such image", {"X-Why": "gone"})

    async def crash() -> None:
        raise ValueError("broken pixel at 10.0.0.7")

    for path, function, status in (
        ("/double/{number}", double, 200),
        ("/greet", greet, 200),
        ("/nothing", nothing, 204),
        ("/refuse/{status}", refuse, 200),
        ("/crash", crash, 200),
    ):
        job: Any = background_job(name=f"http.{function.__name__}", result_status=status, max_wait=5)(function)
        app.post(path, status_code=202)(job)
        app.post("/plain" + path, status_code=status)(function)


def _add_jobs(app: FastAPI, site: Site) -> None:
    @app.post("/hang", status_code=202)
    @background_job(name="http.hang", max_wait=5)
    async def hang() -> None:
        await asyncio.Event().wait()

    @app.post("/step", status_code=202)
    @background_job(name="http.step")
    async def step(progress: Progress = INJECTED) -> str:
        await progress(0.5, "half")
        await site.go_on.wait()
        return "done"

    @app.post("/note", status_code=202)
    @background_job(name="http.note", queue="emails")
    async def note(greeting: Greeting) -> str:
        return greeting.name

    @app.post("/unkept", status_code=202)
    @background_job(name="http.unkept", keep_result=0)
    async def unkept() -> str:
        return "secret"

    @app.post("/order/{size}", status_code=202)
    @background_job(name="http.order", idempotency="required")
    async def order(size: int, greeting: Greeting, x_note: Annotated[str, Header()] = "", colour: str = "red") -> str:
        return f"{size} {colour} {greeting.name} {x_note}"

    @app.post("/loose", status_code=202)
    @background_job(name="http.loose", idempotency="off")
    async def loose() -> None: ...

    @app.post("/mine")
    async def mine(queue: Queue) -> dict[str, str]:
        return {"job": (await queue.enqueue(noted.options(id="order:1"), "mine")).id}
