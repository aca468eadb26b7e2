"""The Redis of a cell: a server of its own, and what it says of its work."""

from __future__ import annotations

import re
import select
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import redis

from tests.support.redis_server import RedisServer, running_redis

AOF = ("--appendonly", "yes", "--appendfsync", "everysec")
CLIENTS_COUNTED_S = 2.5
_LUA = re.compile(rb"\+\d+\.\d+ \[\d+ lua\]")


@dataclass(frozen=True, slots=True)
class RedisUse:
    """What a server has done since it started; the difference of two is what it did in between."""

    cpu_s: float
    commands: int
    """Calls of commands, those inside scripts included, our own left out."""
    reads: int
    """Times that the server read from a connection: about the round trips. 0 where it does not say."""

    def __sub__(self, before: RedisUse) -> RedisUse:
        return RedisUse(
            self.cpu_s - before.cpu_s,
            self.commands - before.commands,
            self.reads - before.reads,
        )


class Meter:
    """Our own connection to a server."""

    def __init__(self, url: str) -> None:
        """Connect when first used."""
        self.client = redis.Redis.from_url(url, socket_timeout=60)
        self._asked = 0

    def close(self) -> None:
        """Disconnect."""
        self.client.close()

    def use(self) -> RedisUse:
        """What the server has done until now."""
        cpu: dict[str, Any] = self.client.info("cpu")
        commands: dict[str, Any] = self.client.info("commandstats")
        stats: dict[str, Any] = self.client.info("stats")
        self._asked += 3
        calls = sum(entry["calls"] for name, entry in commands.items() if name != "cmdstat_info")
        return RedisUse(
            cpu_s=cpu["used_cpu_sys"] + cpu["used_cpu_user"],
            commands=calls,
            reads=int(stats.get("total_reads_processed", 0)) - self._asked,
        )

    def data_bytes(self) -> int:
        """Memory of the keys with all that belongs to them; what connections need is left out. Takes some seconds."""
        # The server counts its clients' memory once a second, and gives back their idle buffers after two.
        time.sleep(CLIENTS_COUNTED_S)
        stats: dict[str, Any] = self.client.memory_stats()
        return int(stats["total.allocated"]) - int(stats["clients.normal"])

    def endless_bytes(self) -> int:
        """Memory of all keys that no time to live will remove."""
        total = 0
        for keys in batched(self.client.scan_iter(count=1000), 1000):
            times = self._of_each("TTL", keys)
            endless = [key for key, ttl in zip(keys, times, strict=True) if ttl == -1]
            total += sum(size or 0 for size in self._of_each("MEMORY", endless, "USAGE"))
        return total

    def _of_each(self, command: str, keys: Sequence[bytes], *words: str) -> list[Any]:
        pipeline = self.client.pipeline(transaction=False)
        for key in keys:
            pipeline.execute_command(command, *words, key)  # type: ignore[no-untyped-call]
        replies: list[Any] = pipeline.execute()
        return replies


def batched(values: Iterable[bytes], size: int) -> Iterator[list[bytes]]:
    """Lists of at most ``size`` values, in order."""
    waiting = iter(values)
    while batch := list(islice(waiting, size)):
        yield batch


def watched_commands(port: int, seconds: float) -> int:
    """How many commands clients send to a server while we watch (MONITOR); those inside scripts do not count."""
    until, seen = time.monotonic() + seconds, b""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"MONITOR\r\n")
        while (left := until - time.monotonic()) > 0:
            if select.select([connection], [], [], left)[0]:
                seen += connection.recv(1 << 20)
    lines = seen.split(b"\r\n")[1:-1]  # the first says OK
    return sum(not _LUA.match(line) for line in lines)


@contextmanager
def redis_server(*, aof: bool = False) -> Iterator[RedisServer]:
    """A server for one cell, without snapshots."""
    with running_redis(*(AOF if aof else ())) as server:
        yield server
