"""The small HTTP server: what it refuses, and that nobody can keep it from answering the others."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import resource
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from arq_web.health import exchange
from arq_web.health.exchange import BadAnswer, ask
from arq_web.health.routes import HealthAnswer
from arq_web.health.server import ALL_ADDRESSES, HealthServer, open_port
from tests.health.support import HOST, get, raw, status
from tests.support.waiting import wait_until


async def answer(path: str, accept: str) -> HealthAnswer:
    if path == "/broken":
        raise RuntimeError("a collector has failed")
    return HealthAnswer.of(200, {"path": path, "accept": accept, "thread": threading.current_thread().name})


@pytest.fixture
def port() -> Iterator[int]:
    listening = open_port(HOST, 0)
    server = HealthServer(listening, answer)
    yield listening.getsockname()[1]
    server.stop()


async def test_it_answers_on_a_thread_of_its_own(port: int) -> None:
    """So it needs nothing of the loop that it tells of."""
    said = await get(port, "/livez?verbose=1")

    assert said == HealthAnswer(200, b'{"path":"/livez","accept":"","thread":"arq_web.health"}', "application/json")


async def test_head_says_what_get_would_without_the_body(port: int) -> None:
    whole = await raw(port, b"GET / HTTP/1.1\r\nHost: x\r\nAccept: text/plain\r\n\r\n")
    head = await raw(port, b"HEAD / HTTP/1.1\r\nhost: x\r\naccept: text/plain\r\n\r\n")

    assert whole.partition(b"\r\n\r\n")[0] == head.partition(b"\r\n\r\n")[0]
    assert b'"accept":"text/plain"' in whole
    assert head.endswith(b"\r\n\r\n")


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (b"POST / HTTP/1.1\r\n\r\n", 405),
        (b"DELETE / HTTP/1.1\r\n\r\n", 405),
        (b"GET / HTTP/2\r\n\r\n", 400),
        (b"hello\r\n\r\n", 400),
        (b"GET http://other/ HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 40_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nx: " + b"y" * 40_000, 431),
    ],
)
async def test_what_is_no_question_of_a_probe_is_refused(port: int, request_: bytes, code: int) -> None:
    said = await raw(port, request_)

    assert said.startswith(b"HTTP/1.1 %d " % code)
    assert (b"allow: GET, HEAD\r\n" in said) is (code == 405)
    assert await status(port, "/livez") == 200


async def test_a_fault_of_what_it_asks_is_a_500_and_is_logged(port: int, caplog: pytest.LogCaptureFixture) -> None:
    """Whose words may say anything, so they are not told."""
    said = await get(port, "/broken")

    assert said.status == 500
    assert b"collector" not in said.body
    assert "a collector has failed" in caplog.text


async def test_slow_clients_keep_nobody_waiting(port: int) -> None:
    """They say nothing, or half of it, or never read; and are shown the door in time."""
    began_s = time.monotonic()
    slow = [socket.create_connection((HOST, port)) for _ in range(20)]
    for each in slow[:10]:
        each.sendall(b"GET /livez HT")

    assert await status(port, "/livez") == 200
    assert time.monotonic() - began_s < 2

    await wait_until(lambda: all(_has_ended(each) for each in slow), timeout_s=15, description="they are cut")
    assert time.monotonic() - began_s >= exchange.CLIENT_LIMIT_S
    for each in slow:
        each.close()


async def test_who_only_holds_connections_keeps_no_probe_out(port: int) -> None:
    """It is bounded: nobody can fill the worker's memory or its table of files. The oldest that has not asked goes."""
    held = [socket.create_connection((HOST, port)) for _ in range(exchange.MOST_OPEN)]
    held[0].sendall(b"GET /livez HT")
    more = [socket.create_connection((HOST, port)) for _ in range(10)]

    await wait_until(lambda: all(map(_has_ended, held[:10])), description="the oldest ones are closed")
    said = [await status(port, "/livez") for _ in range(3)]
    ended = [_has_ended(each) for each in (*held, *more)]

    assert said == [200] * 3
    assert 10 < sum(ended) <= 13
    assert all(ended[:11])
    for each in (*held, *more):
        each.close()


async def test_whoever_has_asked_is_not_dropped_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all are being answered, the newest one is closed."""
    asked: list[str] = []
    go_on = asyncio.Event()

    async def late(path: str, accept: str) -> HealthAnswer:
        asked.append(path)
        await go_on.wait()
        return HealthAnswer.of(200, {})

    monkeypatch.setattr(exchange, "MOST_OPEN", 3)
    listening = open_port(HOST, 0)
    port = listening.getsockname()[1]
    async with exchange.answering_on(listening, late):
        first = [asyncio.create_task(status(port, "/livez")) for _ in range(3)]
        await wait_until(lambda: len(asked) == 3, description="all have asked")
        on_top = await status(port, "/livez")
        go_on.set()
        answers = await asyncio.gather(*first)

    assert (on_top, answers) == (0, [200] * 3)


async def test_an_answer_that_does_not_come_is_a_503_with_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not an end of the connection, that says nothing."""

    async def never(path: str, accept: str) -> HealthAnswer:
        await asyncio.Event().wait()
        raise AssertionError

    assert exchange.ANSWER_LIMIT_S < exchange.CLIENT_LIMIT_S
    monkeypatch.setattr(exchange, "ANSWER_LIMIT_S", 0.2)
    listening = open_port(HOST, 0)
    async with exchange.answering_on(listening, never):
        said = await get(listening.getsockname()[1], "/scale")

    assert (said.status, said.body) == (503, b'{"error":"There is no answer yet, after 0.2 s."}')


async def test_paths_are_decoded(port: int) -> None:
    """As a web app does it."""
    said = await raw(port, b"GET /scale/%C3%BCber%20x?y=%20 HTTP/1.1\r\n\r\n")

    assert '"path":"/scale/über x"'.encode() in said


async def test_stop_cuts_what_is_open_and_frees_the_port() -> None:
    """A worker's end waits for no client."""
    listening = open_port(HOST, 0)
    port: int = listening.getsockname()[1]
    server = HealthServer(listening, answer)
    await get(port, "/")
    with socket.create_connection((HOST, port)):
        began_s = time.monotonic()
        await asyncio.to_thread(server.stop)
        took_s = time.monotonic() - began_s
    server.stop()

    assert took_s < 1
    assert await status(port, "/") == 0
    open_port(HOST, port).close()


async def test_who_is_being_served_at_the_end_is_cut() -> None:
    """The loop may live on: it is the supervisor's."""
    listening = open_port(HOST, 0)
    async with exchange.answering_on(listening, answer):
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        await get(listening.getsockname()[1], "/")

    assert await asyncio.wait_for(reader.read(-1), 1) == b""
    writer.close()


@pytest.mark.parametrize("ticks", range(6))
async def test_who_comes_in_just_as_it_ends_leaves_nothing_open(ticks: int) -> None:
    """Accepted by the kernel, by the loop, with a task that has not begun: each of them is closed, and told so."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        listening = open_port(HOST, 0)
        async with exchange.answering_on(listening, answer):
            late = socket.create_connection((HOST, listening.getsockname()[1]))
            for _ in range(ticks):
                await asyncio.sleep(0)
        gc.collect()

    assert listening.fileno() == -1
    with late:
        assert _has_ended(late)


async def test_a_process_without_a_free_file_answers_when_it_has_one_again(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever waits stays in the kernel's queue; the loop is not called for it again and again."""
    listening = open_port(HOST, 0)
    port: int = listening.getsockname()[1]
    calls: list[str] = []

    class Counted(socket.socket):
        def accept(self) -> Any:
            calls.append("accept")
            return super().accept()

    counted = Counted(fileno=listening.detach())
    async with exchange.answering_on(counted, answer):
        with socket.socket() as client, _no_free_file():
            client.connect((HOST, port))
            await wait_until(lambda: bool(calls), description="the server has tried")
            await asyncio.sleep(0.1)  # the time in which it would be called thousands of times
            tried = len(calls)
        said = await status(port, "/livez")

    assert (tried, said) == (1, 200)
    assert caplog.text.count("no probe can be answered for now") == 1


async def test_one_that_is_stopped_as_it_starts_ends_as_well() -> None:
    for _ in range(20):
        listening = open_port(HOST, 0)
        HealthServer(listening, answer).stop()
        assert listening.fileno() == -1


async def test_who_asks_something_else_is_told_so() -> None:
    """A port that belongs to another program: no probe may take it for health."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 mail.example.com ESMTP\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, HOST, 0)
    async with server:
        with pytest.raises(BadAnswer, match="does not answer in HTTP"):
            await ask(HOST, server.sockets[0].getsockname()[1], "/livez")


async def test_it_listens_on_version_6_too() -> None:
    """A cluster that has nothing else."""
    try:
        listening = open_port("::1", 0)
    except OSError:
        pytest.skip("no IPv6 here")
    server = HealthServer(listening, answer)

    said = await ask("::1", listening.getsockname()[1], "/livez")
    await asyncio.to_thread(server.stop)

    assert said.status == 200


async def test_all_addresses_are_those_of_both_versions() -> None:
    """Whatever a cluster gives its pods: a probe that finds nobody ends them."""
    try:
        open_port("::1", 0).close()
    except OSError:
        pytest.skip("no IPv6 here")
    listening = open_port(ALL_ADDRESSES, 0)
    server = HealthServer(listening, answer)

    said = [(await ask(host, listening.getsockname()[1], "/livez")).status for host in ("::1", "127.0.0.1")]
    await asyncio.to_thread(server.stop)

    assert said == [200, 200]


@pytest.mark.parametrize("lacks", ["dual stack", "addresses", "the protocol"])
async def test_a_host_without_version_6_has_the_other_one(lacks: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel says so when the address is to be bound."""
    numbers = {"addresses": errno.EADDRNOTAVAIL, "the protocol": errno.EAFNOSUPPORT}
    create = socket.create_server

    def without_6(address: tuple[str, int], *, family: int, **options: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(numbers[lacks], "no IPv6")
        return create(address, family=family, **options)

    if lacks == "dual stack":
        monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    else:
        monkeypatch.setattr(socket, "create_server", without_6)

    with open_port(ALL_ADDRESSES, 0) as listening:
        assert listening.getsockname()[0] == "0.0.0.0"


def test_a_port_of_all_addresses_that_is_in_use_is_said() -> None:
    """Not taken for a lack of IPv6, by either version's address."""
    with open_port("0.0.0.0", 0) as first, pytest.raises(OSError, match="in use"):
        open_port(ALL_ADDRESSES, first.getsockname()[1])


def test_a_name_is_looked_up() -> None:
    """Where it has both, it is the one that ``app-worker check`` asks."""
    with open_port("localhost", 0) as listening:
        assert listening.getsockname()[0] == HOST
    with pytest.raises(OSError, match=r".+"):
        open_port("no.such.host.invalid", 0)


@contextmanager
def _no_free_file() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 4_096), hard))
    try:
        with suppress(OSError):
            while True:
                taken.append(os.dup(0))
        yield
    finally:
        for each in taken:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _has_ended(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
