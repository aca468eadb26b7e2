"""How-to: the slow route is a job, Litestar."""

# --8<-- [start:app]
import asyncio
from dataclasses import dataclass

from litestar import Litestar, post
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

from arq_web.litestar import INJECTED, ArqWeb, Progress, background_job


@dataclass
class Report:
    month: str
    orders: int


@post("/reports/{month:str}", status_code=202)
@background_job(max_wait=10)
async def make_report(month: FromPath[str], progress: Progress = INJECTED) -> Report:
    if month > "2026-12":
        raise NotFoundException("nothing was sold yet")
    for third in range(3):
        await progress(third / 3, "counting")
        await asyncio.sleep(1)  # queries, and more queries
    return Report(month=month, orders=42)


app = Litestar([make_report], plugins=[ArqWeb()])
# --8<-- [end:app]
