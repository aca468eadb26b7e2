"""What FastAPI takes from a request, and how two requests are told apart by it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, Body, Cookie, Depends, FastAPI, Form, Header, Query
from pydantic import BaseModel

from arq_web import Config
from arq_web.fastapi import ArqWeb, RequestTime, background_job
from tests.http.twice_asked import ITEM, Asked, ask, assert_one_job, assert_other_is_refused

KEY = {"Idempotency-Key": "k"}


class Item(BaseModel):
    name: str
    tags: set[str] = set()


class Filters(BaseModel):
    limit: int = 10
    order: str = "name"


class Trace(BaseModel):
    x_trace: str = ""


def tenant_of(tenant: str) -> str:
    """A dependency that reads the path."""
    return f"tenant {tenant}"


def page_of(page: int) -> str:
    """A dependency that reads the query."""
    return f"page {page}"


def names_in(items: Annotated[list[Item], Body()]) -> list[str]:
    """A dependency that reads the body."""
    return [item.name for item in items]


def through(names: Annotated[list[str], Depends(names_in)]) -> int:
    return len(names)


def user_of(authorization: Annotated[str, Header()] = "") -> str:
    """A dependency that reads a header."""
    return authorization.removeprefix("Bearer ")


router = APIRouter()


@router.post("/item/{item_id}")
@background_job
async def with_item(item_id: int, item: Item, q: Annotated[int, Query(alias="quantity")] = 1) -> None: ...


@router.post("/filters")
@background_job
async def with_filters(filters: Annotated[Filters, Query()]) -> None: ...


@router.post("/form")
@background_job
async def with_form(name: Annotated[str, Form()], note: Annotated[str, Form()] = "") -> None: ...


@router.post("/head")
@background_job
async def with_head(token: Annotated[str, Header()] = "", session: Annotated[str, Cookie()] = "") -> None: ...


@router.post("/trace")
@background_job
async def with_trace(trace: Annotated[Trace, Header()]) -> None: ...


@router.post("/tenants/{tenant}")
@background_job
async def with_tenant(tenant_name: Annotated[str, Depends(tenant_of)]) -> None: ...


@router.post("/paged")
@background_job
async def with_page(page_name: Annotated[str, Depends(page_of)]) -> None: ...


@router.post("/names")
@background_job
async def with_names(count: Annotated[int, RequestTime(through)]) -> None: ...


@router.post("/user")
@background_job
async def with_user(user: Annotated[str, Depends(user_of)]) -> None: ...


@router.post("/alone/{thing}")
@background_job
async def with_thing(thing: str) -> None: ...


@asynccontextmanager
async def client_of(url: str, config: Config) -> AsyncIterator[httpx.AsyncClient]:
    app, inner = FastAPI(), APIRouter()
    hub = ArqWeb(app, url=url, config=config).hub
    inner.include_router(router, prefix="/inner")
    app.include_router(inner, prefix="/v2")
    app.include_router(inner, prefix="/{area}")
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://web", headers=KEY) as client:
        yield client
    await hub.aclose()


@pytest.fixture
async def client(redis_url: str, namespace: str) -> AsyncIterator[httpx.AsyncClient]:
    config = Config(namespace=namespace, embedded="never")
    async with client_of(redis_url, config) as client:
        yield client


SAME: list[tuple[Asked, Asked]] = [
    (("item/1", {"json": ITEM}), ("item/1", {"json": {"tags": ["b", "a", "a"], "name": "cup"}})),
    (("item/1", {"json": ITEM}), ("item/1", {"json": ITEM, "headers": {"authorization": "new"}})),
    (("filters", {}), ("filters?limit=10&other=1", {})),
    (("item/1", {"json": ITEM}), ("item/01?quantity=1", {"json": ITEM})),
    (("form", {"data": {"name": "a"}}), ("form", {"data": {"name": "a", "note": ""}})),
    (
        ("head", {"headers": {"token": "1"}, "cookies": {"session": "1"}}),
        ("head", {"headers": {"token": "2"}, "cookies": {"session": "2"}}),
    ),
    (("trace", {"headers": {"x-trace": "1"}}), ("trace", {"headers": {"x-trace": "2"}})),
    (("user", {"headers": {"authorization": "Bearer a"}}), ("user", {"headers": {"authorization": "Bearer b"}})),
    (("names", {"json": [ITEM]}), ("names", {"json": [{"name": "cup"}]})),
]
DIFFERENT: list[tuple[Asked, Asked]] = [
    (("item/1", {"json": ITEM}), ("item/2", {"json": ITEM})),
    (("item/1", {"json": ITEM}), ("item/1", {"json": {**ITEM, "tags": []}})),
    (("item/1", {"json": ITEM}), ("item/1?quantity=2", {"json": ITEM})),
    (("filters?limit=1", {}), ("filters?limit=2", {})),
    (("form", {"data": {"name": "a"}}), ("form", {"data": {"name": "b"}})),
    (("tenants/a", {}), ("tenants/b", {})),
    (("paged?page=1", {}), ("paged?page=2", {})),
    (("names", {"json": [ITEM]}), ("names", {"json": [ITEM, ITEM]})),
    (("alone/a", {}), ("alone/b", {})),
]


@pytest.mark.filterwarnings("ignore:Setting per-request cookies")
@pytest.mark.parametrize(("one", "other"), SAME)
async def test_the_same_request_is_the_same_job(client: httpx.AsyncClient, one: Asked, other: Asked) -> None:
    """Whatever stands in headers and cookies, and in whatever order or form the values came."""
    await assert_one_job(client, one, other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
async def test_another_request_is_refused(client: httpx.AsyncClient, one: Asked, other: Asked) -> None:
    """Also where what differs is read by a dependency alone."""
    await assert_other_is_refused(client, one, other)


async def test_a_function_at_two_paths_is_two_routes(client: httpx.AsyncClient) -> None:
    """The prefix of an included router is part of the route."""
    answers = [await ask(client, ("alone/a", {}), under) for under in ("/eu/inner/", "/v2/inner/")]

    assert len({answer.json()["id"] for answer in answers}) == 2


async def test_a_parameter_of_a_prefix_is_a_value(client: httpx.AsyncClient) -> None:
    """The function does not even take it; but it is another thing that is asked for."""
    answers = [await ask(client, ("alone/a", {}), under) for under in ("/eu/inner/", "/us/inner/")]

    assert [answer.status_code for answer in answers] == [202, 422]
