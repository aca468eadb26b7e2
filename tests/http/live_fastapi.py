"""The app of live.py in FastAPI."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from arq_web.fastapi import ArqWeb, Queue
from tests.http.live import climb, page

app = FastAPI()
ArqWeb(app, tasks=[climb])


@app.post("/climbs")
async def start(gate: str, queue: Queue) -> dict[str, str]:
    return {"id": (await queue.enqueue(climb, gate)).id}


@app.get("/pages/{name}", response_class=HTMLResponse)
def show(name: str) -> str:
    return page(name)
