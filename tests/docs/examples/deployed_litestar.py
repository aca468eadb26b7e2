# --8<-- [start:app]
from typing import Any

from litestar import Litestar, post
from litestar.connection import ASGIConnection
from litestar.exceptions import NotFoundException
from litestar.handlers import BaseRouteHandler

from arq_web.litestar import ArqWeb, Queue, task


@task
async def send_welcome(user_id: int) -> str:
    return f"sent a welcome to user {user_id}"


def from_inside(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    if "x-forwarded-for" in connection.headers:  # your ingress sets it: autoscaler and probes come without
        raise NotFoundException


plugin = ArqWeb(tasks=[send_welcome], health_path="/-/jobs", health_guards=[from_inside])


# --8<-- [end:app]
@post("/signup/{user_id:int}")
async def signup(user_id: int, queue: Queue) -> dict[str, str]:
    job = await queue.enqueue(send_welcome, user_id)
    return {"job": job.id}


app = Litestar([signup], plugins=[plugin])
