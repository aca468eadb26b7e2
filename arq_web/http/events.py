"""``GET /jobs/{id}/events``: server-sent events, derived from the record.

No stream of events is stored anywhere. The id of an event says what its client has seen of the record, so that a client
that comes back, to whatever process, gets what is different by then: ``state`` when the state is another, ``progress``
when that is, ``done`` once at the end. What came and went in between is not told.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from arq_web.http import answers, problems, result
from arq_web.http.answers import Answer
from arq_web.http.asked import Asked
from arq_web.http.front import Front
from arq_web.http.waiting import Message, Receive, TooManyWaiting, stopped_when_gone
from arq_web.job import JobInfo
from arq_web.queue import Job
from arq_web.store.follower import Follow

Send = Callable[[Message], Awaitable[None]]
RawHeaders = Iterable[tuple[bytes, bytes]]

HEADERS: Final = {
    "content-type": "text/event-stream",
    "cache-control": "no-store",
    "x-accel-buffering": "no",  # nginx would collect the events, and pass them on in the end
}
HEARTBEAT_S = 15.0
"""A line that says nothing, so that proxies do not take a quiet stream for a dead one."""
RETRY_MS: Final = 2000
"""When a client comes back whose stream broke."""
RESUME_MS: Final = 250
"""When a client comes back whose stream has lasted its time."""
STUCK_AFTER_S: Final = 2.0
"""A client that reads nothing is given up that long after the stream's time."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a client has seen of a job: the id of its last event."""

    state: str = ""
    """Which state of which attempt since when."""
    rest: str = ""
    """Which progress, or that it is done."""

    @classmethod
    def of(cls, info: JobInfo) -> Seen:
        """All there is to see."""
        state = f"{info.since_ms}-{info.attempt}-{info.state.value}{'-cancel' if info.cancel_requested else ''}"
        if info.is_finished:
            return cls(state, "done")
        return cls(state, f"{zlib.crc32(repr(info.progress).encode()):08x}" if info.progress else "")

    @classmethod
    def read(cls, event_id: str | None) -> Seen:
        """From ``Last-Event-ID``; one that is not ours has seen nothing."""
        state, _, rest = (event_id or "").partition("/")
        return cls(state, rest)

    def __str__(self) -> str:
        return f"{self.state}/{self.rest}"


@dataclass(frozen=True, slots=True)
class EventStream:
    """A 200 whose body comes bit by bit: in the place of the framework's response, ``serve`` speaks ASGI."""

    front: Front
    asked: Asked
    job: Job[Any]
    info: JobInfo
    headers: dict[str, str]

    async def serve(self, receive: Receive, send: Send, raw_headers: RawHeaders | None = None) -> None:
        """Send the whole response, until the job has ended, the stream's time is over, or the client is gone.

        Args:
            receive: tells when the client is gone.
            send: takes the response.
            raw_headers: ``headers``, with what the framework has put to them.
        """
        start = _start(200, _raw(self.headers) if raw_headers is None else raw_headers)
        if self.asked.method == "HEAD":
            await send(start)
            await send(_body(b"", more=False))
            return
        try:
            with suppress(OSError), self.front.waiters.follow(self.job) as follow:
                # A client that reads nothing holds up a send, and by that the server's exit: give it up.
                stuck = asyncio.timeout(self.front.longest_wait_s + STUCK_AFTER_S)
                async with stopped_when_gone(follow, receive), stuck:
                    await send(start)
                    await self._tell(follow, send)
        except TooManyWaiting as error:
            await _send_answer(problems.too_many_waiting(error.limit_count), send)

    async def _tell(self, follow: Follow, send: Send) -> None:
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self.front.longest_wait_s
        info: JobInfo | None = self.info
        seen = Seen.read(self.asked.last_event_id)
        text = f"retry: {RETRY_MS}\n\n"
        while info is not None and not info.is_dismissed:
            text += "".join(self._events(info, seen, await self._shown(info)))
            seen = Seen.of(info)
            if text:
                await send(_body(text.encode()))
            if info.is_finished or follow.is_stopped:
                break
            text = ""
            try:
                async with asyncio.timeout_at(min(loop.time() + HEARTBEAT_S, ends_at)):
                    info = await follow.next()
            except TimeoutError:
                text = ": still here\n\n"
                if loop.time() >= ends_at:
                    await send(_body(f"retry: {RESUME_MS}\n\n".encode()))
                    break
        await send(_body(b"", more=False))

    def _events(self, info: JobInfo, seen: Seen, shown: bytes) -> Iterator[str]:
        now = Seen.of(info)
        if seen.state != now.state:
            yield _event("state", replace(now, rest=""), shown)
        if info.is_finished and seen != now:
            yield _event("done", now, shown)
        elif info.progress is not None and seen != now:
            yield _event("progress", now, answers.progress(info.progress))

    async def _shown(self, info: JobInfo) -> bytes:
        """The status, as ``GET /jobs/{id}`` would have it."""
        paths, inline = self.front.paths(self.asked), await result.inline(self.front, self.asked, self.job, info)
        return answers.status(info, paths, detailed=self.front.is_detailed, result=inline).body


async def open_stream(front: Front, asked: Asked, job: Job[Any], info: JobInfo) -> EventStream | Answer:
    """Follow a job that the caller may see. 204 when it has ended and the client has seen that.

    A browser's ``EventSource`` comes back after every end of a stream, until it gets a 204.
    """
    if info.is_finished and Seen.read(asked.last_event_id) == Seen.of(info):
        return Answer(204, {"cache-control": "no-store"}, media_type=None)
    return EventStream(front, asked, job, info, dict(HEADERS))


def _event(name: str, seen: Seen, data: bytes) -> str:
    return f"id: {seen}\nevent: {name}\ndata: {data.decode()}\n\n"


async def _send_answer(answer: Answer, send: Send) -> None:
    headers = {**answer.headers, "content-type": str(answer.media_type), "content-length": str(len(answer.body))}
    await send(_start(answer.status, _raw(headers)))
    await send(_body(answer.body, more=False))


def _start(status: int, headers: RawHeaders) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def _body(chunk: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": chunk, "more_body": more}


def _raw(headers: MutableMapping[str, str]) -> RawHeaders:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
