"""What Litestar takes from a request, and how two requests are told apart by it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Annotated, Any

import httpx
import pytest
from litestar import Controller, Litestar, Router, post
from litestar.di import Provide
from litestar.params import (
    CookieParameter,
    FromCookie,
    FromHeader,
    FromPath,
    FromQuery,
    HeaderParameter,
    JSONBody,
    QueryParameter,
)

from arq_web import Config
from arq_web.litestar import ArqWeb, RequestTime, background_job
from tests.http.twice_asked import ITEM, Asked, ask, assert_one_job, assert_other_is_refused

KEY = {"Idempotency-Key": "k"}


@dataclass
class Item:
    name: str
    tags: set[str] = field(default_factory=set)


async def tenant_name(tenant: FromPath[str]) -> str:
    """A dependency that reads the path."""
    return f"tenant {tenant}"


async def page_name(page: FromQuery[int]) -> str:
    """A dependency that reads the query."""
    return f"page {page}"


async def names(data: JSONBody[list[Item]]) -> list[str]:
    """A dependency that reads the body."""
    return [item.name for item in data]


async def user(authorization: FromHeader[str]) -> str:
    """A dependency that reads a header."""
    return authorization.removeprefix("Bearer ")


@post("/item/{item_id:int}", status_code=202)
@background_job
async def with_item(
    item_id: FromPath[int], data: JSONBody[Item], q: Annotated[int, QueryParameter(name="quantity")] = 1
) -> None: ...


@post("/head", status_code=202)
@background_job
async def with_head(
    token: FromHeader[str],
    session: FromCookie[str],
    trace: Annotated[str, HeaderParameter(name="x-trace")] = "",
    flavour: Annotated[str, CookieParameter(name="flavour")] = "",
) -> None: ...


@post("/tenants/{tenant:str}", status_code=202, dependencies={"tenant_name": Provide(tenant_name)})
@background_job
async def with_tenant(tenant_name: RequestTime[str]) -> None: ...


@post("/paged", status_code=202, dependencies={"page_name": Provide(page_name)})
@background_job
async def with_page(page_name: RequestTime[str]) -> None: ...


@post("/names", status_code=202, dependencies={"names": Provide(names)})
@background_job
async def with_names(names: RequestTime[list[str]]) -> None: ...


@post("/user", status_code=202, dependencies={"user": Provide(user)})
@background_job
async def with_user(user: RequestTime[str]) -> None: ...


class Things(Controller):
    path = "/alone"

    @post("/{thing:str}", status_code=202)
    @background_job
    async def with_thing(self, thing: FromPath[str], more: FromQuery[int] = 0) -> None: ...


@pytest.fixture
async def client(redis_url: str, namespace: str) -> AsyncIterator[httpx.AsyncClient]:
    plugin = ArqWeb(url=redis_url, config=Config(namespace=namespace, embedded="never"))
    inner = Router(
        "/inner", route_handlers=[with_item, with_head, with_tenant, with_page, with_names, with_user, Things]
    )
    app: Any = Litestar(
        [Router("/{area:str}", route_handlers=[inner]), Router("/v2", route_handlers=[Things])], plugins=[plugin]
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://web", headers=KEY) as client:
        yield client
    await plugin.hub.aclose()


SAME: list[tuple[Asked, Asked]] = [
    (("item/1", {"json": ITEM}), ("item/1?quantity=1", {"json": {"tags": ["b", "a"], "name": "cup"}})),
    (
        ("head", {"headers": {"token": "1", "x-trace": "1"}, "cookies": {"session": "1", "flavour": "1"}}),
        ("head", {"headers": {"token": "2", "x-trace": "2"}, "cookies": {"session": "2", "flavour": "2"}}),
    ),
    (("user", {"headers": {"authorization": "Bearer a"}}), ("user", {"headers": {"authorization": "Bearer b"}})),
    (("names", {"json": [ITEM]}), ("names", {"json": [{"name": "cup"}]})),
    (("alone/a", {}), ("alone/a", {"headers": {"x-any": "1"}})),
]
DIFFERENT: list[tuple[Asked, Asked]] = [
    (("item/1", {"json": ITEM}), ("item/2", {"json": ITEM})),
    (("item/1", {"json": ITEM}), ("item/1", {"json": {**ITEM, "tags": []}})),
    (("item/1", {"json": ITEM}), ("item/1?quantity=2", {"json": ITEM})),
    (("tenants/a", {}), ("tenants/b", {})),
    (("paged?page=1", {}), ("paged?page=2", {})),
    (("names", {"json": [ITEM]}), ("names", {"json": [ITEM, ITEM]})),
    (("alone/a", {}), ("alone/b", {})),
    (("alone/a", {}), ("alone/a?more=1", {})),
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
    """The path of a router is part of the route."""
    answers = [await client.post(path) for path in ("/eu/inner/alone/a", "/v2/alone/a")]

    assert len({answer.json()["id"] for answer in answers}) == 2


async def test_a_parameter_of_a_router_is_a_value(client: httpx.AsyncClient) -> None:
    """The function does not even take it; but it is another thing that is asked for."""
    answers = [await ask(client, ("alone/a", {}), under) for under in ("/eu/inner/", "/us/inner/")]

    assert [answer.status_code for answer in answers] == [202, 422]
