"""Routes that tie a job to their response, in FastAPI; litestar_app.py has the same."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, HTTPException, Response, WebSocket
from fastapi.responses import StreamingResponse

from arq_web import Hub
from arq_web.fastapi import ArqWeb, Queue, SyncQueue
from tests.tied import apps
from tests.tied.apps import note

router = APIRouter()


def build(**options: Any) -> tuple[FastAPI, Hub]:
    app = FastAPI()
    plugin = ArqWeb(app, tasks=[note], **options)
    app.include_router(router)
    return app, plugin.hub


async def noting(queue: Queue) -> str:
    return queue.after_response.enqueue(note, "dependency").id


def noting_in_thread(queue: SyncQueue) -> str:
    return queue.after_response.enqueue(note, "sync dependency").id


async def committing(queue: Queue) -> AsyncIterator[None]:
    yield
    await apps.look("closed", queue)


def failing_commit() -> Iterator[None]:
    yield
    raise ValueError("the commit failed")


@router.post("/answer/{status}")
async def answer(status: int, queue: Queue, response: Response) -> dict[str, str]:
    response.status_code = status
    return {"job": queue.after_response.enqueue(note, "answer").id}


@router.post("/answer-sync/{status}")
def answer_sync(status: int, queue: SyncQueue, response: Response) -> dict[str, str]:
    response.status_code = status
    return {"job": queue.after_response.enqueue(note, "sync").id}


@router.post("/refuse/{status}")
async def refuse(status: int, queue: Queue) -> None:
    queue.after_response.enqueue(note, "refuse")
    raise HTTPException(status)


@router.post("/crash")
async def crash(queue: Queue) -> None:
    queue.after_response.enqueue(note, "crash")
    raise ValueError("in the handler")


@router.post("/depends")
async def depends(first: str = Depends(noting), second: str = Depends(noting_in_thread)) -> list[str]:
    return [first, second]


@router.post("/closing", dependencies=[Depends(committing)])
async def closing(queue: Queue, background: BackgroundTasks) -> dict[str, str]:
    background.add_task(apps.look, "background", queue)
    return {"job": queue.after_response.enqueue(note, "closing").id}


@router.post("/closing-fails", dependencies=[Depends(failing_commit)])
async def closing_fails(queue: Queue) -> None:
    queue.after_response.enqueue(note, "closing fails")


@router.post("/background-fails")
async def background_fails(queue: Queue, background: BackgroundTasks) -> None:
    background.add_task(apps.fails_in_background)
    queue.after_response.enqueue(note, "background fails")


@router.post("/stream")
async def stream(queue: Queue) -> StreamingResponse:
    queue.after_response.enqueue(note, "stream")
    return StreamingResponse(apps.parts(queue))


@router.post("/broken-stream")
async def broken_stream(queue: Queue) -> StreamingResponse:
    queue.after_response.enqueue(note, "broken stream")
    return StreamingResponse(apps.broken_parts())


@router.post("/keep")
async def keep(queue: Queue) -> None:
    apps.kept.append(queue.after_response)


@router.websocket("/ws")
async def ws(socket: WebSocket, queue: Queue) -> None:
    await socket.accept()
    await socket.send_text(apps.told(queue))
    await socket.close()
