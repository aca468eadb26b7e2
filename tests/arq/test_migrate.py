"""What waits in a real arq 0.28 arrives in our queue: whole, once, at its time, wherever the move is interrupted."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis as redis_sync
from redis.asyncio.connection import AbstractConnection

from arq_web.arq import _migrate, func
from arq_web.arq._migrate import migration_of
from arq_web.arq.connections import RedisSettings
from arq_web.arq.worker import create_worker
from tests.arq.migrating.killed import is_greeting
from tests.arq.real_arq import real_arq
from tests.support.projects import Finished, Project, project_in
from tests.support.redis_server import RedisServer, running_redis
from tests.support.waiting import wait_until

MODULES = Path(__file__).parent / "migrating"
SETTINGS = "tasks.WorkerSettings"
HEALTH = "arq:queue:health-check"
Dump = dict[bytes, tuple[bytes, int]]


@dataclass
class Move:
    """A project that moves from arq: its folder, the Redis of both sides, and what ran."""

    project: Project
    server: RedisServer
    client: Any
    """A blocking redis client; replies are bytes."""

    def old(self, what: str) -> None:
        """Let arq's side do something, with arq's Python."""
        command = [str(real_arq()), "old.py", str(self.server.port), what]
        done = subprocess.run(command, cwd=self.project.folder, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr

    async def python(self, script: str) -> None:
        """Let the new side do something."""
        path = f"{self.project.env['PYTHONPATH']}{os.pathsep}{self.project.folder}"
        env = {**self.project.env, "PYTHONPATH": path}
        done = await asyncio.create_subprocess_exec(sys.executable, "-c", script, env=env)
        assert await done.wait() == 0

    async def migrate(self, *flags: str, settings: str = SETTINGS) -> Finished:
        """``app-worker migrate-arq``."""
        return await self.project.run("migrate-arq", settings, *flags)

    async def burst(self, settings: str = SETTINGS) -> None:
        """Run what can run now: deferred jobs are taken away before, for a burst waits for them."""
        [due] = self.client.keys("*:due") or [b""]
        later = dict(self.client.zrange(due, 0, -1, withscores=True)) if due else {}
        self.client.delete(due or b"-")
        done = await self.project.run(settings, "--burst")
        assert done.code == 0, done.err
        if later:
            self.client.zadd(due, later)

    def runs(self) -> list[list[Any]]:
        """What ``keep`` wrote down: id, name, try, repr of the value, enqueue time."""
        path = self.project.folder / "runs"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def waiting(self) -> dict[str, float]:
        """What is left in arq's queue."""
        return {name.decode(): score for name, score in self.client.zrange("arq:queue", 0, -1, withscores=True)}

    def arq_keys(self) -> set[str]:
        """All that is left of arq."""
        return {key.decode() for key in self.client.keys("arq:*")}

    def due(self) -> dict[str, float]:
        """What is deferred or retrying in our queue, with its time."""
        [key] = self.client.keys("*:due")
        return {name.decode(): score for name, score in self.client.zrange(key, 0, -1, withscores=True)}

    def dump(self) -> Dump:
        """Everything, as Redis would write it down."""
        keys = self.client.keys("*")
        return {key: (self.client.dump(key), max(0, self.client.pttl(key))) for key in keys}

    def restore(self, dump: Dump) -> None:
        """Everything as it was."""
        self.client.flushdb()
        for key, (value, ttl_ms) in dump.items():
            self.client.restore(key, ttl_ms, value)
        (self.project.folder / "runs").unlink(missing_ok=True)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server of this test: arq's keys have no prefix that could be the test's own."""
    real_arq()
    with running_redis() as server:
        yield server


@pytest.fixture
async def move(tmp_path: Path, server: RedisServer) -> AsyncIterator[Move]:
    """Both sides in one folder."""
    folder = tmp_path / "project"
    shutil.copytree(MODULES, folder, ignore=shutil.ignore_patterns("__pycache__"))
    async with project_in(folder, server.url, "moved") as project:
        del project.env["REDIS_URL"]
        project.env |= {"TEST_PORT": str(server.port), "TEST_RUNS": str(folder / "runs")}
        with redis_sync.Redis.from_url(server.url) as client:
            yield Move(project, server, client)


async def test_what_waits_is_moved_and_runs(move: Move) -> None:
    """Arguments of many types arrive as they were; nothing of arq's stays behind."""
    move.old("enqueue")

    moved = await move.migrate()
    await move.burst()

    assert (moved.code, moved.err) == (0, "")
    assert moved.out == "moved 22 jobs: 21 queued, 1 deferred\n"
    assert move.arq_keys() == set()
    arrived = {name: value for _, name, _, value, _ in move.runs()}
    assert len(move.runs()) == 21
    expected = {
        "bytes": r"b'\x00\xff'",
        "int": str(2**70),
        "text": repr("Grüße 👋\n"),
        "dict": "{1: 'one', ('t',): 2}",
        "datetime": "datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=datetime.timezone.utc)",
        "decimal": "Decimal('1.10')",
        "enum": "<Colour.RED: 1>",
        "dataclass": "Order(id=1, lines=['tea'])",
        "large": repr("x" * 100_000),
    }
    assert {name: arrived[name] for name in expected} == expected
    assert {"an id with spaces/é", "arg-none"} <= {job_id for job_id, *_ in move.runs()}


async def test_times_and_tries_are_kept(move: Move) -> None:
    """A deferred job keeps its moment; a retried one its moment and the number of its next try, or that of its seed."""
    move.old("retry")
    move.old("enqueue")
    before = move.waiting()

    moved = await move.migrate()
    due = move.due()
    await move.burst()

    assert moved.out == "moved 25 jobs: 21 queued, 1 deferred, 3 retrying\n"
    assert due == {name: before[name] for name in ("later", "retry-a", "retry-b", "twice")}
    assert {name: tries for _, name, tries, *_ in move.runs()}["seeded"] == 3
    for name in due:
        move.client.zadd(move.client.keys("*:due")[0], {name: 1})
    assert (await move.project.run(SETTINGS, "--burst")).code == 0
    tries = {name: tries for _, name, tries, *_ in move.runs()}
    assert {name: tries[name] for name in ("later", "retry-a", "twice")} == {"later": 1, "retry-a": 2, "twice": 3}


async def test_a_dry_run_counts_and_writes_nothing(move: Move) -> None:
    """Also with a worker of arq's alive: looking harms nobody."""
    move.old("enqueue")
    before = move.dump()

    looked = await move.migrate("--dry-run")

    assert (looked.code, looked.out) == (0, "would move 22 jobs: 21 queued, 1 deferred\n")
    assert {key: value for key, (value, _) in move.dump().items()} == {key: value for key, (value, _) in before.items()}


async def test_it_refuses_while_a_worker_of_arqs_is_alive(move: Move) -> None:
    """A job that is both running there and moved would run twice; with --force that is the caller's affair."""
    worker = await asyncio.create_subprocess_exec(
        *(str(real_arq()), "old.py", str(move.server.port), "hang"),
        cwd=move.project.folder,
        stdout=asyncio.subprocess.PIPE,
    )
    assert worker.stdout is not None
    await asyncio.wait_for(worker.stdout.readline(), 20)
    try:
        refused = await move.migrate()
        worker.kill()
        await worker.wait()
        killed = await move.migrate()
        forced = await move.migrate("--force")
    finally:
        if worker.returncode is None:
            worker.kill()

    for each in (refused, killed):
        assert (each.code, each.out) == (1, "")
        assert "A worker of arq's seems to be alive: its health check 'arq:queue:health-check' says" in each.err
        assert "1 of its jobs are marked as running (hang)" in each.err
        assert "--force" in each.err
    assert (forced.code, forced.out) == (0, "moved 1 job: 1 retrying\n")
    assert move.waiting() == {}


async def test_a_worker_of_ours_is_no_reason_to_refuse(move: Move) -> None:
    """It writes the same health check, for the same monitors."""
    move.old("enqueue")
    worker = await move.project.start(SETTINGS, is_up=False)
    await wait_until(lambda: move.client.exists(HEALTH), timeout_s=20, description="its health check is there")

    moved = await move.migrate()
    worker.send()
    await worker.ended()

    assert (moved.code, moved.err) == (0, "")
    assert moved.out == "moved 22 jobs: 21 queued, 1 deferred\n"
    assert not move.client.keys("*health-check*")


async def test_a_worker_of_arqs_is_seen_behind_one_of_ours(move: Move) -> None:
    """Ours overwrites the health check that arq's writes each hour: what that said is kept for as long as it counts."""
    move.old("enqueue")
    said = "Mar-01 17:41:22 j_complete=1 j_failed=0 j_retried=0 j_ongoing=0 queued=0"
    move.client.set(HEALTH, said, px=3_600_000)
    worker = await move.project.start(SETTINGS, is_up=False)
    await wait_until(lambda: move.client.get(HEALTH) != said.encode(), timeout_s=20, description="ours has written")

    refused = await move.migrate()
    worker.send()
    await worker.ended()
    after = await move.migrate()
    move.client.delete(f"{HEALTH}:arq")
    moved = await move.migrate()

    for each in (refused, after):
        assert each.code == 1
        assert f"its health check 'arq:queue:health-check' says '{said}', for another 3" in each.err
    assert moved.code == 0


async def test_a_worker_of_arqs_that_writes_after_ours_is_seen(move: Move) -> None:
    """The newest line is its own."""
    worker = await move.project.start(SETTINGS, is_up=False)
    await wait_until(lambda: move.client.exists(HEALTH), timeout_s=20, description="its health check is there")
    move.client.set(HEALTH, "Mar-01 17:41:22 j_complete=1 j_failed=0 j_retried=0 j_ongoing=0 queued=0", px=9000)

    refused = await move.migrate()
    worker.send()
    await worker.ended()

    assert refused.code == 1
    assert "Mar-01 17:41:22" in refused.err


async def test_what_cannot_be_read_stays_and_is_listed(move: Move) -> None:
    """A payload that is gone, one that is no pickle, one whose class is unknown here: the rest moves."""
    move.old("enqueue")
    move.client.delete("arq:job:arg-none")
    move.client.set("arq:job:arg-int", b"not a pickle")
    broken = (move.project.folder / "things.py").read_text().replace("class Order", "class Gone")
    (move.project.folder / "things.py").write_text(broken)

    moved = await move.migrate()

    assert moved.code == 1
    assert moved.out.startswith("moved 19 jobs: 18 queued, 1 deferred\n3 stay in arq's queue:\n")
    assert "  arg-none: its payload is gone" in moved.out
    assert "  arg-int: it cannot be deserialised: UnpicklingError" in moved.out
    assert "  arg-dataclass: it cannot be deserialised: AttributeError" in moved.out
    assert set(move.waiting()) == {"arg-none", "arg-int", "arg-dataclass"}
    assert move.client.exists("arq:job:arg-int", "arq:job:arg-dataclass") == 2


async def test_the_settings_serializer_reads_the_jobs(move: Move) -> None:
    """Where arq wrote no pickles."""
    move.old("json")

    moved = await move.migrate(settings="tasks.JsonSettings")
    await move.burst("tasks.JsonSettings")

    assert moved.out == "moved 1 job: 1 queued\n"
    assert [(name, value) for _, name, _, value, _ in move.runs()] == [("json", "[1]")]


async def test_a_job_that_was_to_be_aborted_is_moved_as_a_cancelled_one(move: Move) -> None:
    """Unless the mark is older than the job: arq forgets to clear those."""
    move.old("enqueue")
    now_ms = int(move.client.time()[0]) * 1000
    move.client.zadd("arq:abort", {"later": now_ms + 5000, "arg-int": 1000})

    moved = await move.migrate()
    await move.burst()

    assert moved.out == "moved 22 jobs: 21 queued, 1 aborted\n"
    assert "later" not in [name for _, name, *_ in move.runs()]
    assert len(move.runs()) == 21


async def test_aborted_jobs_that_are_equal_but_for_their_ids_are_all_cancelled(move: Move) -> None:
    """Enqueued in one millisecond they are the same bytes: what tells them apart is their place."""
    move.old("enqueue")
    raw, now_ms = move.client.get("arq:job:arg-int"), int(move.client.time()[0]) * 1000
    for name in ("twin-1", "twin-2", "twin-3"):
        move.client.set(f"arq:job:{name}", raw)
        move.client.zadd("arq:queue", {name: now_ms - 1000})
        move.client.zadd("arq:abort", {name: now_ms + 5000})

    moved = await move.migrate()
    await move.burst()

    assert moved.out == "moved 25 jobs: 21 queued, 1 deferred, 3 aborted\n"
    assert {name for _, name, *_ in move.runs() if name.startswith("twin")} == set()


async def test_what_is_left_of_an_expiry_is_kept(move: Move) -> None:
    """But not of the day that arq gives every job: a day begins anew."""
    move.old("expires")

    moved = await move.migrate()

    assert moved.code == 0
    records = {name: bytes(move.client.get(f"moved:1:{{arq:queue}}:j:{name}")) for name in ("hasty", "patient")}
    [left_ms] = re.findall(rb'"expires_ms":(\d+)', records["hasty"])
    assert 7_100_000 < int(left_ms) <= 7_200_000
    assert b"expires_ms" not in records["patient"]


async def test_another_queue_can_take_them(move: Move) -> None:
    """``--to-queue``."""
    move.old("enqueue")

    moved = await move.migrate("--to-queue", "mail")

    assert moved.code == 0
    assert len(move.client.keys("moved:1:{mail}:j:*")) == 22


async def test_an_id_that_is_taken_in_the_new_queue(move: Move) -> None:
    """A live job of the same id and function is its twin; one of another function, or an ended one, is not."""
    move.old("enqueue")
    script = (
        "import asyncio, os\nfrom arq_web.arq import create_pool\nfrom tasks import WorkerSettings\n"
        "async def main():\n    pool = await create_pool(WorkerSettings.redis_settings)\n"
        "    await pool.enqueue_job('keep', 'ended', value=0, _job_id='arg-none')\n"
        "    await pool.enqueue_job('other', _job_id='arg-int', _defer_by=3600)\n"
        "    await pool.enqueue_job('keep', 'twin', value=0, _job_id='arg-float', _defer_by=3600)\n"
        "    await pool.aclose()\nasyncio.run(main())\n"
    )
    await move.python(script)
    await move.burst()

    moved = await move.migrate()

    assert moved.code == 1
    assert "moved 20 jobs: 18 queued, 1 deferred, 1 there already" in moved.out
    assert "  arg-int: its id belongs to a job of function 'other' in the new queue" in moved.out
    assert "  arg-none: a job of its id has ended in the new queue" in moved.out
    assert set(move.waiting()) == {"arg-none", "arg-int"}


class Killed(BaseException):
    """What is raised in the place of a kill: nothing of ours catches it."""


@pytest.mark.parametrize("moment", ["before", "half", "during", "after"])
async def test_interrupted_at_any_command_and_started_again_nothing_is_lost_or_doubled(
    move: Move, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even when a worker has run, and forgotten, all that had arrived by then."""
    expected = _few_jobs(move)
    before, ran = move.dump(), list[str]()
    interruption = _Interruption(monkeypatch, moment)
    settings = _settings_in_process(move, monkeypatch, ran)

    for number in range(1, 100):
        move.restore(before)
        ran.clear()
        was_interrupted = await interruption.at(number, settings)
        arrived = {key.decode().partition(":j:")[2] for key in move.client.keys("moved:*:j:*")}
        assert len(arrived) + len(move.waiting()) == len(expected), f"interrupted at {number}"
        if number % 2:
            await _work_and_forget(move, settings)
        async with migration_of(settings) as migration:
            report = await migration.run()
        assert (report.left, move.waiting()) == ({}, {})
        later = set(move.due())
        await _work_and_forget(move, settings)
        assert sorted([*ran, *later]) == sorted(expected), f"interrupted at {number}"
        if not was_interrupted:
            assert number > 15
            return
    pytest.fail("it was interrupted a hundred times")


@pytest.mark.parametrize("moment", ["before", "during", "after"])
async def test_killed_and_started_again_it_goes_on(move: Move, moment: str) -> None:
    """A real kill -9, at the second transaction."""
    expected = _few_jobs(move)

    assert await _killed(move, 12, moment)
    left = len(move.waiting())
    again = await move.migrate()

    assert 0 < left < len(expected)
    assert again.out.startswith(f"moved {left} job")
    assert move.waiting() == {}
    assert len(move.client.keys("moved:*:j:*")) == len(expected)


async def test_a_full_redis_loses_nothing(move: Move) -> None:
    """It moves when there is room again."""
    move.old("enqueue")
    before = move.waiting()
    move.client.config_set("maxmemory", 1)

    refused = await move.migrate()
    move.client.config_set("maxmemory", 0)
    again = await move.migrate()

    assert refused.code == 1
    assert "Redis refused it: " in refused.out
    assert "used memory > 'maxmemory'" in refused.out
    assert again.out == f"moved {len(before)} jobs: 21 queued, 1 deferred\n"


async def test_a_job_that_could_not_be_created_is_not_taken_away(move: Move) -> None:
    """In a transaction of Redis a script that fails undoes nothing, and what follows it is done all the same."""
    move.old("enqueue")
    before = move.waiting()
    move.client.set("moved:1:{arq:queue}:due", "not ours")

    refused = await move.migrate()

    assert refused.code == 1
    assert "WRONGTYPE" in refused.out
    assert move.waiting() == before
    assert move.client.exists(*(f"arq:job:{name}" for name in before)) == len(before)


async def test_a_person_sees_a_progress_bar(move: Move) -> None:
    """On a terminal."""
    move.old("enqueue")
    ours, theirs = os.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "arq_web", "migrate-arq", SETTINGS),
        cwd=move.project.folder,
        env=move.project.env,
        stdout=asyncio.subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    out, _ = await asyncio.wait_for(process.communicate(), 30)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)

    assert out.decode() == "moved 22 jobs: 21 queued, 1 deferred\n"
    assert re.search(r"moving.*100%", shown, re.DOTALL)


async def test_what_is_no_worker_settings_is_refused(move: Move) -> None:
    """It must know how arq's jobs were written, and where."""
    refused = await move.migrate(settings="tasks:keep")

    assert refused.code == 2
    assert "it is a function" in refused.err


def _few_jobs(move: Move) -> set[str]:
    """Of each kind, on several pages of three: enough, and quick."""
    move.old("retry")
    move.old("enqueue")
    few = {"arg-int", "arg-text", "arg-set", "later", "seeded", "retry-a", "twice", "an id with spaces/é"}
    move.client.zrem("arq:queue", *(set(move.waiting()) - few))
    return few


def _settings_in_process(move: Move, monkeypatch: pytest.MonkeyPatch, ran: list[str]) -> dict[str, Any]:
    monkeypatch.setenv("ARQ_WEB_NAMESPACE", "moved")
    monkeypatch.setattr(_migrate, "_PAGE_COUNT", 3)

    async def keep(ctx: dict[str, Any], *args: object, **kwargs: object) -> None:
        ran.append(ctx["job_id"])

    settings = RedisSettings(host="127.0.0.1", port=move.server.port)
    return {"functions": [func(keep, name="keep")], "redis_settings": settings, "keep_result": 0}


async def _work_and_forget(move: Move, settings: dict[str, Any]) -> None:
    """Run what can run now, and let the time of what has ended pass."""
    [due] = move.client.keys("moved:*:due") or [b""]
    later = dict(move.client.zrange(due, 0, -1, withscores=True)) if due else {}
    if due:
        move.client.delete(due)
    worker = create_worker(settings, burst=True, handle_signals=False)
    await worker.main()
    await worker.close()
    if later:
        move.client.zadd(due, later)
    for key in move.client.keys("moved:*:j:*"):
        if move.client.ttl(key) > 0:
            move.client.delete(key)


class _Interruption:
    """Ends a migration at its n-th command: before it, when half or all of it is sent, or when it is answered."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
        self._moment, self._left = moment, 0
        self._send = AbstractConnection.send_packed_command
        interruption = self

        async def send(connection: AbstractConnection, command: Any, *args: Any, **kwargs: Any) -> None:
            await interruption.send(connection, command, *args, **kwargs)

        monkeypatch.setattr(AbstractConnection, "send_packed_command", send)

    async def at(self, number: int, settings: dict[str, Any]) -> bool:
        """False when the migration has fewer commands."""
        self._left = number
        try:
            async with migration_of(settings) as migration:
                await migration.run()
        except Killed:
            return True
        finally:
            self._left = 0
        return False

    async def send(self, connection: AbstractConnection, command: Any, *args: Any, **kwargs: Any) -> None:
        """In the place of redis-py's own."""
        if is_greeting(command):
            await self._send(connection, command, *args, **kwargs)
            return
        is_last, self._left = self._left == 1, max(0, self._left - 1)
        if is_last and self._moment == "before":
            raise Killed
        if is_last and self._moment == "half":
            whole = command if isinstance(command, bytes) else b"".join(command)
            command = [whole[: len(whole) // 2]]
        await self._send(connection, command, *args, **kwargs)
        if is_last:
            if self._moment == "after":
                await connection.read_response()
            await connection.disconnect()
            raise Killed


async def _killed(move: Move, kill_at: int, moment: str) -> bool:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "killed.py", str(kill_at), moment, SETTINGS),
        cwd=move.project.folder,
        env=move.project.env,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode in (0, -9), err.decode()
    return process.returncode == -9
