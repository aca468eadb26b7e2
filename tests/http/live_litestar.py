"""The app of live.py in Litestar."""

from __future__ import annotations

from litestar import Litestar, get, post
from litestar.enums import MediaType

from arq_web.litestar import INJECTED, ArqWeb, Progress, background_job
from tests.http import live


@post("/climbs", status_code=202)
@background_job(name="live.climb", max_tries=3, timeout=120)
async def climb(gate: str, progress: Progress = INJECTED) -> str:
    return await live.climb(gate, progress)


@get("/pages/{name:str}", media_type=MediaType.HTML, sync_to_thread=False)
def show(name: str) -> str:
    return live.page(name)


app = Litestar([climb, show], plugins=[ArqWeb()])
