"""What a worker and its child processes say to each other: length-prefixed msgpack on a socket pair, never pickle."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import msgspec

from arq_web.config import Config
from arq_web.job import ErrorInfo
from arq_web.store.record import ClaimedJob
from arq_web.store.target import RedisTarget
from arq_web.worker.outcome import (
    Cancelled,
    Crashed,
    Failed,
    Interrupted,
    Parked,
    Snoozed,
    Succeeded,
    Superseded,
)
from arq_web.worker.running import StopReason

M = TypeVar("M")
HEADER_BYTES = 4


class FromModule(msgspec.Struct, frozen=True, tag=True):
    """The task is a name in this module (at ``path``, if not elsewhere): importing that is enough."""

    module: str
    path: str


class FromApp(msgspec.Struct, frozen=True, tag=True):
    """The task needs its web app, which is ``module:name`` (or ``module:name()``)."""

    target: str


Source = FromModule | FromApp
"""Where a child finds a task."""


class Setup(msgspec.Struct, frozen=True, tag=True):
    """The first message to a child. Holds the Redis credentials: on a command line everybody could read them."""

    worker: str
    target: RedisTarget
    config: Config
    queues: tuple[str, ...] | None
    sys_path: list[str]
    argv: list[str]
    log_level: int


class Run(msgspec.Struct, frozen=True, tag=True):
    """Run one attempt; answered by Started, then by its outcome."""

    job: ClaimedJob
    source: Source
    timeout_s: float
    max_result_bytes: int


class Stop(msgspec.Struct, frozen=True, tag=True):
    """End the attempt early."""

    reason: StopReason


class Started(msgspec.Struct, frozen=True, tag=True):
    """The task is loaded and begins now: its time counts from here."""


class NotLoaded(msgspec.Struct, frozen=True, tag=True):
    """The child could not load the task; it did not begin."""

    error: ErrorInfo


ToChild = Setup | Run | Stop
FromChild = Started | NotLoaded | Succeeded | Failed | Snoozed | Parked | Cancelled | Interrupted | Crashed | Superseded

_encoder = msgspec.msgpack.Encoder()
to_child: msgspec.msgpack.Decoder[ToChild] = msgspec.msgpack.Decoder(ToChild)
from_child: msgspec.msgpack.Decoder[FromChild] = msgspec.msgpack.Decoder(FromChild)


def frame(message: ToChild | FromChild) -> bytes:
    """One message as it is written to the socket.

    Raises:
        TypeError, ValueError: it holds something that msgpack does not know.
    """
    body = _encoder.encode(message)
    return len(body).to_bytes(HEADER_BYTES, "big") + body


async def receive(reader: asyncio.StreamReader, decoder: msgspec.msgpack.Decoder[M]) -> M:
    """Read the next message. Not to be cancelled: half a message would be lost.

    Raises:
        asyncio.IncompleteReadError, OSError: the other side is gone.
        msgspec.DecodeError: what came is not a message.
    """
    header = await reader.readexactly(HEADER_BYTES)
    return decoder.decode(await reader.readexactly(int.from_bytes(header, "big")))
