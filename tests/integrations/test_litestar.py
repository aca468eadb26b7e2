"""Litestar keeps the contract; and what only Litestar has: controllers, guards, layers, injection by name."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import arq_web
import httpx
import msgspec
import pytest
from arq_web import Config, JobFailed, JobState
from arq_web.errors import InvalidRoute
from arq_web.litestar import (
    INJECTED,
    ArqWeb,
    FromQueue,
    JobContext,
    Progress,
    Queue,
    RequestTime,
    SyncQueue,
    background_job,
)
from litestar import Controller, Litestar, Request, Router, delete, get, post
from litestar.connection import ASGIConnection
from litestar.datastructures import State, UploadFile
from litestar.datastructures.state import ImmutableState
from litestar.di import NamedDependency, Provide
from litestar.dto import MsgspecDTO
from litestar.exceptions import HTTPException, NotAuthorizedException
from litestar.handlers.base import BaseRouteHandler
from litestar.params import FromPath, FromQuery, HeaderParameter, JSONBody
from litestar.types import ASGIApp
from pydantic import BaseModel, SecretStr
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.integrations.contract import (
    BuildFront,
    Database,
    Front,
    FrontContract,
    Note,
    Op,
    Repo,
    Resized,
    client_of,
    job_of,
    opened,
    run_all,
    send_welcome,
    started,
)


class Base(DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "rows"
    id: Mapped[int] = mapped_column(primary_key=True)


class Login(BaseModel):
    password: SecretStr


async def current_owner(x_user: Annotated[str | None, HeaderParameter(name="X-User")] = None) -> int:
    if x_user is None:
        raise NotAuthorizedException()
    return int(x_user)


async def make_repo(db: NamedDependency[Database]) -> Repo:
    return Repo(db)


def build_front(*, url: str, config: Config, **options: Any) -> Front:
    """The contract's app, in Litestar."""
    seen: list[str] = []
    plugin = ArqWeb(url=url, tasks=[send_welcome], config=config, queues=("default", "emails"), **options)

    async def db() -> Any:
        for each in opened(seen):
            yield each

    @background_job(name="contract.resize", max_tries=2)
    async def resize(
        image_id: FromPath[UUID],
        data: JSONBody[list[Op]],
        owner: RequestTime[int],
        db: NamedDependency[Database] = INJECTED,
        repo: NamedDependency[Repo] = INJECTED,
        ctx: JobContext = INJECTED,
        progress: Progress = INJECTED,
        day: FromQuery[date] = date(2026, 1, 1),
        trace: Annotated[str, HeaderParameter(name="X-Trace")] = "",
    ) -> Resized:
        await progress(0.5, "half")
        seen.append("ran")
        return Resized(image_id, data, owner, day, trace, repo.db is db, ctx.attempt)

    @background_job(name="contract.double")
    def double(number: FromPath[int]) -> int:
        return number * 2

    @background_job(name="contract.refuse", max_tries=3)
    async def refuse(status: FromPath[int]) -> None:
        raise HTTPException(status_code=status, detail="no such image", headers={"X-Why": "gone"})

    @background_job(name="contract.crash")
    async def crash(db: NamedDependency[Database]) -> None:
        raise ValueError("broken pixel")

    @background_job(name="contract.hang")
    async def hang(db: NamedDependency[Database]) -> None:
        seen.append("ran")
        await asyncio.Event().wait()

    @background_job(name="contract.note", queue="emails")
    async def note(data: JSONBody[Note]) -> str:
        return data.text

    @post("/signup/{user_id:int}")
    async def signup(user_id: FromPath[int], queue: Queue) -> dict[str, str]:
        return {"job": (await queue.enqueue(send_welcome, user_id)).id}

    @post("/signup-sync/{user_id:int}", sync_to_thread=True)
    def signup_sync(user_id: FromPath[int], sync_queue: SyncQueue) -> dict[str, str]:
        return {"job": sync_queue.enqueue(send_welcome, user_id).id}

    @post("/mail/{user_id:int}")
    async def mail(user_id: FromPath[int], emails: Annotated[arq_web.Queue, FromQueue("emails")]) -> dict[str, str]:
        return {"job": (await emails.enqueue(send_welcome, user_id)).id}

    @post("/by-hand/{number:int}")
    async def by_hand(number: FromPath[int], queue: Queue) -> dict[str, str]:
        return {"job": (await queue.enqueue(double, number)).id}

    app = Litestar(
        [
            Router("/api", route_handlers=[post("/images/{image_id:uuid}/resize", status_code=202)(resize)]),
            post("/double/{number:int}")(double),
            post("/refuse/{status:int}")(refuse),
            post("/crash")(crash),
            post("/hang")(hang),
            post("/note")(note),
            signup,
            signup_sync,
            mail,
            by_hand,
        ],
        dependencies={"db": db, "repo": make_repo, "owner": current_owner},
        plugins=[plugin],
    )
    return Front(
        app=app,
        hub=plugin.hub,
        seen=seen,
        invalid_status=400,
        openapi_path="/schema/openapi.json",
        resize=resize,
        double=double,
        note=note,
        refused=refused_jobs(),
        refused_at_start=refused_apps(url, config),
    )


def refused_jobs() -> dict[str, Callable[[], object]]:
    async def upload(bad: UploadFile) -> None: ...
    async def request(bad: Request[Any, Any, Any]) -> None: ...
    async def secret(data: FromPath[int], bad: FromQuery[Login]) -> None: ...
    async def orm(bad: RequestTime[Row]) -> None: ...
    async def callback(bad: Callable[[], int]) -> None: ...

    functions = {"upload": upload, "request": request, "secret": secret, "orm": orm, "callable": callback}
    return {word: lambda fn=fn: background_job(fn) for word, fn in functions.items()}


def refused_apps(url: str, config: Config) -> dict[str, Callable[[], Any]]:
    def app_of(*handlers: Any) -> Litestar:
        return Litestar(handlers, plugins=[ArqWeb(url=url, config=config)])

    def wrong_order() -> Litestar:
        @background_job  # type: ignore[arg-type]
        @post("/wrong")
        async def wrong() -> None: ...

        return app_of(wrong)

    def async_queue() -> Litestar:
        @post("/wrong", sync_to_thread=True)
        def wrong(queue: Queue) -> None: ...

        return app_of(wrong)

    def get_route() -> Litestar:
        @get("/wrong")
        @background_job
        async def wrong() -> None: ...

        return app_of(wrong)

    return {"wrong order": wrong_order, "async queue in a def route": async_queue, "a GET route": get_route}


class TestLitestar(FrontContract):
    """The common contract."""

    @pytest.fixture
    def build(self) -> BuildFront:
        return build_front
