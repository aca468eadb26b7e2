"""The small HTTP server: what it refuses, and that nobody can keep it from answering the others."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from arq_web.health import exchange
from arq_web.health.exchange import BadAnswer, ask
from arq_web.health.routes import HealthAnswer
from arq_web.health.server import HealthServer, open_port
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


async def test_more_connections_than_it_takes_are_closed_and_room_comes_back(port: int) -> None:
    """It is bounded: nobody can fill the worker's memory or its table of files."""
    held = [socket.create_connection((HOST, port)) for _ in range(exchange.MOST_OPEN + 10)]
    await wait_until(lambda: sum(map(_has_ended, held)) == 10, description="those on top are closed")
    assert await status(port, "/livez") == 0

    for each in held:
        each.close()

    async def has_room() -> bool:
        return await status(port, "/livez") == 200

    await wait_until(has_room, description="it answers again")


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


def _has_ended(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        return connection.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
