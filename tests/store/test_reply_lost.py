"""The reply of every script lost on its way: the caller gets the right answer, and the state is as if sent once.

A proxy lets the request through and drops the answer, or the connection; the real connection then sends it again. "As
if sent once" is what the same case leaves in another queue, where nothing was lost.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import cast

import pytest

from arq_web.errors import StoreUnavailable
from arq_web.job import JobState
from arq_web.store.connection import Connections
from arq_web.store.store import Store, WorkerKind
from arq_web.store.target import RedisTarget
from tests.support.proxy import Proxy, running_proxy
from tests.support.redis_server import RedisServer
from tests.support.sendings import SENDINGS, Sending
from tests.support.store_helpers import LEASE_MS, WORKER, claim, command, enqueue_one, keys, spent_by, state_of
from tests.support.time_travel import let_time_pass
from tests.support.waiting import wait_until

TIME = re.compile(rb"(?<![0-9])1[78][0-9]{11}(?![0-9])")
BY_DIGEST, BY_TEXT = b"\r\nEVALSHA\r\n", b"\r\nEVAL\r\n"

ONE_PER_SCRIPT = list({sending.verb: sending for sending in SENDINGS}.values())
one_per_script = pytest.mark.parametrize("sending", ONE_PER_SCRIPT, ids=lambda sending: sending.verb)
LOSSES = [(sending, "cut_reply_to") for sending in SENDINGS] + [
    (sending, "swallow_reply_to") for sending in ONE_PER_SCRIPT
]


@pytest.fixture
async def proxy(redis_server: RedisServer) -> AsyncIterator[Proxy]:
    async with running_proxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture
async def lossy(proxy: Proxy, store: Store) -> AsyncIterator[Store]:
    """The same queue as ``store``, through the proxy."""
    connections = Connections(RedisTarget.from_url(proxy.url))
    yield Store(connections, store.namespace, store.queue)
    await connections.aclose()


@pytest.fixture
def twin(store: Store) -> Store:
    """Another queue, in which nothing is lost."""
    return Store(store.connections, store.namespace, "twin")


async def picture(store: Store) -> dict[bytes, object]:
    """All keys of the queue with their contents, without what time it is."""
    return {
        TIME.sub(b"<ms>", re.sub(rb"^m:\d+$", b"m:<minute>", key.removeprefix(store.base))): await _content(store, key)
        for key in await keys(store)
    }


async def _content(store: Store, key: bytes) -> object:
    has_end = await command(store, "PTTL", key) != -1
    match await command(store, "TYPE", key):
        case b"string":
            return TIME.sub(b"<ms>", cast("bytes", await command(store, "GET", key))), has_end
        case b"zset":
            return await command(store, "ZRANGE", key, 0, -1), has_end
        case b"set":
            return set(cast("list[bytes]", await command(store, "SMEMBERS", key))), has_end
        case b"hash":
            flat = cast("list[bytes]", await command(store, "HGETALL", key))
            return dict(zip(flat[::2], flat[1::2], strict=True)), has_end
        case _:
            return TIME.sub(
                b"<ms>", b"\n".join(cast("list[bytes]", await command(store, "LRANGE", key, 0, -1)))
            ), has_end


async def scripts_run(store: Store) -> int:
    """How many scripts this server has run so far, by digest."""
    info = cast("bytes", await command(store, "INFO", "commandstats"))
    found = re.search(rb"cmdstat_evalsha:calls=(\d+)", info)
    return int(found[1]) if found else 0


@pytest.mark.parametrize(("sending", "fate"), LOSSES, ids=[f"{fate} {sending.name}" for sending, fate in LOSSES])
async def test_the_caller_gets_the_answer_and_the_state_is_as_if_sent_once(
    proxy: Proxy, store: Store, lossy: Store, twin: Store, sending: Sending, fate: str
) -> None:
    """The script ran, and nobody knows: it runs again, and must not do it again."""
    await sending.prepare(twin)
    expected = await sending.send(twin)
    await sending.prepare(store)
    await command(lossy, "PING")
    getattr(proxy, fate)(BY_DIGEST)
    run_before = await scripts_run(store)

    answer = await sending.send(lossy)

    assert await scripts_run(store) == run_before + 2
    assert answer == expected
    assert await picture(store) == await picture(twin)


@one_per_script
async def test_a_redis_that_forgets_its_scripts_between_the_two_sendings(
    proxy: Proxy, store: Store, lossy: Store, twin: Store, sending: Sending
) -> None:
    """A restart in the middle (its data kept): the second sending brings the script's text."""
    await sending.prepare(twin)
    expected = await sending.send(twin)
    await sending.prepare(store)
    await command(lossy, "PING")
    proxy.swallow_reply_to(BY_DIGEST)
    run_before = await scripts_run(store)

    asked = asyncio.ensure_future(sending.send(lossy))
    await wait_until(lambda: _has_run(store, run_before), description="the first sending has run")
    await command(store, "SCRIPT", "FLUSH")
    answer = await asked

    assert answer == expected
    assert await picture(store) == await picture(twin)


async def _has_run(store: Store, run_before: int) -> bool:
    return await scripts_run(store) > run_before


@one_per_script
async def test_the_answer_to_a_script_that_was_sent_as_text_is_lost(
    proxy: Proxy, store: Store, lossy: Store, twin: Store, sending: Sending
) -> None:
    """The first use after a restart: NOSCRIPT, then the text, and that answer is lost."""
    await sending.prepare(twin)
    expected = await sending.send(twin)
    await sending.prepare(store)
    await command(lossy, "PING")
    await command(store, "SCRIPT", "FLUSH")
    connections = proxy.connection_count
    proxy.cut_reply_to(BY_TEXT)

    answer = await sending.send(lossy)

    assert proxy.connection_count == connections + 1
    assert answer == expected
    assert await picture(store) == await picture(twin)


async def test_a_claim_whose_answers_are_all_lost_costs_nothing_once_the_worker_asks_again(
    proxy: Proxy, store: Store, lossy: Store
) -> None:
    """It asks with the same token until it is answered: one attempt, no crash, and nothing else was taken meanwhile."""
    for name in ("a", "b", "c"):
        await enqueue_one(store, name)
    await claim(store, 0, token="1.before")
    proxy.swallow_reply_to(BY_DIGEST, times=2)

    with pytest.raises(StoreUnavailable):
        await claim(lossy, 2, token="2.lost")
    await let_time_pass(store, LEASE_MS // 2)
    reply = await claim(lossy, 2, token="2.lost")

    assert [(job.id, job.attempt, job.crashes) for job in reply.jobs] == [("a", 1, 0), ("b", 1, 0)]
    assert [await spent_by(store, name) for name in ("a", "b", "c")] == [(1, 0, 0), (1, 0, 0), (0, 0, 0)]
    assert await state_of(store, "c") is JobState.QUEUED


async def test_a_claim_whose_answer_is_lost_for_good_costs_one_attempt_and_no_crash(
    proxy: Proxy, store: Store, lossy: Store
) -> None:
    """The worker has gone on to another claim, and says with its next renewal what it holds: not this."""
    await claim(store, 0, token="1.before")  # Redis must know the script: else it is only the NOSCRIPT that is lost
    await enqueue_one(store, "a")
    proxy.swallow_reply_to(BY_DIGEST, times=2)
    with pytest.raises(StoreUnavailable):
        await claim(lossy, 1, token="2.lost")

    await claim(lossy, 0, token="3.next")
    await lossy.renew(WORKER, WorkerKind.EXTERNAL, LEASE_MS, "3.next", [])

    assert (await state_of(store, "a"), await spent_by(store, "a")) == (JobState.QUEUED, (1, 0, 0))
