"""A master, a replica and three sentinels that watch them, on this machine: what a failover does, for real."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import redis

from tests.support.ports import free_port
from tests.support.redis_server import RedisServer, find_redis_server, running_redis

MASTER = "mymaster"
SENTINEL_COUNT, QUORUM = 3, 2
DOWN_AFTER_MS = 1000
START_TIMEOUT_S = 20.0
CONFIG = """\
port {port}
bind 127.0.0.1
dir {folder}
sentinel monitor {master} 127.0.0.1 {master_port} {quorum}
sentinel down-after-milliseconds {master} {down_after_ms}
sentinel failover-timeout {master} 10000
sentinel parallel-syncs {master} 1
"""


class NoSentinelMode(Exception):
    """The Redis that the tests run on cannot be a sentinel; the message says what it said."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A master that sentinels watch over, and its replica."""

    first: RedisServer
    """The master, to begin with."""
    second: RedisServer
    """Its replica, to begin with."""
    sentinel_ports: tuple[int, ...]

    @property
    def url(self) -> str:
        """What an app is given."""
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.sentinel_ports)
        return f"redis+sentinel://{hosts}/{MASTER}/0"

    def master_port(self) -> int:
        """Whom the first sentinel names at this moment."""
        return _named_by(self.sentinel_ports[0])

    def fail_over(self) -> None:
        """Have the replica promoted although nothing is wrong, as for maintenance."""
        _ask(self.sentinel_ports[0], "FAILOVER")

    def wait_for_switch(self, *, timeout_s: float = 30.0) -> float:
        """Block until every sentinel names the second server; the moment at which the first one did.

        Seconds of ``time.monotonic``. For a thread: the loop has to go on meanwhile.
        """
        named_s: dict[int, float] = {}

        def all_switched() -> bool:
            for port in self.sentinel_ports:
                if port not in named_s and _named_by(port) == self.second.port:
                    named_s[port] = time.monotonic()
            return len(named_s) == SENTINEL_COUNT

        _until(all_switched, timeout_s, "all sentinels name the second server")
        return min(named_s.values())


@contextmanager
def running_sentinels(folder: Path, *options: str) -> Generator[Watched]:
    """Start all five, wait until they know of each other, and kill them in the end.

    Args:
        folder: Where the sentinels keep their state.
        options: More arguments for the two servers.

    Raises:
        NoSentinelMode: This Redis cannot be a sentinel.
    """
    with ExitStack() as stack:
        options = ("--repl-diskless-sync-delay", "0", *options)
        first = stack.enter_context(running_redis(*options))
        second = stack.enter_context(running_redis("--replicaof", "127.0.0.1", str(first.port), *options))
        _until(partial(_is_in_sync, second), START_TIMEOUT_S, "the replica is in sync")
        ports = tuple(stack.enter_context(_running_sentinel(folder, first.port)) for _ in range(SENTINEL_COUNT))
        for port in ports:
            _until(partial(_knows_all, port), START_TIMEOUT_S, "the sentinels know of each other")
        yield Watched(first, second, ports)


@contextmanager
def _running_sentinel(folder: Path, master_port: int) -> Generator[int]:
    port = free_port()
    own = folder / f"sentinel-{port}"
    own.mkdir()
    config = own / "sentinel.conf"
    values = {"port": port, "folder": own, "master": MASTER, "master_port": master_port, "quorum": QUORUM}
    config.write_text(CONFIG.format(**values, down_after_ms=DOWN_AFTER_MS))
    # As in redis_server.py: a test run that is killed takes them with it.
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    guard = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
    with (own / "log").open("wb") as log:
        command = [*guard, str(find_redis_server()), str(config), "--sentinel"]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _until(lambda: process.poll() is not None or _answers(port), START_TIMEOUT_S, "a sentinel answers")
        if process.poll() is not None:
            raise NoSentinelMode((own / "log").read_text(errors="replace")[-500:])
        yield port
    finally:
        process.kill()
        process.wait()


def _named_by(sentinel_port: int) -> int:
    _host, port = cast("list[bytes]", _ask(sentinel_port, "GET-MASTER-ADDR-BY-NAME"))
    return int(port)


def _answers(port: int) -> bool:
    with closing(_client(port)) as client:
        return bool(client.ping())


def _is_in_sync(replica: RedisServer) -> bool:
    with closing(redis.Redis.from_url(replica.url)) as client:
        return bool(client.info("replication")["master_link_status"] == "up")


def _knows_all(sentinel_port: int) -> bool:
    answer = cast("list[bytes]", _ask(sentinel_port, "MASTER"))
    facts = dict(zip(answer[::2], answer[1::2], strict=True))
    others, replicas = int(facts[b"num-other-sentinels"]), int(facts[b"num-slaves"])
    return others == SENTINEL_COUNT - 1 and replicas == 1


def _ask(sentinel_port: int, word: str) -> object:
    with closing(_client(sentinel_port)) as client:
        answer: object = client.execute_command("SENTINEL", word, MASTER)  # type: ignore[no-untyped-call]
    return answer


def _client(port: int) -> redis.Redis:
    client = redis.Redis(host="127.0.0.1", port=port, socket_timeout=1.0, protocol=2)
    client.response_callbacks.clear()  # a sentinel's answers as they are
    return client


def _until(is_so: Callable[[], bool], timeout_s: float, description: str) -> None:
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            if is_so():
                return
        except redis.RedisError:
            pass  # not up yet
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"Not within {timeout_s:g} s: {description}")
        time.sleep(0.01)
