"""The suite's app in Litestar; see site.py."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

from litestar import Litestar, Request, post
from litestar.exceptions import HTTPException
from litestar.params import FromPath, FromQuery, HeaderParameter, JSONBody

from arq_web import Config
from arq_web.litestar import INJECTED, ArqWeb, Progress, Queue, background_job
from tests.http.site import Greeted, Greeting, Site, greeted, noted

QUEUES = ("default", "emails")


def litestar_site(*, url: str, config: Config, options: Mapping[str, Any]) -> Site:
    """A fresh app."""
    plugin = ArqWeb(url=url, config=config, tasks=[noted], queues=QUEUES, **options)
    go_on = asyncio.Event()
    app = Litestar([*_twins(), *_jobs(go_on)], plugins=[plugin])
    served: Any = app
    return Site("litestar", served, plugin.hub, plugin.hub.front, openapi_path="/schema/openapi.json", go_on=go_on)


def user_of(request: Request[Any, Any, Any]) -> str | None:
    """For ``owner=``."""
    return request.headers.get("x-user")


def _twins() -> list[Any]:
    def double(number: FromPath[int]) -> int:
        return number * 2

    async def greet(data: JSONBody[Greeting]) -> Greeted:
        return greeted(data)

    async def nothing() -> None: ...

    async def refuse(status: FromPath[int]) -> None:
        raise HTTPException(status_code=status, detail="no such image", headers={"X-Why": "gone"})

    async def crash() -> None:
        raise ValueError("broken pixel at 10.0.0.7")

    handlers: list[Any] = []
    for path, function, status in (
        ("/double/{number:int}", double, 200),
        ("/greet", greet, 200),
        ("/nothing", nothing, 204),
        ("/refuse/{status:int}", refuse, 200),
        ("/crash", crash, 200),
    ):
        job: Any = background_job(name=f"http.{function.__name__}", result_status=status, max_wait=5)(function)
        handlers.append(post(path, status_code=202)(job))
        blocks: Any = {"sync_to_thread": False} if function is double else {}
        handlers.append(post("/plain" + path, status_code=status, **blocks)(function))
    return handlers


def _jobs(go_on: asyncio.Event) -> list[Any]:
    @post("/hang", status_code=202)
    @background_job(name="http.hang", max_wait=5)
    async def hang() -> None:
        await asyncio.Event().wait()

    @post("/step", status_code=202)
    @background_job(name="http.step")
    async def step(progress: Progress = INJECTED) -> str:
        await progress(0.5, "half")
        await go_on.wait()
        return "done"

    @post("/note", status_code=202)
    @background_job(name="http.note", queue="emails")
    async def note(data: JSONBody[Greeting]) -> str:
        return data.name

    @post("/unkept", status_code=202)
    @background_job(name="http.unkept", keep_result=0)
    async def unkept() -> str:
        return "secret"

    @post("/order/{size:int}", status_code=202)
    @background_job(name="http.order", idempotency="required")
    async def order(
        size: FromPath[int],
        data: JSONBody[Greeting],
        x_note: Annotated[str, HeaderParameter(name="X-Note")] = "",
        colour: FromQuery[str] = "red",
    ) -> str:
        return f"{size} {colour} {data.name} {x_note}"

    @post("/loose", status_code=202)
    @background_job(name="http.loose", idempotency="off")
    async def loose() -> None: ...

    @post("/mine", status_code=200)
    async def mine(queue: Queue) -> dict[str, str]:
        return {"job": (await queue.enqueue(noted.options(id="order:1"), "mine")).id}

    return [hang, step, note, unkept, order, loose, mine]
