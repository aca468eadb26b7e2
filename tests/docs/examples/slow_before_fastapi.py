"""How-to: a route that takes too long, FastAPI."""

# --8<-- [start:app]
import asyncio

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel

app = FastAPI()


class Report(BaseModel):
    month: str
    orders: int


@app.post("/reports/{month}")
async def make_report(month: str) -> Report:
    if month > "2026-12":
        raise HTTPException(404, "nothing was sold yet")
    await asyncio.sleep(3)  # queries, and more queries
    return Report(month=month, orders=42)
    # --8<-- [end:app]
