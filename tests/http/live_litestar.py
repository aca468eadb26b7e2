"""The app of live.py in Litestar."""

from __future__ import annotations

from litestar import Litestar, get, post
from litestar.enums import MediaType

from arq_web.litestar import ArqWeb, Queue
from tests.http.live import climb, page


@post("/climbs")
async def start(gate: str, queue: Queue) -> dict[str, str]:
    return {"id": (await queue.enqueue(climb, gate)).id}


@get("/pages/{name:str}", media_type=MediaType.HTML, sync_to_thread=False)
def show(name: str) -> str:
    return page(name)


app = Litestar([start, show], plugins=[ArqWeb(tasks=[climb])])
