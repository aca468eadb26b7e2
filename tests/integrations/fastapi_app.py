"""An app as a user writes it: postponed annotations, routers in routers. ``uvicorn`` and a worker run it too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Cookie, Depends, FastAPI, Form, Header, HTTPException, Query, WebSocket
from pydantic import AwareDatetime, BaseModel

import arq_web
from arq_web.fastapi import INJECTED, ArqWeb, FromQueue, JobContext, Queue, SyncQueue, background_job, task

seen: list[str] = []
app = FastAPI()
ArqWeb(app, queues=["default", "emails"])


class Report(BaseModel):
    title: str
    due: AwareDatetime | None = None


class User(BaseModel):
    name: str


class Connection:
    def __init__(self) -> None:
        self.is_open = True


async def get_connection() -> AsyncIterator[Connection]:
    connection = Connection()
    try:
        yield connection
    finally:
        connection.is_open = False


def get_dialect() -> Iterator[str]:
    seen.append("dialect")
    yield "sql"
    seen.append("no dialect")


class Repo:
    def __init__(
        self, connection: Annotated[Connection, Depends(get_connection)], dialect: str = Depends(get_dialect)
    ) -> None:
        self.connection, self.dialect = connection, dialect


class Mailer:
    """A class that a worker resolves, and that asks for the queue itself."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue


async def current_user(authorization: Annotated[str, Header()]) -> User:
    if authorization != "Bearer ann":
        raise HTTPException(401)
    return User(name="ann")


@task
async def noted(text: str) -> str:
    return text


reports = APIRouter(prefix="/reports", tags=["reports"])
v1 = APIRouter(prefix="/v1")


@reports.post("/{year}")
@background_job
async def make_report(
    year: int,
    report: Report,
    user: Annotated[User, Depends(current_user)],
    connection: Annotated[Connection, Depends(get_connection)],
    repo: Annotated[Repo, Depends()],
    since: AwareDatetime,
    pages: int = Query(5),
    tags: list[str] = Query(default_factory=lambda: ["all"]),  # noqa: B008 - how FastAPI spells it
    session: Annotated[str | None, Cookie()] = None,
) -> dict[str, str]:
    """Make a report."""
    assert connection.is_open
    assert repo.connection is connection
    assert repo.dialect == "sql"
    parts = [year, report.title, user.name, since.isoformat(), pages, tags, session]
    return {"made": " ".join(map(str, parts))}


@v1.post("/forms")
@background_job
async def take_form(name: Annotated[str, Form()], day: Annotated[date, Form()]) -> str:
    return f"{name} {day.isoformat()}"


@v1.post("/mails")
@background_job
async def send_mails(
    mailer: Annotated[Mailer, Depends()],
    emails: Annotated[arq_web.Queue, FromQueue("emails")] = INJECTED,
    queue: Queue = INJECTED,
    ctx: JobContext = INJECTED,
) -> list[str]:
    assert mailer.queue is queue
    return [emails.name, queue.name, ctx.queue]


@v1.post("/pages/{number}")
@background_job
def print_page(
    number: int,
    dialect: Annotated[str, Depends(get_dialect)],
    queue: SyncQueue = INJECTED,
    emails: Annotated[arq_web.SyncQueue, FromQueue("emails", sync=True)] = INJECTED,
) -> str:
    return f"{number} {dialect} {queue.name} {emails.name}"


@app.websocket("/ws")
async def ws(socket: WebSocket, queue: Queue, emails: Annotated[arq_web.Queue, FromQueue("emails")]) -> None:
    await socket.accept()
    await socket.send_json([queue.name, emails.name])
    await socket.close()


v1.include_router(reports)
app.include_router(v1, prefix="/api")


def datetime_of(text: str) -> datetime:
    return datetime.fromisoformat(text)
