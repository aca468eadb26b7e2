"""A FastAPI app with a trivial route and an embedded worker: ``uvicorn benchmarks.web.embedded_app:app``."""

from __future__ import annotations

from fastapi import FastAPI

from arq_web.fastapi import ArqWeb
from benchmarks.systems import base, ours

app = FastAPI()
ArqWeb(app, url=base.spec().redis_url, tasks=ours.TASKS.values(), embedded="always")


@app.get("/ping")
async def ping() -> dict[str, bool]:
    return {"pong": True}
