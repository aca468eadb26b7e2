"""Routes that tie a job to their response, in Litestar; fastapi_app.py has the same."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from litestar import Litestar, Response, WebSocket, post, websocket
from litestar.background_tasks import BackgroundTask
from litestar.di import NamedDependency, Provide
from litestar.exceptions import HTTPException
from litestar.params import FromPath
from litestar.response import Stream

from arq_web import Hub
from arq_web.litestar import ArqWeb, Queue, SyncQueue
from tests.tied import apps
from tests.tied.apps import note


def build(**options: Any) -> tuple[Litestar, Hub]:
    plugin = ArqWeb(tasks=[note], **options)
    return Litestar(HANDLERS, plugins=[plugin]), plugin.hub


async def noting(queue: Queue) -> str:
    return queue.after_response.enqueue(note, "dependency").id


def noting_in_thread(sync_queue: SyncQueue) -> str:
    return sync_queue.after_response.enqueue(note, "sync dependency").id


async def committing(queue: Queue) -> AsyncIterator[None]:
    yield
    await apps.look("closed", queue)


async def failing_commit() -> AsyncIterator[None]:
    yield
    raise ValueError("the commit failed")


@post("/answer/{status:int}")
async def answer(status: FromPath[int], queue: Queue) -> Response[dict[str, str]]:
    return Response({"job": queue.after_response.enqueue(note, "answer").id}, status_code=status)


@post("/answer-sync/{status:int}", sync_to_thread=True)
def answer_sync(status: FromPath[int], sync_queue: SyncQueue) -> Response[dict[str, str]]:
    return Response({"job": sync_queue.after_response.enqueue(note, "sync").id}, status_code=status)


@post("/refuse/{status:int}")
async def refuse(status: FromPath[int], queue: Queue) -> None:
    queue.after_response.enqueue(note, "refuse")
    raise HTTPException(status_code=status)


@post("/crash")
async def crash(queue: Queue) -> None:
    queue.after_response.enqueue(note, "crash")
    raise ValueError("in the handler")


@post("/depends", dependencies={"first": Provide(noting), "second": Provide(noting_in_thread, sync_to_thread=True)})
async def depends(first: NamedDependency[str], second: NamedDependency[str]) -> list[str]:
    return [first, second]


@post("/closing", dependencies={"session": Provide(committing)})
async def closing(session: NamedDependency[Any], queue: Queue) -> Response[dict[str, str]]:
    job = queue.after_response.enqueue(note, "closing")
    return Response({"job": job.id}, background=BackgroundTask(apps.look, "background", queue))


@post("/closing-fails", dependencies={"session": Provide(failing_commit)})
async def closing_fails(session: NamedDependency[Any], queue: Queue) -> None:
    queue.after_response.enqueue(note, "closing fails")


@post("/background-fails")
async def background_fails(queue: Queue) -> Response[None]:
    queue.after_response.enqueue(note, "background fails")
    return Response(None, background=BackgroundTask(apps.fails_in_background))


@post("/stream")
async def stream(queue: Queue) -> Stream:
    queue.after_response.enqueue(note, "stream")
    return Stream(apps.parts(queue))


@post("/broken-stream")
async def broken_stream(queue: Queue) -> Stream:
    queue.after_response.enqueue(note, "broken stream")
    return Stream(apps.broken_parts())


@post("/keep")
async def keep(queue: Queue) -> None:
    apps.kept.append(queue.after_response)


@websocket("/ws")
async def ws(socket: WebSocket[Any, Any, Any], queue: Queue) -> None:
    await socket.accept()
    await socket.send_text(apps.told(queue))
    await socket.close()


HANDLERS = (
    answer,
    answer_sync,
    refuse,
    crash,
    depends,
    closing,
    closing_fails,
    background_fails,
    stream,
    broken_stream,
    keep,
    ws,
)
