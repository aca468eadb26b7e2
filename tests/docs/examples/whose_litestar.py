"""How-to: jobs have owners, Litestar."""

# --8<-- [start:app]
from typing import Any

from litestar import Litestar, Request, post
from litestar.connection import ASGIConnection
from litestar.di import Provide
from litestar.exceptions import NotAuthorizedException
from litestar.handlers import BaseRouteHandler
from litestar.params import FromPath

from arq_web.litestar import ArqWeb, RequestTime, background_job

USERS = {"key-of-ann": "ann", "key-of-ben": "ben"}


def owner_of(request: Request[Any, Any, Any]) -> str | None:
    return USERS.get(request.headers.get("X-Key", ""))


def needs_user(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    if connection.headers.get("X-Key") not in USERS:
        raise NotAuthorizedException


async def current_user(request: Request[Any, Any, Any]) -> str:
    return owner_of(request) or ""


@post("/reports/{month:str}", status_code=202, guards=[needs_user], dependencies={"user": Provide(current_user)})
@background_job
async def make_report(month: FromPath[str], user: RequestTime[str]) -> str:
    return f"the report of {month} for {user}"


jobs = ArqWeb(
    owner=owner_of,  # noted with each job; to others it is an unknown one
    routes=["status", "result", "events", "cancel", "list", "delete"],
    guards=[needs_user],
)
app = Litestar([make_report], plugins=[jobs])
# --8<-- [end:app]
