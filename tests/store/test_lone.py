"""The short way of a lone enqueue writes and answers what the long way does, and leaves to it what it does not know."""

from __future__ import annotations

from typing import Any

import pytest

from arq_web.store import scripts
from arq_web.store.connection import Connections
from arq_web.store.gathering import enqueue_arguments
from arq_web.store.messages import NewJob
from arq_web.store.store import Store, WorkerKind
from tests.support.store_helpers import (
    LARGE,
    LEASE_MS,
    TASK,
    WORKER,
    claim,
    command,
    counted,
    enqueue_one,
    info_of,
    is_woken,
    keys,
    members,
    score_of,
)

LONG_WAY = scripts.bind("enqueue", scripts.source("enqueue").replace("Tries _lone first.", ""))


def lone(**options: Any) -> NewJob:
    """A job as most are; ``options`` make it another one."""
    return NewJob(**{"id": "a", "task": TASK, "payload": b'{"n":1}', **options})


async def send(store: Store, job: NewJob, verb: scripts.Verb) -> list[Any]:
    connection = store.connections.get(store.base)
    reply = await connection.run_script(verb.script, (store.base,), enqueue_arguments([job]))
    assert isinstance(reply, list)
    return reply


async def test_both_ways_write_and_answer_the_same(connections: Connections, namespace: str) -> None:
    """Record, place, counter, marker, and each key's end; with a worker that listens."""
    one, other = Store(connections, namespace, "one"), Store(connections, namespace, "other")
    for store in (one, other):
        await store.claim(WORKER, WorkerKind.EXTERNAL, "1.t", 0, LEASE_MS)

    answers = [await send(one, lone(), scripts.ENQUEUE), await send(other, lone(), LONG_WAY)]

    assert answers[0] == answers[1] == [1, 1, b"a"]
    infos = [await info_of(store, "a") for store in (one, other)]
    for store, info in zip((one, other), infos, strict=True):
        record = await command(store, "GET", store.base + b"j:a")
        assert record == f'q\n{info.enqueued_at_ms} {TASK}\n{{"n":1}}'.encode()
        place_us = await score_of(store, "ready", "a")
        assert place_us // 1000 == info.enqueued_at_ms - 1_735_689_600_000
        assert await counted(store) == {"enqueued": 1}
        ends = {key: await command(store, "PTTL", key) != -1 for key in await keys(store)}
        minutes = [key for key in ends if key.startswith(store.base + b"m:")]
        assert [key for key, has_end in ends.items() if not has_end] == [store.base + b"j:a", store.base + b"ready"]
        assert all(ends[key] for key in minutes)
        assert await is_woken(store)


async def test_the_short_way_is_taken(store: Store) -> None:
    """Else nothing here would tell: only it creates without asking for the record first."""
    before = await _calls(store, "get")

    await send(store, lone(), scripts.ENQUEUE)

    assert await _calls(store, "get") == before
    await send(store, lone(id="b"), LONG_WAY)
    assert await _calls(store, "get") == before + 1


@pytest.mark.parametrize(
    "options",
    [{"extra": b'{"h":{"tenant":"acme"}}'}, {"owner": "ada {", "extra": b'{"max_tries":2}'}],
    ids=["h", "all"],
)
async def test_what_only_the_worker_reads_goes_the_short_way(
    connections: Connections, namespace: str, options: dict[str, Any]
) -> None:
    """An app with middleware gives headers to all its jobs."""
    one, other = Store(connections, namespace, "one"), Store(connections, namespace, "other")
    before = await _calls(one, "get")

    assert await send(one, lone(**options), scripts.ENQUEUE) == [0, 1, b"a"]

    assert await _calls(one, "get") == before
    await send(other, lone(**options), LONG_WAY)
    records = [await _text(store, b"j:a") for store in (one, other)]
    ends = [record.split(b" ", 1)[1] for record in records]  # without the times
    assert ends[0] == ends[1]
    assert options["extra"] in ends[0]


async def test_sent_again_it_is_created_once(store: Store) -> None:
    answers = [await send(store, lone(), scripts.ENQUEUE) for _ in range(3)]

    assert answers == [[0, 1, b"a"]] * 3
    assert await members(store, "ready") == ["a"]
    assert await counted(store) == {"enqueued": 1}


async def test_lone_jobs_keep_their_order_among_others(store: Store) -> None:
    """One microsecond apart, as the long way's."""
    for number in range(20):
        job = lone(id=f"{number:02}") if number % 2 else lone(id=f"{number:02}", nonce="n")
        await send(store, job, scripts.ENQUEUE)

    assert await members(store, "ready") == [f"{number:02}" for number in range(20)]
    assert [job.id for job in (await claim(store, 20)).jobs] == [f"{number:02}" for number in range(20)]


@pytest.mark.parametrize(
    "options",
    [
        {"nonce": "n"},
        {"priority": 1},
        {"due": "d60000"},
        {"expires": "d60000"},
        {"max_crashes": 1},
        {"keep_s": 1},
        {"unique": "key"},
        {"payload": LARGE},
    ],
    ids=lambda options: next(iter(options)),
)
async def test_what_is_not_as_most_are_takes_the_long_way(
    connections: Connections, namespace: str, options: dict[str, Any]
) -> None:
    """Its option is not lost."""
    one, other = Store(connections, namespace, "one"), Store(connections, namespace, "other")

    assert await send(one, lone(**options), scripts.ENQUEUE) == await send(other, lone(**options), LONG_WAY)

    assert [key.removeprefix(one.base) for key in await keys(one)] == [
        key.removeprefix(other.base) for key in await keys(other)
    ]
    specs = [bytes(await _text(store, b"j:a")).split(b"\n")[1].split(b" ", 1)[1] for store in (one, other)]
    assert _without_times(specs[0]) == _without_times(specs[1])


async def test_a_foreign_record_under_its_id_is_left_alone(store: Store) -> None:
    await command(store, "SET", store.base + b"j:a", b"not ours", "PX", 60_000)

    assert (await send(store, lone(), scripts.ENQUEUE))[1] == 3
    assert await _text(store, b"j:a") == b"not ours"
    assert await members(store, "ready") == []
    await command(store, "DEL", store.base + b"j:a")


async def test_a_foreign_marker_is_put_aside(store: Store) -> None:
    """By the long way: jobs are heard of again."""
    await command(store, "SET", store.base + b"wake", "foreign")

    await send(store, lone(), scripts.ENQUEUE)

    assert await command(store, "LRANGE", store.base + b"wake", 0, -1) == [b"1"]
    await enqueue_one(store, "b")
    assert await members(store, "ready") == ["a", "b"]


async def _calls(store: Store, name: str) -> int:
    reply = await command(store, "INFO", "commandstats")
    assert isinstance(reply, bytes)
    lines = [line for line in reply.decode().splitlines() if line.startswith(f"cmdstat_{name}:")]
    return int(lines[0].split("calls=")[1].split(",")[0]) if lines else 0


async def _text(store: Store, key: bytes) -> bytes:
    found = await command(store, "GET", store.base + key)
    assert isinstance(found, bytes)
    return found


def _without_times(spec: bytes) -> list[bytes]:
    return [word for word in spec.split(b" ") if not word.startswith(b"e1")]
