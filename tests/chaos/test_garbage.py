"""P1: somebody else writes into our keys. No worker ends, other jobs run, what is not ours is put aside as it was."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import pytest
import redis.asyncio as redis_async

from arq_web import Config, Job, JobState, Queue
from arq_web.errors import StoreCorrupt
from arq_web.store.inspection import Inspector
from tests.chaos.shop import nap
from tests.support.fleet import WorkerProcess, worker_fleet
from tests.support.journal import counts, read_journal
from tests.support.verdict import Verdict, judge
from tests.support.waiting import wait_until

TARGET = "tests.chaos.shop:hub"
CLOCK = "tests.chaos.clockwork:hub"
SHORT_LEASE = {"ARQ_WEB_LEASE_S": "2", "ARQ_WEB_COMMAND_DEADLINE_S": "1"}
BINARY = b"\xff\xfe\x00 not ours\n\n\x80"
HUGE = b"\x80" * (8 << 20)
HEADS = {
    "ready": b"q",
    "due": b"s 0 0 0 0 - 1 0 1 - -",
    "leases": b"r 1 0 0 0 1.token 1 1 0 - elsewhere:1:aa",
}
"""The first line that a record has in each index."""
_OVERWRITE = """
redis.call('DEL', KEYS[1])
if #ARGV > 1 then redis.call('HSET', KEYS[1], unpack(ARGV)) else redis.call('SET', KEYS[1], ARGV[1]) end
"""


@dataclass(frozen=True, slots=True)
class Bad:
    """One bad entry of an index: its id, and its record (None: there is none; "hash": a key of another type)."""

    index: str
    kind: str
    id: bytes
    record: bytes | None

    @property
    def is_hash(self) -> bool:
        """True where the record is no string."""
        return self.kind == "another type"


def bad_entries(index: str) -> list[Bad]:
    """Everything that may stand in an index and is no job: of each kind one."""
    head, created = HEADS[index], b"1763640000000"
    records: dict[str, bytes | None] = {
        "no record": None,
        "another type": b"",
        "empty": b"",
        "not text": BINARY,
        "huge": HUGE,
        "cut in the first line": head[: len(head) // 2] + b" ",
        "cut in the second line": head + b"\n" + created[:5],
        "a state that is none": b"z" + head[1:] + b"\n" + created + b" t:t\n{}",
        "a time that no number holds": head + b"\n" + b"9" * 400 + b" t:t\n{}",
        "a note longer than the record": b"r 1 0 0 999 - 1 1 0 - -\n" + created + b" t:t\n{}",
        "a task's name that is no text": head + b"\n" + created + b" \xff\xfe\n{}",
        "options that are no JSON": head + b"\n" + created + b" t:t {not json\n{}",
    }
    entries = [Bad(index, kind, f"{index}-{n}".encode(), raw) for n, (kind, raw) in enumerate(records.items())]
    whole = head + b"\n" + created + b" t:t\n{}"
    odd_ids = (b"\xff\xfe" + index.encode(), b"a b\n" + index.encode(), b"x" * 5000 + index.encode())
    entries += [Bad(index, "an id that cannot be one", name, None) for name in odd_ids]
    entries.append(Bad(index, "an id that is no text", b"\xfe" + index.encode(), whole))
    return entries


@pytest.mark.leaves_keys("garbage is what it is about")
@pytest.mark.timeout(60)
async def test_p1_bad_entries_of_every_kind_in_every_index_are_put_aside_as_they_were(
    redis_url: str, namespace: str, tmp_path: Path, redis: redis_async.Redis, report: Callable[[Verdict], None]
) -> None:
    """The jobs before, between and behind them run, no part of the worker ends, and a person finds bytes and reason."""
    config = Config(namespace=namespace)
    everything = [bad for index in HEADS for bad in bad_entries(index)]
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        worker = await fleet.start(TARGET, env=SHORT_LEASE)
        jobs = await queue.enqueue_many([nap.call(300) for _ in range(10)])
        for bad in everything:
            await _write(redis, queue, bad)
        jobs += await queue.enqueue_many([nap.call(10) for _ in range(20)])
        began_s = time.monotonic()
        results = await asyncio.gather(*(job.result(timeout=20) for job in jobs))
        took_s = time.monotonic() - began_s
        inspector = Inspector(queue.store)
        await wait_until(
            lambda: _are_rejected(inspector, len(everything)), timeout_s=15, description="all are set aside"
        )
        rejects = cast("list[bytes]", await redis.lrange(_key(queue, "rejects"), 0, -1))
        left = [bad.kind for bad in everything if await redis.exists(_key(queue, b"j:" + bad.id))]
        verdict = await judge("garbage in the indexes", jobs, fleet, worst_recovery_s=took_s)
        assert worker.is_alive
        assert [await redis.zcard(_key(queue, index)) for index in HEADS] == [0, 0, 0]
        await _check_bytes(redis, queue, everything, rejects)
    report(verdict)

    assert results == [300] * 10 + [10] * 20
    assert left == []
    assert not worker.events("helper.failed")
    assert (verdict.lost, verdict.started_twice, verdict.accepted_twice) == (0, 0, 0)


@pytest.mark.leaves_keys("garbage is what it is about")
async def test_p1_jobs_behind_thousands_of_bad_entries_are_reached_soon(
    redis_url: str, namespace: str, tmp_path: Path, redis: redis_async.Redis
) -> None:
    """A claim looks at a thousand, and the next one follows at once."""
    config = Config(namespace=namespace)
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        worker = await fleet.start(TARGET)
        await redis.zadd(_key(queue, "ready"), {b"bad-%d" % n: -n for n in range(5000)})
        began_s = time.monotonic()
        assert await (await queue.enqueue(nap, 1)).result(timeout=10) == 1
        took_s = time.monotonic() - began_s
        kept = await redis.llen(_key(queue, "rejects"))

    assert took_s <= 2
    assert kept == 1000  # the newest; more would fill Redis
    assert not worker.events("helper.failed")


@pytest.mark.leaves_keys("garbage is what it is about")
@pytest.mark.timeout(60)
async def test_p1_hints_and_lists_that_somebody_overwrites_stop_no_job(
    redis_url: str, namespace: str, tmp_path: Path, redis: redis_async.Redis, report: Callable[[Verdict], None]
) -> None:
    """Everything beside the three indexes and the records: the next jobs run at once, with the garbage where it is."""
    config = Config(namespace=namespace)
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        worker = await fleet.start(TARGET)
        worker_id = worker.events("worker.started")[0]["worker"]
        minute = await queue.store.server_now_ms() // 60_000
        names = ["wake", "workers", "dead", "rejects", "reclaimed", f"h:{worker_id}", f"k:{worker_id}"]
        names += ["u:taken", "p:big", "w:big", "s:clock", f"m:{minute}", f"m:{minute + 1}"]
        jobs: list[Job[int]] = []
        slowest_s = 0.0
        for name in names:
            for garbage in (BINARY, {"not": "ours"}, HUGE):
                if name.startswith("m:") and garbage is HUGE:
                    continue  # the numbers of a minute say how many results there were, and are read below
                await _overwrite(redis, _key(queue, name), garbage)
                began_s = time.monotonic()
                fresh = [await queue.enqueue(nap, 1), await queue.enqueue(nap.options(unique="taken"), 1)]
                assert await asyncio.gather(*(job.result(timeout=5) for job in fresh)) == [1, 1], name
                slowest_s = max(slowest_s, time.monotonic() - began_s)
                jobs += fresh
        assert worker.is_alive
        await redis.delete(_key(queue, f"m:{minute}"), _key(queue, f"m:{minute + 1}"))
        verdict = await judge("garbage in hints and lists", jobs, fleet, worst_recovery_s=slowest_s)
    report(verdict)

    assert slowest_s <= 2.5  # a lost wake marker costs two seconds
    assert not worker.events("helper.failed")
    assert (verdict.lost, verdict.started_twice, verdict.accepted_twice) == (0, 0, 0)


@pytest.mark.leaves_keys("garbage is what it is about")
@pytest.mark.timeout(60)
async def test_p1_an_index_that_somebody_overwrites_stops_the_queue_and_loses_nothing(
    redis_url: str, namespace: str, tmp_path: Path, redis: redis_async.Redis, report: Callable[[Verdict], None]
) -> None:
    """Nobody can say what stood in it: so all wait, longer than a lease, until a person has taken the garbage away.

    A job that ends meanwhile is settled then: it is neither lost nor begun again.
    """
    config, journal = Config(namespace=namespace), tmp_path / "journal"
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        workers = [await fleet.start(TARGET, env=SHORT_LEASE) for _ in range(2)]
        jobs: list[Job[int]] = []
        slowest_s = 0.0
        for index in HEADS:
            job = await queue.enqueue(nap, 700)
            jobs.append(job)
            await wait_until(lambda: counts(read_journal(journal), "start")[jobs[-1].id] == 1, description="it runs")
            await _overwrite(redis, _key(queue, index), BINARY)
            with pytest.raises(StoreCorrupt):
                await queue.enqueue(nap, 1)
            await asyncio.sleep(3)  # the fault itself: longer than the attempt and its lease
            assert await job.status() is JobState.RUNNING
            await redis.delete(_key(queue, index))
            began_s = time.monotonic()
            jobs.append(await queue.enqueue(nap, 1))
            assert await asyncio.gather(*(each.result(timeout=5) for each in jobs[-2:])) == [700, 1]
            slowest_s = max(slowest_s, time.monotonic() - began_s)
        infos = await asyncio.gather(*(job.info() for job in jobs))
        assert all(worker.is_alive for worker in workers)
        verdict = await judge("garbage instead of an index", jobs, fleet, worst_recovery_s=slowest_s)
    report(verdict)

    assert {(info.attempt, info.failures, info.crashes) for info in infos} == {(1, 0, 0)}
    assert (verdict.lost, verdict.started_twice, verdict.accepted_twice) == (0, 0, 0)
    assert not any(worker.events("helper.failed") for worker in workers)


@pytest.mark.leaves_keys("garbage is what it is about")
@pytest.mark.timeout(60)
async def test_p1_a_record_that_somebody_overwrites_costs_that_job_only(
    redis_url: str, namespace: str, tmp_path: Path, redis: redis_async.Redis
) -> None:
    """Waiting or running, by bytes or by another type; a large payload in a key of its own, too."""
    config, journal = Config(namespace=namespace), tmp_path / "journal"
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        await queue.enqueue(nap.options(id="waits"), 1)
        await _overwrite(redis, _key(queue, "j:waits"), {"not": "ours"})
        worker = await fleet.start(TARGET, env=SHORT_LEASE)
        await queue.enqueue(nap.options(id="runs"), 500)
        neighbour = await queue.enqueue(nap, 500)
        await wait_until(lambda: len(counts(read_journal(journal), "start")) == 2, description="both run")
        await _overwrite(redis, _key(queue, "j:runs"), BINARY)
        inspector = Inspector(queue.store)
        await wait_until(lambda: _are_rejected(inspector, 2), timeout_s=15, description="both are set aside")
        assert await neighbour.result(timeout=5) == 500
        rejects = {reject.id: reject for reject in await inspector.rejects()}
        await redis.restore(_key(queue, "restored"), 0, rejects["waits"].raw)
        restored = await redis.hgetall(_key(queue, "restored"))
        assert worker.is_alive

    assert restored == {b"not": b"ours"}
    assert rejects["runs"].raw == BINARY
    assert all(reject.reason for reject in rejects.values())
    assert not worker.events("helper.failed")
    assert counts(read_journal(journal), "start") == {"runs": 1, neighbour.id: 1}


@pytest.mark.leaves_keys("garbage is what it is about")
@pytest.mark.timeout(60)
async def test_p1_a_schedule_that_somebody_overwrites_goes_on(
    redis_url: str, namespace: str, tmp_path: Path, redis: redis_async.Redis
) -> None:
    """Its next tick is lost with its key; it is declared again, and the ticks after that run once each."""
    config, journal = Config(namespace=namespace), tmp_path / "journal"
    async with worker_fleet(tmp_path, redis_url, namespace) as fleet, Queue.connect(redis_url, config=config) as queue:
        workers: list[WorkerProcess] = [await fleet.start(CLOCK) for _ in range(2)]
        for garbage in (BINARY, {"not": "ours"}):
            before = len(counts(read_journal(journal), "start"))
            await _overwrite(redis, _key(queue, "s:clock"), garbage)
            await wait_until(
                lambda: len(counts(read_journal(journal), "start")) >= before + 2,  # noqa: B023 - asked at once
                timeout_s=8,
                description="two more ticks",
            )
        assert all(worker.is_alive for worker in workers)

    assert set(counts(read_journal(journal), "start").values()) == {1}
    assert not any(worker.events("helper.failed") for worker in workers)


async def _write(redis: redis_async.Redis, queue: Queue, bad: Bad) -> None:
    """What only the scripts should write."""
    if bad.is_hash:
        await _overwrite(redis, _key(queue, b"j:" + bad.id), {"not": "ours"})
    elif bad.record is not None:
        await redis.set(_key(queue, b"j:" + bad.id), bad.record)
    await redis.zadd(_key(queue, bad.index), {bad.id: 1})


async def _overwrite(redis: redis_async.Redis, key: str, garbage: bytes | dict[str, str]) -> None:
    """At once: nobody may find the key away in between."""
    words: list[bytes | str] = [part for pair in garbage.items() for part in pair] if isinstance(garbage, dict) else []
    await redis.eval(_OVERWRITE, 1, key, *(words or [cast("bytes", garbage)]))


async def _check_bytes(redis: redis_async.Redis, queue: Queue, everything: list[Bad], rejects: list[bytes]) -> None:
    """Each entry has its reason, its id and its bytes. Those that a claim has handed out begin with another line."""
    found: dict[bytes, tuple[bytes, bytes]] = {}
    for entry in rejects:
        _, reason, size, rest = entry.split(b"\n", 3)
        found[rest[: int(size)]] = reason, rest[int(size) :]
    for bad in everything:
        reason, raw = found[bad.id]
        assert reason, bad
        if bad.is_hash:
            copy = _key(queue, f"restored:{secrets.token_hex(4)}")
            await redis.restore(copy, 0, raw)
            assert await redis.hgetall(copy) == {b"not": b"ours"}, bad.kind
        elif raw != (bad.record or b""):
            assert raw.partition(b"\n")[2] == (bad.record or b"").partition(b"\n")[2] != b"", bad.kind


async def _are_rejected(inspector: Inspector, count: int) -> bool:
    return (await inspector.counts()).rejected == count


def _key(queue: Queue, name: str | bytes) -> str:
    # Some are no text; the client takes bytes for all commands, and says so in the types of some.
    return cast("str", queue.store.base + (name.encode() if isinstance(name, str) else name))
