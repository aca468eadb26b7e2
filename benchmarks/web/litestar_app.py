"""One function as two Litestar routes, in the request and as a job: ``uvicorn benchmarks.web.litestar_app:app``."""

from __future__ import annotations

from litestar import Litestar, post
from msgspec import Struct

from arq_web.litestar import ArqWeb, background_job
from benchmarks.systems import base


class Order(Struct):
    index: int
    text: str


@post("/plain")
async def plain(data: Order) -> dict[str, int]:
    return {"index": base.ran(data.index)}


@post("/job", status_code=202)
@background_job
async def job(data: Order) -> dict[str, int]:
    return {"index": base.ran(data.index)}


app = Litestar([plain, job], plugins=[ArqWeb(url=base.spec().redis_url, embedded="never")])
