"""``GET /jobs/{id}/events``: server-sent events, derived from the record."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from arq_web.http.answers import Answer, etag_of
from arq_web.http.asked import Asked
from arq_web.http.front import Front
from arq_web.job import JobInfo
from arq_web.queue import Job

STREAM_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
MEDIA_TYPE = "text/event-stream"


@dataclass(frozen=True, slots=True)
class EventStream:
    """A 200 whose body comes bit by bit; the adapter sends ``chunks`` and closes them when the client is gone."""

    headers: dict[str, str]
    chunks: AsyncIterator[bytes]
    media_type: str = MEDIA_TYPE


async def open_stream(front: Front, asked: Asked, job: Job[object], info: JobInfo) -> EventStream | Answer:
    """Follow a job that the caller may see. 204 when it has ended and ``asked.last_event_id`` was its last event.

    Raises:
        TooManyWaiting: this process has no place left.
    """
    if info.is_finished and asked.last_event_id == etag_of(info):
        return Answer(204, {"cache-control": "no-store"}, media_type=None)
    return EventStream(dict(STREAM_HEADERS), _events(info))


async def _events(info: JobInfo) -> AsyncIterator[bytes]:
    yield b"event: state\ndata: " + info.state.value.encode() + b"\n\n"
