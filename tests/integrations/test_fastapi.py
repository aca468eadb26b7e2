"""FastAPI passes the contract, and does what only it can."""

from collections.abc import AsyncIterator, Callable
from datetime import date
from typing import Annotated, Any
from uuid import UUID

import anyio
import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Request, UploadFile
from pydantic import BaseModel, SecretStr

import arq_web
from arq_web import Config
from arq_web.fastapi import (
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
from arq_web.task import AsyncTask, SyncTask
from tests.integrations.contract import (
    ASGIApp,
    BuildFront,
    Database,
    Front,
    FrontContract,
    Note,
    Op,
    Repo,
    Resized,
    opened,
    send_welcome,
)


class TestFastAPIPassesTheContract(FrontContract):
    @pytest.fixture
    def build(self) -> BuildFront:
        return build_front


def current_user_id(x_user: Annotated[str | None, Header()] = None) -> int:
    if x_user is None:
        raise HTTPException(401)
    return int(x_user)


def build_front(*, url: str, config: Config, **options: Any) -> Front:
    seen: list[str] = []
    app, api = FastAPI(), APIRouter(prefix="/api")
    plugin = ArqWeb(app, url=url, tasks=[send_welcome], config=config, queues=("default", "emails"), **options)

    async def get_db() -> AsyncIterator[Database]:
        for db in opened(seen):
            yield db

    def get_repo(db: Annotated[Database, Depends(get_db)]) -> Repo:
        return Repo(db)

    @api.post("/images/{image_id}/resize", status_code=202)
    @background_job(max_tries=2, result_status=201)
    async def resize(
        image_id: UUID,
        data: list[Op],
        owner: Annotated[int, RequestTime(current_user_id)],
        db: Annotated[Database, Depends(get_db)] = INJECTED,
        repo: Annotated[Repo, Depends(get_repo)] = INJECTED,
        ctx: JobContext = INJECTED,
        progress: Progress = INJECTED,
        day: date = date(2026, 1, 1),
        trace: Annotated[str, Header(alias="X-Trace")] = "",
    ) -> Resized:
        """Resize an image."""
        assert db.is_open
        await progress(0.5, "half")
        seen.append("ran")
        return Resized(image_id, data, owner, day, trace, repo.db is db, ctx.attempt)

    @app.post("/crash")
    @background_job
    async def crash(db: Annotated[Database, Depends(get_db)]) -> None:
        raise ValueError("broken pixel")

    @app.post("/hang")
    @background_job
    async def hang(db: Annotated[Database, Depends(get_db)]) -> None:
        seen.append("ran")
        await anyio.sleep_forever()

    app.include_router(api)
    double, note = add_plain_routes(app)
    return Front(
        app=app,
        hub=plugin.hub,
        seen=seen,
        invalid_status=422,
        openapi_path="/openapi.json",
        resize=resize,
        double=double,
        note=note,
        refused=REFUSED,
        refused_at_start=REFUSED_AT_START,
    )


def add_plain_routes(app: FastAPI) -> tuple[SyncTask[[int], int], AsyncTask[[Note], str]]:
    @app.post("/double/{number}")
    @background_job
    def double(number: int) -> int:
        return number * 2

    @app.post("/refuse/{status}")
    @background_job(max_tries=3)
    async def refuse(status: int) -> None:
        raise HTTPException(status, "no such image", {"X-Why": "gone"})

    @app.post("/note")
    @background_job(queue="emails")
    async def note(data: Note) -> str:
        return data.text

    @app.post("/signup/{user_id}")
    async def signup(user_id: int, queue: Queue) -> dict[str, str]:
        return {"job": (await queue.enqueue(send_welcome, user_id)).id}

    @app.post("/signup-sync/{user_id}")
    def signup_sync(user_id: int, queue: SyncQueue) -> dict[str, str]:
        return {"job": queue.enqueue(send_welcome, user_id).id}

    @app.post("/mail/{user_id}")
    async def mail(user_id: int, emails: Annotated[arq_web.Queue, FromQueue("emails")]) -> dict[str, str]:
        return {"job": (await emails.enqueue(send_welcome, user_id)).id}

    @app.post("/by-hand/{number}")
    async def by_hand(number: int, queue: Queue) -> dict[str, str]:
        return {"job": (await queue.enqueue(double, number)).id}

    return double, note


class Login(BaseModel):
    password: SecretStr


class Row:
    __mapper__ = None


def refuse_upload() -> object:
    @background_job
    async def job(bad: list[UploadFile]) -> None: ...

    return job


def refuse_request() -> object:
    @background_job
    async def job(bad: Request) -> None: ...

    return job


def refuse_secret() -> object:
    @background_job
    async def job(bad: Login | None = None) -> None: ...

    return job


def refuse_orm() -> object:
    @background_job
    async def job(bad: Annotated[Row, RequestTime(current_user_id)]) -> None: ...

    return job


def refuse_callable() -> object:
    @background_job
    async def job(bad: Annotated[Callable[[], int], RequestTime(current_user_id)]) -> None: ...

    return job


def app_with_wrong_order() -> ASGIApp:
    app = FastAPI()
    ArqWeb(app, url="redis://127.0.0.1:1/0")

    @background_job
    @app.post("/resize")
    async def resize(image_id: int) -> None: ...

    return app


def app_with_async_queue_in_a_def() -> ASGIApp:
    app = FastAPI()
    ArqWeb(app, url="redis://127.0.0.1:1/0")

    @app.post("/signup")
    def signup(queue: Queue) -> None: ...

    return app


def app_with_a_get_route() -> ASGIApp:
    app = FastAPI()
    ArqWeb(app, url="redis://127.0.0.1:1/0")

    @app.get("/resize")
    @background_job
    async def resize(image_id: int) -> None: ...

    return app


REFUSED = {
    "upload": refuse_upload,
    "request": refuse_request,
    "secret": refuse_secret,
    "orm": refuse_orm,
    "callable": refuse_callable,
}
REFUSED_AT_START = {
    "wrong order": app_with_wrong_order,
    "async queue in a def route": app_with_async_queue_in_a_def,
    "a GET route": app_with_a_get_route,
}
