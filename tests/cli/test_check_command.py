"""``app-worker check``: exit statuses, words and JSON, for exec probes and health checks of containers."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.health.support import becomes
from tests.support.ports import free_port
from tests.support.projects import SHOP, Project
from tests.support.redis_server import running_redis


async def test_every_queue_has_a_worker_or_not(project: Project) -> None:
    """0 and a line, or 1 and what to do; the same as JSON."""
    await project.start(SHOP, "--queue", "default")

    served = await project.run("check", SHOP, "--queue", "default")
    unserved = await project.run("check", SHOP)
    as_json = await project.run("check", SHOP, "--json")

    assert (served.code, served.out) == (0, "default: 1 worker\n")
    assert (unserved.code, unserved.out) == (1, "")
    assert unserved.err == f"No worker serves mail. Start one: app-worker {SHOP}\n"
    assert (as_json.code, as_json.json) == (1, {"status": "failing", "workers": {"default": 1, "mail": 0}})


async def test_the_worker_of_this_host_is_asked_without_the_app(project: Project) -> None:
    """No import, no Redis: an exec probe runs each ten seconds."""
    port = free_port()
    hold = project.write("hold", "")
    env = {"ARQ_WEB_HEALTH_PORT": str(port), "HOLDS_IMPORT": str(hold)}
    worker = await project.start("tests.health.app:app", env=env, is_up=False)
    await becomes(port, "/livez", 200)

    starting = {probe: await project.run("check", "no.such:app", f"--{probe}", env=env) for probe in PROBES}
    hold.unlink()
    await worker.says("worker.started")
    up = {probe: await project.run("check", "no.such:app", f"--{probe}", env=env) for probe in PROBES}
    ready = await project.run("check", "no.such:app", "--ready", "--json", "--health-port", str(port))

    assert {probe: finished.code for probe, finished in starting.items()} == {"live": 0, "ready": 1, "started": 1}
    assert starting["started"].err == "/startupz: the app is not up yet\n"
    assert {finished.code for finished in up.values()} == {0}
    assert up["live"].out == "/livez: ok\n"
    assert (ready.json["status"], ready.json["probe"], ready.json["slots"]) == ("ok", "/readyz", 10)


PROBES = ("live", "ready", "started")


async def test_a_worker_that_is_not_there_is_a_no_and_not_a_mistake(project: Project) -> None:
    """1, as for any other no; what to look at is said."""
    finished = await project.run("check", SHOP, "--live", "--health-port", str(free_port()))

    assert finished.code == 1
    assert finished.err.startswith("Nobody answers at 127.0.0.1:")
    assert "--health-port?" in finished.err


async def test_something_else_on_that_port_is_a_no(project: Project) -> None:
    """A web server that says 200 to everything is no worker; Redis is none either."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        finished = await project.run("check", SHOP, "--live", "--health-port", str(port))

    assert finished.code == 1
    assert "no worker's health port" in finished.err


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("200 OK", b"[]"),
        ("200 OK", b'"ok"'),
        ("200 OK", b'{"status":"ok"}'),
        ("200 OK", b'{"error":"no"}'),
        ("503 No", b'{"status":"failing","reasons":["disk"]}'),
        ("404 No", b'{"error":{"code":7}}'),
        ("200 OK", b"\xff"),
    ],
)
async def test_other_json_on_that_port_is_a_no(project: Project, status: str, said: bytes) -> None:
    """The health route of another program: whatever it says, it is not the worker that says so."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status}\r\ncontent-length: {len(said)}\r\n\r\n".encode() + said)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        finished = await project.run("check", SHOP, "--live", "--json", "--health-port", str(port))

    assert finished.code == 1
    assert "no worker's health port" in finished.json["error"]
    assert finished.err == ""


async def test_silence_is_a_no_within_the_time_limit(project: Project) -> None:
    async def hush(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    server = await asyncio.start_server(hush, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        began_s = time.monotonic()
        finished = await project.run("check", SHOP, "--live", "--health-port", str(port), "--timeout", "0.3")
        took_s = time.monotonic() - began_s

    assert finished.code == 1
    assert "did not answer within 0.3 s" in finished.err
    assert took_s < 8


async def test_a_redis_that_is_away_is_a_no(project: Project) -> None:
    with running_redis() as server:
        url = server.url

    finished = await project.run("check", SHOP, "--timeout", "1", env={"REDIS_URL": url})
    as_json = await project.run("check", SHOP, "--json", env={"REDIS_URL": url})

    assert (finished.code, finished.out) == (1, "")
    assert "Redis" in finished.err
    assert (as_json.code, as_json.json["status"]) == (1, "failing")
    assert "Redis" in as_json.json["error"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--live",), "Which port?"),
        (("--live", "--health-port", "70000"), "70000"),
        (("--ready", "--queue", "mail", "--health-port", "8081"), "leave out --queue"),
    ],
)
async def test_wrong_use_is_a_2(project: Project, flags: tuple[str, ...], words: str) -> None:
    """A probe that is set up wrongly must not look like a worker that is not well."""
    finished = await project.run("check", SHOP, *flags)

    assert finished.code == 2
    assert words in finished.err
