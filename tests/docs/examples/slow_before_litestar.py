"""How-to: a route that takes too long, Litestar."""

# --8<-- [start:app]
import asyncio
from dataclasses import dataclass

from litestar import Litestar, post
from litestar.exceptions import NotFoundException
from litestar.params import FromPath


@dataclass
class Report:
    month: str
    orders: int


@post("/reports/{month:str}", status_code=200)
async def make_report(month: FromPath[str]) -> Report:
    if month > "2026-12":
        raise NotFoundException("nothing was sold yet")
    await asyncio.sleep(3)  # queries, and more queries
    return Report(month=month, orders=42)


app = Litestar([make_report])
# --8<-- [end:app]
