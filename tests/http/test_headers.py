"""Headers that are easily wrong: of what has no body, and of who says how an answer is cached."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI, HTTPException, Response
from litestar import Litestar, post
from litestar.datastructures import ResponseHeader
from litestar.exceptions import HTTPException as LitestarHTTPException

import arq_web.fastapi
import arq_web.litestar
from arq_web import Config, Hub
from tests.http.site import Site
from tests.http.streaming import streaming

OWN = {"Cache-Control": "max-age=60"}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_304_says_nothing_of_a_body(site: Site, method: str) -> None:
    posted = await site.submit("/double/2")
    url = posted.headers["location"]
    etag = (await site.ask("GET", url)).headers["etag"]

    async with streaming(site.app, url, {"If-None-Match": etag}, method) as answer:
        assert answer.status == 304

    assert not answer.headers.keys() & {"content-length", "content-type"}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_204_says_nothing_of_a_body(site: Site, method: str) -> None:
    posted = await site.finished("/nothing")

    async with streaming(site.app, posted.json()["links"]["result"], method=method) as answer:
        assert answer.status == 204

    assert not answer.headers.keys() & {"content-length", "content-type"}


def fastapi_app(url: str, config: Config) -> tuple[Any, Hub]:
    app = FastAPI()
    hub = arq_web.fastapi.ArqWeb(app, url=url, config=config).hub

    def cached(response: Response) -> None:
        response.headers.update(OWN)

    @app.post("/refuse", status_code=202, dependencies=[Depends(cached)])
    @arq_web.fastapi.background_job(name="refuse", max_wait=5)
    async def refuse() -> None:
        raise HTTPException(404, "no such image", OWN)

    return app, hub


def litestar_app(url: str, config: Config) -> tuple[Any, Hub]:
    @post("/refuse", status_code=202, response_headers=[ResponseHeader(name="Cache-Control", value="max-age=60")])
    @arq_web.litestar.background_job(name="refuse", max_wait=5)
    async def refuse() -> None:
        raise LitestarHTTPException(status_code=404, detail="no such image", headers=OWN)

    plugin = arq_web.litestar.ArqWeb(url=url, config=config)
    return Litestar([refuse], plugins=[plugin]), plugin.hub


@pytest.mark.parametrize("build", [fastapi_app, litestar_app])
async def test_one_alone_says_how_an_answer_is_cached(build: Any, redis_url: str, config: Config) -> None:
    """Of the 202 we do; of what the handler came to, it does."""
    app, hub = build(redis_url, config)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://web") as client:
        posted = await client.post("/refuse")
        await hub.worker(burst=True).run()
        result = await client.get(posted.json()["links"]["result"])
    await hub.aclose()

    assert posted.headers.get_list("cache-control") == ["no-store"]
    assert (result.status_code, result.headers.get_list("cache-control")) == (404, ["max-age=60"])


async def test_what_litestars_layers_say_of_caching_is_said_once(redis_url: str, config: Config) -> None:
    """Of a result the layers of its handler count; of everything else, what we say."""

    @post("/double", status_code=202, response_headers=[ResponseHeader(name="Cache-Control", value="max-age=60")])
    @arq_web.litestar.background_job(name="double")
    async def double() -> int:
        return 42

    plugin = arq_web.litestar.ArqWeb(url=redis_url, config=config)
    layered = [ResponseHeader(name="Cache-Control", value="public")]
    app: Any = Litestar([double], plugins=[plugin], response_headers=layered)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://web") as client:
        links = (await client.post("/double")).json()["links"]
        await plugin.hub.worker(burst=True).run()
        answers = [await client.get(links[name]) for name in ("result", "self", "events")]
    await plugin.hub.aclose()

    said = [answer.headers.get_list("cache-control") for answer in answers]
    assert said == [["max-age=60"], ["no-store"], ["no-store"]]
