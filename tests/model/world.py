"""What the walks of ``machine.py`` are made of: messages, and one connection for all of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

import redis as redis_sync

from arq_web.store.connection import Connections
from arq_web.store.store import Store
from arq_web.store.target import RedisTarget
from tests.model.picture import About
from tests.model.transition_table import Queue
from tests.support.leaks import delete_keys

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Attempt:
    """A claim that some worker was told of, though it may be long over."""

    worker: str
    job_id: str
    number: int
    token: str


@dataclass(frozen=True, slots=True)
class Message:
    """One request, to be put to the store and to the model.

    ``ask`` gets what has been moved so far, to turn the walk's times into the server's; ``expect`` gets the time, and
    what turns a moment of the model into one that a moment of the server can be compared with.
    """

    text: str
    ask: Callable[[Store, int], Awaitable[object]]
    expect: Callable[[Queue, int, About], object]

    @property
    def verb(self) -> str:
        return self.text.partition(" ")[0]


class World:
    """What all walks of one test share: a loop, a connection, and the count of their steps."""

    def __init__(self, url: str, namespace: str) -> None:
        self.namespace, self.runner = namespace, asyncio.Runner()
        self.connections = Connections(RedisTarget.from_url(url), deadline_s=30)
        self.client = redis_sync.Redis.from_url(url)
        self.walks = count()
        self.job_count = 0
        self.sent: Counter[str] = Counter()

    @property
    def step_count(self) -> int:
        """How many messages were sent."""
        return self.sent.total()

    @property
    def copy_count(self) -> int:
        """How many of them had been sent before."""
        return sum(number for text, number in self.sent.items() if text.endswith("again"))

    def summary(self) -> str:
        """One line for people."""
        verbs = ", ".join(f"{text} {number}" for text, number in sorted(self.sent.items()))
        return f"{self.step_count} steps, {self.job_count} jobs: {verbs}"

    def run(self, work: Callable[[], Awaitable[T]]) -> T:
        async def await_it() -> T:
            return await work()

        return self.runner.run(await_it())

    def close(self) -> None:
        self.runner.run(self.connections.aclose())
        self.runner.close()
        with closing(self.client):
            delete_keys(self.client, self.namespace)


@contextmanager
def open_world(url: str, namespace: str) -> Iterator[World]:
    """A world on the Redis at ``url``; its keys begin with ``namespace``."""
    world = World(url, namespace)
    try:
        yield world
    finally:
        world.close()
