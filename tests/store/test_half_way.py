"""No script stops half-way: it raises before its first write, or it goes through to its end.

Redis takes nothing back of a script that failed. So whatever may raise (a key of another type, a right that the user
has not) is met before anything was changed, or is no error at all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast

import pytest

from arq_web.errors import StoreCorrupt, StoreError, StoreRefused
from arq_web.job import JobState
from arq_web.store.connection import Connections
from arq_web.store.record import ClaimedJob
from arq_web.store.relaying import RelayedRow, RelayStore
from arq_web.store.store import Idempotency, Replace, Settled, Store
from arq_web.store.target import RedisTarget
from tests.support.redis_server import RedisServer
from tests.support.store_helpers import (
    HOUR_MS,
    LARGE,
    WORKER,
    claim,
    claim_one,
    command,
    enqueue_and_claim,
    enqueue_one,
    expire_lease,
    keys,
    make_due,
    new_job,
    reclaim,
    rejects,
    renew,
    settle,
    snapshot,
    state_of,
    ttl_ms,
)

Verb = Callable[[Store, ClaimedJob], Awaitable[object]]
VERBS: dict[str, Verb] = {
    "enqueue": lambda store, job: store.enqueue([new_job("new", unique="other"), new_job("late", due="d60000")]),
    "enqueue a lone one": lambda store, job: store.enqueue([new_job("new", nonce="-")]),
    "replace": lambda store, job: store.enqueue([new_job("dead", replace=Replace.FINISHED)]),
    "enqueue once": lambda store, job: store.enqueue(
        [new_job("new", unique="other")], max_queued=100, once=Idempotency("key", "values", HOUR_MS)
    ),
    "claim": lambda store, job: claim(store),
    "complete": lambda store, job: settle(store, job, "complete"),
    "retry": lambda store, job: settle(store, job, "retry"),
    "bury": lambda store, job: settle(store, job, "bury"),
    "release": lambda store, job: settle(store, job, "release"),
    "renew": lambda store, job: renew(store, [], last_token=job.token),
    "reclaim": lambda store, job: reclaim(store),
    "cancel ready": lambda store, job: store.cancel("ready"),
    "cancel due": lambda store, job: store.cancel("due", nonce="nonce"),
    "cancel due, by a worker": lambda store, job: store.cancel("due", by_worker=True, nonce="nonce"),
    "dismiss due": lambda store, job: store.dismiss("due", nonce="nonce"),
    "dismiss dead": lambda store, job: store.dismiss("dead", nonce="nonce"),
    "reclaim from the dead": lambda store, job: store.reclaim(dead=[WORKER]),
    "redrive": lambda store, job: store.redrive("dead", "nonce"),
    "relay": lambda store, job: RelayStore(store.connections, store.namespace, store.queue).relay(
        [RelayedRow("row", new_job("new", unique="other"))], valid_until_ms=99_999_999_999_999
    ),
    "watch": lambda store, job: store.watch("ready", "channel"),
    "progress": lambda store, job: store.progress(job.id, job.attempt, job.token, b"{}"),
    "declare": lambda store, job: store.declare("daily", "other", 1),
    "fire": lambda store, job: store.fire("daily", "print", 1, 2, new_job("tick")),
}
PLACES = ["ready", "due", "leases", "dead", "rejects", "wake", "workers", f"h:{WORKER}", f"k:{WORKER}", "reclaimed"]
PLACES += ["u:key", "i:key", "o:row", "r:nonce:due", "r:nonce:dead", "w:ready", "w:running", "p:running", "s:daily"]
INDEX_OF = {b"q": "ready", b"s": "due", b"t": "due", b"r": "leases"}


async def make_one_of_each(store: Store) -> ClaimedJob:
    """A queue in which every verb has much to do; the running job."""
    dead = await enqueue_and_claim(store, "dead")
    await settle(store, dead, "bury")
    job = await enqueue_and_claim(store, "running", unique="key", max_crashes=1, payload=LARGE)
    await enqueue_one(store, "ready")
    await enqueue_one(store, "expired", expires="a1")
    await enqueue_one(store, "due", due="d60000")
    await store.declare("daily", "print", 1)
    for watched in ("running", "ready", "expired"):
        await store.watch(watched, "channel", follow=True)
    await make_due(store, "due")
    await expire_lease(store, "running")
    await command(store, "ZADD", store.base + b"due", 1, "without a record")
    return job


async def is_listed(store: Store, place: str) -> list[str]:
    """Live jobs that no index knows, unless that index is the broken one: nobody would ever run them."""
    lost = []
    for key in await keys(store, "j:*"):
        raw = cast("bytes", await command(store, "GET", key))
        index = INDEX_OF.get(raw[:1])
        name = key.removeprefix(store.base + b"j:")
        if index and index != place and await command(store, "ZSCORE", store.base + index.encode(), name) is None:
            lost.append(f"{name.decode()} is not in {index}")
    return lost


@pytest.mark.leaves_keys("a queue that somebody else broke")
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("verb", VERBS)
async def test_a_key_of_another_type_lets_a_script_pass_or_stops_it_before_it_writes(
    store: Store, verb: str, place: str
) -> None:
    """An id that was taken out of one index and never came to another is a job that is lost without a word."""
    job = await make_one_of_each(store)
    await command(store, "DEL", store.base + place.encode())
    await command(store, "HSET", store.base + place.encode(), "not", "ours")
    before = await snapshot(store)

    try:
        await VERBS[verb](store, job)
    except StoreError:
        assert await snapshot(store) == before
    assert await is_listed(store, place) == []


@pytest.mark.leaves_keys("a queue that somebody else broke")
@pytest.mark.parametrize("place", ["ready", "due", "leases"])
@pytest.mark.parametrize("verb", ["enqueue", "enqueue a lone one", "claim", "complete"])
async def test_a_queue_whose_index_is_not_ours_stands_still(store: Store, verb: str, place: str) -> None:
    """Whichever it is: what came in meanwhile would wait behind something that nobody can see."""
    job = await make_one_of_each(store)
    await command(store, "SET", store.base + place.encode(), "not ours")

    with pytest.raises(StoreCorrupt, match="WRONGTYPE"):
        await VERBS[verb](store, job)


@pytest.fixture
async def without_channels(store: Store, redis_server: RedisServer) -> AsyncIterator[Store]:
    """The same queue for a user that may do everything but publish: what a user is by default since Redis 7."""
    user = "mute-" + store.namespace
    await command(store, "ACL", "SETUSER", user, "on", ">word", "~*", "resetchannels", "+@all")
    connections = Connections(RedisTarget.from_url(f"redis://{user}:word@127.0.0.1:{redis_server.port}/0"))
    yield Store(connections, store.namespace, "default")
    await connections.aclose()
    await command(store, "ACL", "DELUSER", user)


async def test_a_worker_that_may_not_publish_still_ends_its_jobs(store: Store, without_channels: Store) -> None:
    """Who waits then looks by itself, each half minute; but no job is lost."""
    job = await enqueue_and_claim(store, "a")
    await store.watch("a", "channel")

    with pytest.raises(StoreRefused):
        await command(without_channels, "PUBLISH", "channel", "word")
    assert await settle(without_channels, job, "complete", note=b'{"r":1}') is Settled.RECORDED

    assert await state_of(store, "a") is JobState.SUCCEEDED
    assert await ttl_ms(store, "w:a") == -2


async def test_a_claim_that_may_not_publish_takes_its_jobs(store: Store, without_channels: Store) -> None:
    """One of those it meets has expired, and somebody waits for it; the other is followed."""
    await enqueue_one(store, "old", expires="a1")
    await enqueue_one(store, "new")
    await store.watch("old", "channel")
    await store.watch("new", "channel", follow=True)

    assert (await claim_one(without_channels)).id == "new"
    assert await state_of(store, "old") is JobState.EXPIRED


@pytest.mark.leaves_keys("a queue that somebody else broke")
async def test_without_a_list_for_rejects_they_stay_where_they_are_for_as_long(store: Store) -> None:
    """Nothing is thrown away, and nothing stays for ever."""
    await command(store, "SET", store.base + b"rejects", "not a list")
    await command(store, "SET", store.base + b"j:a", "something else")
    await command(store, "ZADD", store.base + b"ready", 1, "a")

    assert (await claim(store)).jobs == []

    assert await command(store, "GET", store.base + b"j:a") == b"something else"
    assert 0 < await ttl_ms(store, "j:a") <= 7 * 86_400_000


async def test_a_hint_that_was_overwritten_is_set_aside_and_begins_anew(store: Store) -> None:
    """Who works here and that there is something to do is nothing that a queue may stand still for."""
    await enqueue_one(store, "a")
    for name in ("wake", "workers"):
        await command(store, "DEL", store.base + name.encode())
        await command(store, "SET", store.base + name.encode(), b"\xff not ours")
    await enqueue_one(store, "b")

    taken = await claim(store)

    assert [job.id for job in taken.jobs] == ["a", "b"]
    assert sorted(await rejects(store)) == [
        ("overwritten", b"wake", b"\xff not ours"),
        ("overwritten", b"workers", b"\xff not ours"),
    ]
    assert [seen.id for seen in await store.workers()] == [WORKER]


@pytest.mark.parametrize("number", [b"9" * 15, b"9" * 400])
async def test_numbers_that_no_score_can_hold_are_rejected(store: Store, number: bytes) -> None:
    """Infinity less infinity is no number, and no place in a sorted set."""
    for name, spec in ((b"created", number + b" t:t"), (b"priority", b"1763640000000 t:t p" + number)):
        await command(store, "SET", store.base + b"j:" + name, b"q\n" + spec + b"\n{}")
        await command(store, "ZADD", store.base + b"due", 1, name)

    assert (await claim(store)).jobs == []

    assert sorted(job_id for _, job_id, _ in await rejects(store)) == [b"created", b"priority"]
