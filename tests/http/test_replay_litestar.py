"""Litestar's words on what is answered count for a job's result: DTOs, encoders, headers, hooks, of every layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx
import pytest
from litestar import Controller, Litestar, MediaType, Request, Response, Router, post
from litestar.datastructures import Cookie
from litestar.dto import DataclassDTO, DTOConfig, MsgspecDTO
from litestar.exceptions import HTTPException
from msgspec import Struct
from pydantic import BaseModel

from arq_web import Config
from arq_web.litestar import ArqWeb, background_job


@dataclass
class Account:
    id: int
    full_name: str = "Ann"
    secret: str = "hidden"


class Thing(Struct):
    id: int


class Shown(BaseModel):
    at: datetime
    price: Decimal


class AccountDTO(DataclassDTO[Account]):
    config = DTOConfig(exclude={"secret"}, rename_strategy="camel")


class Celsius:
    def __init__(self, degrees: float) -> None:
        self.degrees = degrees


async def account() -> Account:
    return Account(7)


async def accounts() -> list[Account]:
    return [Account(1), Account(2, "ü")]


async def thing() -> Thing:
    return Thing(7)


async def shown() -> Shown:
    return Shown(at=datetime(2026, 1, 1, tzinfo=UTC), price=Decimal("1.50"))


async def anything() -> Any:
    return {"at": datetime(2026, 1, 1, tzinfo=UTC), "price": Decimal("1.50"), "tags": {"a"}}


async def odd() -> Any:
    return complex(1, 2)


async def text() -> str:
    return "ü"


async def refused() -> None:
    raise HTTPException(
        detail="no such account", status_code=422, headers={"X-Why": "id"}, extra=[{"field": "id", "why": "too small"}]
    )


async def answers_of(
    config: Config,
    url: str,
    function: Callable[..., Any],
    options: dict[str, Any],
    wrap: Callable[[list[Any]], Any] = list,
    **app_options: Any,
) -> tuple[httpx.Response, httpx.Response]:
    """What the function answers as a handler, and as the result of a job."""
    plugin = ArqWeb(url=url, config=config)
    for_job: dict[str, Any] = {**options, "status_code": 202}
    for_plain: dict[str, Any] = {**options, "status_code": 200}
    job = post("/job", **for_job)(background_job(name="pair")(function))
    plain = post("/plain", **for_plain)(function)
    handlers = wrap([plain, job])
    app: Any = Litestar(handlers if isinstance(handlers, list) else [handlers], plugins=[plugin], **app_options)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://web") as client:
        prefix = "" if isinstance(handlers, list) else "/v1"
        posted = await client.post(prefix + "/job")
        assert posted.status_code == 202, posted.text
        await plugin.hub.worker(burst=True).run()
        answers = await client.post(prefix + "/plain"), await client.get(posted.json()["links"]["result"])
    await plugin.hub.aclose()
    return answers


def assert_same(plain: httpx.Response, result: httpx.Response) -> None:
    """Cookies come in any order: Litestar keeps them in a set."""
    headers = result.headers.copy()
    assert headers.pop("cache-control") == "private"
    assert (result.status_code, result.content) == (plain.status_code, plain.content)
    assert sorted(headers.multi_items()) == sorted(plain.headers.multi_items())


CASES: list[tuple[Callable[..., Any], dict[str, Any]]] = [
    (account, {}),
    (account, {"return_dto": AccountDTO}),
    (accounts, {"return_dto": AccountDTO}),
    (thing, {"return_dto": MsgspecDTO[Thing]}),
    (account, {"media_type": MediaType.MESSAGEPACK}),
    (account, {"response_headers": {"X-Own": "1"}, "response_cookies": [Cookie(key=key, value=key) for key in "abc"]}),
    (shown, {}),
    (anything, {}),
    (anything, {"type_encoders": {Decimal: lambda value: f"{value} €"}}),
    (text, {}),
    (text, {"media_type": MediaType.HTML}),
    (refused, {}),
]


@pytest.mark.parametrize(("function", "options"), CASES)
async def test_the_result_is_written_as_the_handler_writes_it(
    config: Config, redis_url: str, function: Callable[..., Any], options: dict[str, Any]
) -> None:
    assert_same(*await answers_of(config, redis_url, function, options))


async def test_what_a_dto_hides_is_shown_nowhere(config: Config, redis_url: str) -> None:
    """The status shows the result as the handler writes it."""
    plugin = ArqWeb(url=redis_url, config=config)
    job = post("/job", status_code=202, return_dto=AccountDTO)(background_job(name="pair")(account))
    app: Any = Litestar([job], plugins=[plugin])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://web") as client:
        posted = await client.post("/job")
        await plugin.hub.worker(burst=True).run()
        status = await client.get(posted.headers["location"])
    await plugin.hub.aclose()

    assert status.json()["result"] == {"id": 7, "fullName": "Ann"}


def with_footer(response: Response[Any]) -> Response[Any]:
    response.headers["X-After"] = "1"
    return response


LAYERS: list[tuple[Callable[..., Any], dict[str, Any]]] = [
    (account, {"return_dto": AccountDTO}),
    (account, {"dto": AccountDTO}),
    (thing, {"return_dto": MsgspecDTO[Thing]}),
    (anything, {"type_encoders": {Decimal: lambda value: f"{value} €"}}),
    (account, {"response_headers": {"X-Own": "1"}}),
    (account, {"after_request": with_footer}),
]


@pytest.mark.parametrize(("function", "options"), LAYERS)
@pytest.mark.parametrize("layer", ["app", "router"])
async def test_what_the_layers_above_it_say_counts(
    config: Config, redis_url: str, function: Callable[..., Any], options: dict[str, Any], layer: str
) -> None:
    """A handler's options are those of all of them."""

    def routed(handlers: list[Any]) -> Any:
        return Router("/v1", route_handlers=handlers, **options)

    wrap, app_options = (list, options) if layer == "app" else (routed, {})
    assert_same(*await answers_of(config, redis_url, function, {}, wrap, **app_options))


async def test_a_controllers_words_count(config: Config, redis_url: str) -> None:
    class Accounts(Controller):
        path = "/v1"
        return_dto = AccountDTO

        @post("/plain", status_code=200)
        async def plain(self) -> Account:
            return Account(7)

        @post("/job", status_code=202)
        @background_job(name="pair")
        async def job(self) -> Account:
            return Account(7)

    plugin = ArqWeb(url=redis_url, config=config)
    app: Any = Litestar([Accounts], plugins=[plugin])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://web") as client:
        posted = await client.post("/v1/job")
        await plugin.hub.worker(burst=True).run()
        assert_same(await client.post("/v1/plain"), await client.get(posted.json()["links"]["result"]))
    await plugin.hub.aclose()


async def test_the_app_answers_for_a_value_that_cannot_be_written(config: Config, redis_url: str) -> None:
    """As for the plain handler: its log, its own answer to a 500."""

    def handle(request: Request[Any, Any, Any], error: Exception) -> Response[str]:
        return Response(f"oops: {error}", status_code=500, media_type=MediaType.TEXT)

    plain, result = await answers_of(config, redis_url, odd, {}, exception_handlers={500: handle})

    assert (result.status_code, result.text) == (plain.status_code, plain.text)
    assert result.text == "oops: Unsupported type: <class 'complex'>"


async def test_the_apps_own_exception_handler_answers_for_a_replayed_exception(config: Config, redis_url: str) -> None:
    """The exception is raised again, in a route of the app."""

    def handle(request: Request[Any, Any, Any], error: HTTPException) -> Response[dict[str, object]]:
        return Response({"oops": error.extra}, status_code=error.status_code, headers=error.headers)

    handlers = {HTTPException: handle}
    plain, result = await answers_of(config, redis_url, refused, {}, exception_handlers=handlers)

    assert_same(plain, result)
    assert result.json() == {"oops": [{"field": "id", "why": "too small"}]}
