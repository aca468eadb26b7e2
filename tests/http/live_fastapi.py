"""The app of live.py in FastAPI."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from arq_web.fastapi import INJECTED, ArqWeb, Progress, background_job
from tests.http import live

app = FastAPI()
ArqWeb(app)


@app.post("/climbs", status_code=202)
@background_job(name="live.climb", max_tries=3, timeout=120)
async def climb(gate: str, progress: Progress = INJECTED) -> str:
    return await live.climb(gate, progress)


@app.get("/pages/{name}", response_class=HTMLResponse)
def show(name: str) -> str:
    return live.page(name)
