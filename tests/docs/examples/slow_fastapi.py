"""How-to: the slow route is a job, FastAPI."""

# --8<-- [start:app]
import asyncio

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

from arq_web.fastapi import INJECTED, ArqWeb, Progress, background_job

app = FastAPI()
ArqWeb(app)


class Report(BaseModel):
    month: str
    orders: int


@app.post("/reports/{month}", status_code=202)
@background_job(max_wait=10)
async def make_report(month: str, progress: Progress = INJECTED) -> Report:
    if month > "2026-12":
        raise HTTPException(404, "nothing was sold yet")
    for third in range(3):
        await progress(third / 3, "counting")
        await asyncio.sleep(1)  # queries, and more queries
    return Report(month=month, orders=42)
    # --8<-- [end:app]
