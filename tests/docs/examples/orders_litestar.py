"""How-to: a route whose requests may be repeated, and a queue with a limit, Litestar."""

# --8<-- [start:app]
from dataclasses import dataclass
from typing import Any

from litestar import Litestar, Request, post
from litestar.params import FromPath, FromQuery, JSONBody

from arq_web.litestar import ArqWeb, background_job


@dataclass
class Order:
    item: str
    count: int = 1


def user_id(request: Request[Any, Any, Any]) -> str | None:
    return request.headers.get("X-User")  # whom your authentication has found


@post("/orders/{shop:str}", status_code=202)
@background_job(idempotency="required", max_wait=10)
async def place_order(shop: FromPath[str], data: JSONBody[Order]) -> str:
    return f"{data.count} x {data.item} from {shop}"


app = Litestar([place_order], plugins=[ArqWeb(owner=user_id)])
# --8<-- [end:app]


# --8<-- [start:limit]
@post("/reports", status_code=202)
@background_job(queue="reports")
async def make_report(month: FromQuery[str]) -> None: ...


jobs = ArqWeb(queues=["default", "reports"], max_queued={"reports": 100})
limited = Litestar([make_report], plugins=[jobs])
# --8<-- [end:limit]
