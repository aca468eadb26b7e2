"""P1: the web process is killed while it answers, at each of its commands; the client asks again and has one job.

A real uvicorn, SIGKILL before and after every command that it sends to Redis: before the job is there, after it is
there and nobody was told, and while the client waits for its result.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from tests.http.site import MakeSite, Site
from tests.support.command_gate import Aim, CommandGate, Phase
from tests.support.forked import Forked, Forker, running_forker
from tests.support.points import Point, visit_all
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer
from tests.support.store_helpers import info_of, keys
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(300)


@dataclass(slots=True)
class Lives:
    """One request, each time to another web process, which is killed at another command."""

    forker: Forker
    port: int
    """Of Redis."""
    other: Site
    """A web process that lives: the test's own."""
    folder: Path
    headers: dict[str, str]
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    async def live(self, aim: Aim, phase: Phase) -> Point:
        """Ask a process that will be killed; then ask the other one the same, twice."""
        name = f"n{next(self.numbers)}"
        gate = CommandGate(self.port, aim, phase, asyncio.get_running_loop().create_future())
        async with gate.opened():
            first = await self._ask_victim(gate, name)
        again = [await self._ask(self.other.client, name) for _ in range(2)]
        jobs = await self._jobs_of(name)
        struck = gate.struck
        return Point(
            name=struck.name if struck else "",
            nth=struck.nth if struck else 0,
            phase=phase,
            commands=tuple(each.key for each in gate.commands),
            faults=tuple(_faults(first, again, jobs, was_made=gate.executed("enqueue") > 0)),
            started_twice_count=max(0, len(jobs) - 1),
        )

    async def _ask_victim(self, gate: CommandGate, name: str) -> httpx.Response | None:
        """The answer of the process that is to be killed; None when it died before it gave one."""
        port = free_port()
        victim = await self.forker.fork(
            "tests.http.web_process:serve",
            framework=self.other.name,
            url=gate.url,
            namespace=self.other.hub.config.namespace,
            port=str(port),
            log=str(self.folder / "log"),
        )
        gate.victim.set_result(victim)
        await wait_until(lambda: _listens(port, victim), description="the web process listens, or is gone")
        answer: httpx.Response | None = None
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            with contextlib.suppress(httpx.TransportError):
                answer = await self._ask(client, name)
        victim.send(signal.SIGTERM)  # where nothing has killed it
        await asyncio.wait((victim.ended,), timeout=20)
        return answer

    async def _ask(self, client: httpx.AsyncClient, name: str) -> httpx.Response:
        return await client.post("/greet", json={"name": name}, headers={"Idempotency-Key": name, **self.headers})

    async def _jobs_of(self, name: str) -> list[str]:
        store = self.other.hub.queue().store
        ids = [key.removeprefix(store.base + b"j:").decode() for key in await keys(store, "j:*")]
        return [each for each in ids if f'"{name}"'.encode() in (await info_of(store, each)).payload]


async def _listens(port: int, victim: Forked) -> bool:
    if victim.ended.done():
        return True
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def _faults(first: httpx.Response | None, again: list[httpx.Response], jobs: list[str], *, was_made: bool) -> list[str]:
    answers = [answer for answer in (first, *again) if answer is not None]
    faults = [f"answered {each.status_code}: {each.text}" for each in answers if each.status_code not in (200, 202)]
    if len(jobs) != 1:
        faults.append(f"{len(jobs)} jobs: {jobs}")
    told = {_job_of(answer) for answer in answers}
    if told != set(jobs):
        faults.append(f"answers tell of {told}, and there are {jobs}")
    replayed = ["idempotent-replayed" in answer.headers for answer in again]
    if replayed != [was_made, True]:
        faults.append(f"replayed: {replayed}, and the first request had made its job: {was_made}")
    return faults


def _job_of(answer: httpx.Response) -> str:
    """Its id: of a 202, or of the result that the client has waited for."""
    where = answer.headers.get("content-location") or answer.headers.get("location", "//")
    return str(where).split("/")[2]


@pytest.fixture
async def forker(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Forker]:
    monkeypatch.setenv("ARQ_WEB_DEV", "0")
    async with running_forker("tests.http.web_process") as forker:
        yield forker


@pytest.fixture
def lives(forker: Forker, make_site: MakeSite, redis_server: RedisServer, tmp_path: Path) -> Lives:
    return Lives(forker, redis_server.port, make_site(), tmp_path, {})


async def test_a_request_that_is_repeated_after_a_kill_is_one_job(lives: Lives) -> None:
    points = await visit_all("submit under a key", lives.live, at_once=2)
    print(points.table())

    assert not points.faults, "\n".join(points.faults)
    assert not points.missing({"enqueue"})


async def test_a_client_that_waits_when_the_process_is_killed_gets_its_result_from_another_one(lives: Lives) -> None:
    lives.headers = {"Prefer": "wait=5"}
    async with lives.other.working():
        points = await visit_all("submit under a key, and wait", lives.live, at_once=2)
    print(points.table())

    assert not points.faults, "\n".join(points.faults)
    assert not points.missing({"enqueue", "watch", "SUBSCRIBE"})
