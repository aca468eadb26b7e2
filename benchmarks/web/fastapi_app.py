"""One function as two FastAPI routes, in the request and as a job: ``uvicorn benchmarks.web.fastapi_app:app``."""

from __future__ import annotations

from fastapi import FastAPI
from pydantic import BaseModel

from arq_web.fastapi import ArqWeb, background_job
from benchmarks.systems import base

app = FastAPI()
ArqWeb(app, url=base.spec().redis_url, embedded="never")


class Order(BaseModel):
    index: int
    text: str


@app.post("/plain")
async def plain(order: Order) -> dict[str, int]:
    return {"index": base.ran(order.index)}


@app.post("/job", status_code=202)
@background_job
async def job(order: Order) -> dict[str, int]:
    return {"index": base.ran(order.index)}
