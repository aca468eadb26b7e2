"""How-to: a route whose requests may be repeated, and a queue with a limit, FastAPI."""

# --8<-- [start:app]
from fastapi import FastAPI, Request
from pydantic import BaseModel

from arq_web.fastapi import ArqWeb, background_job


class Order(BaseModel):
    item: str
    count: int = 1


def user_id(request: Request) -> str | None:
    return request.headers.get("X-User")  # whom your authentication has found


app = FastAPI()
ArqWeb(app, owner=user_id)


@app.post("/orders/{shop}", status_code=202)
@background_job(idempotency="required", max_wait=10)
async def place_order(shop: str, order: Order) -> str:
    return f"{order.count} x {order.item} from {shop}"
    # --8<-- [end:app]


limited = FastAPI()

# --8<-- [start:limit]
ArqWeb(limited, queues=["default", "reports"], max_queued={"reports": 100})


@limited.post("/reports", status_code=202)
@background_job(queue="reports")
async def make_report(month: str) -> None: ...


# --8<-- [end:limit]
