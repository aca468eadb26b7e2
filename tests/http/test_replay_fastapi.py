"""FastAPI's words on what is answered count for a job's result: response model, response class, exception handlers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from pydantic import BaseModel, Field

from arq_web import Config
from arq_web.fastapi import ArqWeb, background_job
from tests.http.site import said


class Indented(JSONResponse):
    def render(self, content: Any) -> bytes:
        return json.dumps(content, indent=2).encode()


class Account(BaseModel):
    id: int
    full_name: str = Field(serialization_alias="fullName", default="Ann")
    secret: str = "hidden"
    note: str | None = None


class Shown(BaseModel):
    id: int
    full_name: str = Field(serialization_alias="fullName")


async def account() -> Account:
    return Account(id=7)


async def accounts() -> list[Account]:
    return [Account(id=1), Account(id=2, note="ü")]


async def anything():  # type: ignore[no-untyped-def]
    return {"at": datetime(2026, 1, 1, tzinfo=UTC), "price": Decimal("1.50"), "tags": {"a"}}


async def page() -> str:
    return "<b>ü</b>"


async def refused() -> None:
    raise HTTPException(422, {"field": "id", "why": ["too small"]}, {"X-Why": "id"})


async def wrong() -> Any:
    return {"id": "no number"}


@asynccontextmanager
async def pair(
    config: Config, url: str, function: Callable[..., Any], options: dict[str, Any], router: APIRouter | None = None
) -> AsyncIterator[tuple[FastAPI, Callable[[], Any]]]:
    """An app with the function as a route and as a job; call it for both answers."""
    app = FastAPI()
    hub = ArqWeb(app, url=url, config=config).hub
    router = router or APIRouter()
    router.post("/plain", **options)(function)
    accepted: dict[str, Any] = {**options, "status_code": 202}
    router.post("/job", **accepted)(background_job(name="pair")(function))
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)

    async def answers() -> tuple[httpx.Response, httpx.Response]:
        app.include_router(router)
        async with httpx.AsyncClient(transport=transport, base_url="http://web") as client:
            posted = await client.post("/job")
            await hub.worker(burst=True).run()
            return await client.post("/plain"), await client.get(posted.json()["links"]["result"])

    yield app, answers
    await hub.aclose()


CASES: list[tuple[Callable[..., Any], dict[str, Any]]] = [
    (account, {}),
    (account, {"response_model": Shown}),
    (account, {"response_model_by_alias": False}),
    (account, {"response_model_exclude": {"secret"}, "response_model_exclude_none": True}),
    (account, {"response_model_include": {"id"}}),
    (account, {"response_model_exclude_defaults": True}),
    (account, {"response_class": JSONResponse}),
    (accounts, {"response_model": list[Shown]}),
    (anything, {}),
    (anything, {"response_model": dict[str, Any]}),
    (page, {}),
    (page, {"response_class": HTMLResponse}),
    (page, {"response_class": PlainTextResponse}),
    (refused, {}),
    (wrong, {"response_model": Shown}),
]


@pytest.mark.parametrize(("function", "options"), CASES)
async def test_the_result_is_written_as_the_route_writes_it(
    config: Config, redis_url: str, function: Callable[..., Any], options: dict[str, Any]
) -> None:
    """Also where the value does not fit: then both are a 500."""
    async with pair(config, redis_url, function, options) as (_, answers):
        plain, result = await answers()

    status, headers, body = said(result)
    if result.status_code != 500:
        assert headers.pop("cache-control") == "private"
    assert (status, headers, body) == said(plain)


async def test_what_a_response_model_hides_is_shown_nowhere(config: Config, redis_url: str) -> None:
    """Neither in the status nor in the events: they show the result as the route writes it."""
    async with pair(config, redis_url, account, {"response_model": Shown}) as (app, answers):
        _, result = await answers()
        url = str(result.url).removesuffix("/result")
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://web") as client:
            status, events = await client.get(url), await client.get(url + "/events")

    assert status.json()["result"] == result.json() == {"id": 7, "fullName": "Ann"}
    assert '"result":{"id":7,"fullName":"Ann"}' in events.text
    assert "hidden" not in status.text + events.text


class Pixels(Response):
    media_type = "image/x-pixels"


@pytest.mark.parametrize(
    ("function", "kind", "shown"), [(page, HTMLResponse, "<b>ü</b>"), (page, Pixels, None), (accounts, Indented, "[")]
)
async def test_in_the_status_a_result_is_json_or_a_string(
    config: Config, redis_url: str, function: Callable[..., Any], kind: type[Response], shown: str | None
) -> None:
    """Anything else is where it is fetched. On one line: an event has no others."""
    async with pair(config, redis_url, function, {"response_class": kind}) as (app, answers):
        _, result = await answers()
        url = str(result.url).removesuffix("/result")
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://web") as client:
            status, events = await client.get(url), await client.get(url + "/events")

    assert status.json().get("result") == (result.json() if shown == "[" else shown)
    assert b"\n" not in status.content
    assert events.text.count("event: done\ndata: ") == 1


async def test_what_its_router_says_counts(config: Config, redis_url: str) -> None:
    router = APIRouter(prefix="/v1", default_response_class=PlainTextResponse)

    async with pair(config, redis_url, page, {}, APIRouter()) as (app, answers):
        router.post("/job", status_code=202)(background_job(name="routed")(page))
        app.include_router(router)
        await answers()
        hub = app.state.arq_web
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://web") as client:
            posted = await client.post("/v1/job")
            await hub.worker(burst=True).run()
            result = await client.get(posted.json()["links"]["result"])

    assert result.headers["content-type"] == "text/plain; charset=utf-8"
    assert result.text == "<b>ü</b>"


async def test_the_apps_own_exception_handler_answers_for_a_replayed_exception(config: Config, redis_url: str) -> None:
    """The exception is raised again, in a route of the app."""
    async with pair(config, redis_url, refused, {}) as (app, answers):

        @app.exception_handler(HTTPException)
        async def handle(request: Request, error: HTTPException) -> JSONResponse:
            return JSONResponse({"oops": error.detail}, error.status_code, error.headers)

        plain, result = await answers()

    assert result.json() == {"oops": {"field": "id", "why": ["too small"]}}
    assert (result.status_code, result.headers["x-why"]) == (plain.status_code, "id")
