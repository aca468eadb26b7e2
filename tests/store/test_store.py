"""What the store reads without a script: a job, the workers, the server's clock."""

from __future__ import annotations

import time

import pytest

from arq_web.errors import StoreCorrupt
from arq_web.store.messages import worker_seen
from arq_web.store.store import Store, WorkerKind
from tests.support.store_helpers import LARGE, LEASE_MS, OTHER_WORKER, WORKER, claim, command, enqueue_one


async def test_a_job_that_is_not_there_reads_as_none(store: Store) -> None:
    assert await store.read("gone") is None


@pytest.mark.leaves_keys("garbage in the place of a record")
@pytest.mark.parametrize("raw", [b"something else", b"", b"q\nx t\n"])
@pytest.mark.parametrize("with_payload", [False, True])
async def test_garbage_reads_as_corrupt_and_names_the_job(store: Store, raw: bytes, with_payload: bool) -> None:
    await command(store, "SET", store.base + b"j:a", raw)

    with pytest.raises(StoreCorrupt, match="'a'"):
        await store.read("a", with_payload=with_payload)


async def test_a_payload_kept_aside_is_fetched_only_if_asked_for(store: Store) -> None:
    """A page of jobs must not pull megabytes."""
    await enqueue_one(store, "large", payload=LARGE)
    await enqueue_one(store, "small", payload=b"[1]")

    payloads = {
        (job_id, asked): info.payload
        for job_id in ("large", "small")
        for asked in (False, True)
        if (info := await store.read(job_id, with_payload=asked))
    }

    assert payloads == {
        ("large", False): b"",
        ("large", True): LARGE,
        ("small", False): b"[1]",
        ("small", True): b"[1]",
    }


async def test_workers_are_known_for_some_seconds(store: Store) -> None:
    await store.claim(WORKER, WorkerKind.EXTERNAL, "1.t", 0, LEASE_MS, slots=7)
    await claim(store, worker=OTHER_WORKER, kind=WorkerKind.STANDBY)
    await command(store, "ZADD", store.base + b"workers", 1, "x1 gone:33:cccccccc")

    workers = await store.workers()

    seen = {(worker.id, worker.external, worker.slots) for worker in workers}
    assert seen == {(WORKER, True, 7), (OTHER_WORKER, False, 1)}
    assert min(worker.expires_ms for worker in workers) > await store.server_now_ms()


@pytest.mark.parametrize("member", ["", "x", "not ours", "x w", "x-1 w", "x" + "9" * 5000 + " w", "x\u0663 w"])
def test_garbage_among_the_workers_has_no_slots(member: str) -> None:
    """It must not keep an autoscaler from its numbers."""
    assert worker_seen(member.encode(), 1).slots == 0


async def test_a_worker_that_leaves_is_not_listening_any_more(store: Store) -> None:
    """An enqueue right after a deployment must not hear that somebody is there."""
    await store.claim(WORKER, WorkerKind.EXTERNAL, "1.t", 0, LEASE_MS, slots=7)
    await claim(store, worker=OTHER_WORKER)

    await store.leave(WORKER, WorkerKind.EXTERNAL, slots=7)

    assert [worker.id for worker in await store.workers()] == [OTHER_WORKER]


async def test_the_server_s_clock_is_told_in_milliseconds(store: Store) -> None:
    assert abs(await store.server_now_ms() - time.time() * 1000) < 5_000
