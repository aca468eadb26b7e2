"""Single enqueues of one loop tick leave as one script, and each caller gets what it would have got alone."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from arq_web.errors import JobIdConflict, StoreCorrupt, StoreError, StoreFull, StoreUnavailable
from arq_web.store.connection import Connections
from arq_web.store.store import EnqueueReply, NewJob, Store
from arq_web.store.target import RedisTarget
from tests.support.proxy import Proxy, running_proxy
from tests.support.redis_server import RedisServer, running_redis
from tests.support.store_helpers import claim, command, info_of, keys, members, new_job
from tests.support.waiting import wait_until

NAMES = [f"{number:03}" for number in range(100)]
DEADLINE_S = 1.0


@pytest.fixture
async def proxy(redis_server: RedisServer) -> AsyncIterator[Proxy]:
    async with running_proxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture
async def proxied(proxy: Proxy, namespace: str) -> AsyncIterator[Store]:
    """A store whose Redis can be cut off."""
    connections = Connections(RedisTarget.from_url(proxy.url), deadline_s=DEADLINE_S)
    store = Store(connections, namespace, "default")
    await command(store, "PING")
    yield store
    await connections.aclose()


async def at_once(store: Store, jobs: Sequence[NewJob]) -> list[EnqueueReply | BaseException]:
    """What each of so many callers got, who all came in one tick."""
    return await asyncio.gather(*(store.enqueue([job]) for job in jobs), return_exceptions=True)


def created(outcome: EnqueueReply | BaseException) -> bool:
    """Whether a caller's job was created; its error, if it got one."""
    if isinstance(outcome, BaseException):
        raise outcome
    [answer] = outcome.jobs
    return answer.created


async def script_calls(store: Store) -> int:
    """Scripts that the session's server has run so far."""
    stats = await command(store, "INFO", "commandstats")
    assert isinstance(stats, bytes)
    lines = [line for line in stats.decode().splitlines() if line.startswith(("cmdstat_eval:", "cmdstat_evalsha:"))]
    return sum(int(line.split("calls=")[1].split(",")[0]) for line in lines)


async def test_a_hundred_callers_are_one_script_in_one_write_and_keep_their_order(proxy: Proxy, proxied: Store) -> None:
    await proxied.enqueue([new_job("first")])  # the server knows the script now
    requests, calls = proxy.request_count, await script_calls(proxied)

    outcomes = await at_once(proxied, [new_job(name, payload=name.encode()) for name in NAMES])

    assert proxy.request_count == requests + 2  # INFO was one
    assert await script_calls(proxied) == calls + 1
    assert [created(outcome) for outcome in outcomes] == [True] * 100
    taken = (await claim(proxied, 200)).jobs
    assert [job.id for job in taken] == ["first", *NAMES]
    assert [job.payload for job in taken[1:]] == [name.encode() for name in NAMES]


async def test_each_caller_gets_its_own_answer(store: Store) -> None:
    """Also where two ask for the same: one of them made it."""
    await store.enqueue([new_job("old"), new_job("holder", unique="key")])

    outcomes = await at_once(
        store, [new_job("new"), new_job("old"), new_job("twin"), new_job("twin"), new_job("other", unique="key")]
    )

    assert [created(outcome) for outcome in outcomes] == [True, False, True, False, False]
    answers = [outcome.jobs[0].id for outcome in outcomes if isinstance(outcome, EnqueueReply)]
    assert answers == ["new", "old", "twin", "twin", "holder"]


async def test_a_conflict_is_that_callers_alone(store: Store) -> None:
    """For a batch it is all or nothing; for callers who know nothing of each other it must not be."""
    await store.enqueue([new_job("050", task="other:task")])

    outcomes = await at_once(store, [new_job(name) for name in NAMES])

    conflicts = [name for name, outcome in zip(NAMES, outcomes, strict=True) if isinstance(outcome, JobIdConflict)]
    assert conflicts == ["050"]
    assert all(created(outcome) for outcome in outcomes if not isinstance(outcome, JobIdConflict))
    assert len(await members(store, "ready")) == 100


@pytest.mark.leaves_keys("a record that is not ours")
async def test_a_record_that_is_not_ours_is_that_callers_alone(store: Store) -> None:
    await command(store, "SET", store.base + b"j:b", "foreign")

    outcomes = await at_once(store, [new_job(name) for name in "abc"])

    assert isinstance(outcomes[1], StoreCorrupt)
    assert [created(outcomes[0]), created(outcomes[2])] == [True, True]


async def test_a_job_that_cannot_be_sent_is_that_callers_alone(store: Store) -> None:
    """It must not leave the others waiting for ever, nor the connection."""
    outcomes = await asyncio.wait_for(at_once(store, [new_job("a"), new_job("b", task="\udc80"), new_job("c")]), 10)

    assert isinstance(outcomes[1], UnicodeEncodeError)
    assert [created(outcomes[0]), created(outcomes[2])] == [True, True]
    assert created((await at_once(store, [new_job("d")]))[0])


async def test_a_forgotten_script_is_sent_once_for_all(store: Store) -> None:
    """After a restart of Redis: a hundred times its text would be two megabytes."""
    await command(store, "SCRIPT", "FLUSH")
    calls = await script_calls(store)

    outcomes = await at_once(store, [new_job(name) for name in NAMES])

    assert [created(outcome) for outcome in outcomes] == [True] * 100
    assert await script_calls(store) == calls + 2
    assert await members(store, "ready") == NAMES


async def test_a_caller_that_gives_up_before_the_tick_ends_sends_nothing(store: Store) -> None:
    callers = [asyncio.ensure_future(store.enqueue([new_job(name)])) for name in NAMES[:10]]
    asyncio.get_running_loop().call_soon(callers[3].cancel)

    outcomes = await asyncio.gather(*callers, return_exceptions=True)

    assert isinstance(outcomes[3], asyncio.CancelledError)
    assert all(created(outcome) for number, outcome in enumerate(outcomes) if number != 3)
    assert await members(store, "ready") == [name for name in NAMES[:10] if name != "003"]


async def test_a_caller_that_gives_up_later_does_not_shift_the_answers_of_others(proxy: Proxy, proxied: Store) -> None:
    proxy.black_hole(requests=False)
    callers = [asyncio.ensure_future(proxied.enqueue([new_job(name)])) for name in "abc"]
    requests = proxy.request_count
    await wait_until(lambda: proxy.request_count > requests, description="the script is on its way")
    callers[0].cancel()
    proxy.heal()

    outcomes = await asyncio.gather(*callers, return_exceptions=True)

    assert isinstance(outcomes[0], asyncio.CancelledError)
    answers = [outcome.jobs[0].id for outcome in outcomes if isinstance(outcome, EnqueueReply)]
    assert answers == ["b", "c"]
    assert (await info_of(proxied, "a")).id == "a"


async def test_all_callers_of_a_tick_may_give_up(store: Store) -> None:
    callers = [asyncio.ensure_future(store.enqueue([new_job(name)])) for name in "ab"]
    for caller in callers:
        asyncio.get_running_loop().call_soon(caller.cancel)

    outcomes = await asyncio.gather(*callers, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 2
    assert await keys(store, "j:*") == []
    assert created((await at_once(store, [new_job("c")]))[0])


async def test_a_connection_that_is_closed_in_the_same_tick_fails_its_callers(store: Store) -> None:
    """Each by an error of its own; the next enqueue opens another."""
    await store.enqueue([new_job("first")])
    callers = [asyncio.ensure_future(store.enqueue([new_job(name)])) for name in "abc"]
    await asyncio.sleep(0)  # they wait for the end of the tick
    await store.connections.aclose()

    outcomes = await asyncio.gather(*callers, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 3
    assert len({id(outcome) for outcome in outcomes}) == 3
    assert created((await at_once(store, [new_job("d")]))[0])


async def test_a_silent_redis_is_given_up_on_no_later_than_by_one_caller(proxy: Proxy, proxied: Store) -> None:
    """Sent once again as a part, and not once more each by itself."""
    proxy.black_hole()
    begun_s = time.monotonic()

    outcomes = await at_once(proxied, [new_job(name) for name in NAMES])

    assert time.monotonic() - begun_s < 2.7 * DEADLINE_S
    assert all(type(outcome) is StoreUnavailable for outcome in outcomes)
    assert len({id(outcome) for outcome in outcomes}) == 100
    proxy.heal()


async def test_a_lost_reply_creates_each_job_once(proxy: Proxy, proxied: Store) -> None:
    proxy.cut_reply_to(b"EVALSHA")

    outcomes = await at_once(proxied, [new_job(name) for name in NAMES])

    assert [created(outcome) for outcome in outcomes] == [True] * 100
    assert await members(proxied, "ready") == NAMES


async def test_a_full_redis_refuses_those_that_need_memory(namespace: str) -> None:
    """The others are told what is: as each would have been alone."""
    with running_redis("--maxmemory-policy", "noeviction") as server:
        connections = Connections(RedisTarget.from_url(server.url))
        store = Store(connections, namespace, "default")
        await store.enqueue([new_job("old")])
        await command(store, "CONFIG", "SET", "maxmemory", "1")

        outcomes = await at_once(store, [new_job("a"), new_job("old"), new_job("b", nonce="-")])

        assert [type(outcome) for outcome in outcomes] == [StoreFull, EnqueueReply, StoreFull]
        assert await keys(store, "j:*") == [store.base + b"j:old"]
        await connections.aclose()


async def test_more_callers_than_one_script_takes_are_several(store: Store) -> None:
    await store.enqueue([new_job("first")])
    calls = await script_calls(store)

    outcomes = await at_once(store, [new_job(f"{number:04}") for number in range(1500)])

    assert all(created(outcome) for outcome in outcomes)
    assert await script_calls(store) == calls + 2
    assert (await members(store, "ready"))[1:] == [f"{number:04}" for number in range(1500)]


async def test_large_payloads_wait_for_room_instead_of_piling_up(proxied: Store) -> None:
    """As many bytes are written at once as for callers who do not come in one tick."""
    connection = proxied.connections.get(proxied.base)
    payload = b"x" * 1_048_576
    callers = [asyncio.ensure_future(proxied.enqueue([new_job(name, payload=payload)])) for name in NAMES[:40]]
    await asyncio.sleep(0)  # all have come

    accepted_bytes = connection._unsent_bytes + sum(group.size_bytes for group in proxied._gatherer._groups.values())
    outcomes = await asyncio.gather(*callers)

    assert accepted_bytes < 3 * len(payload)
    assert all(created(outcome) for outcome in outcomes)
    assert len(await members(proxied, "ready")) == 40


async def test_several_threads_share_a_store(store: Store) -> None:
    """Each with a loop, and so a connection, of its own: nobody gets another's answer, or waits for another's tick."""

    async def enqueue_all(number: int) -> None:
        for turn in range(10):
            found = await at_once(store, [new_job(f"{number}:{turn}:{index}") for index in range(20)])
            answers[number] += [outcome.jobs[0].id for outcome in found if isinstance(outcome, EnqueueReply)]

    answers: dict[int, list[str]] = {number: [] for number in range(4)}
    threads = [threading.Thread(target=asyncio.run, args=(enqueue_all(number),)) for number in answers]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)

    for number, ids in answers.items():
        assert ids == [f"{number}:{turn}:{index}" for turn in range(10) for index in range(20)]


@contextmanager
def loop_closed_in_a_tick(call: Coroutine[Any, Any, Any]) -> Iterator[None]:
    """A loop that ends without a word while ``call`` waits for the end of its tick."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(call)
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    yield


def test_a_loop_that_was_closed_in_a_tick_leaves_nothing(redis_url: str, namespace: str) -> None:
    connections = Connections(RedisTarget.from_url(redis_url))
    store = Store(connections, namespace, "default")

    with loop_closed_in_a_tick(store.enqueue([new_job("lost")])):
        assert len(store._gatherer._groups) == 1

    async def enqueue() -> list[bytes]:
        await store.enqueue([new_job("a")])
        await connections.aclose()
        return await keys(store, "j:*")

    assert asyncio.run(enqueue()) == [store.base + b"j:a"]
    assert store._gatherer._groups == {}


@pytest.mark.parametrize("answer", [b"-ERR user_script:1: attempt to index a nil value\r\n", b"+PONG\r\n"])
async def test_an_answer_that_is_none_of_the_scripts_is_an_error_for_each(answer: bytes, namespace: str) -> None:
    """And nobody waits for ever."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            login = data.count(b"CLIENT\r\n") + data.count(b"SELECT\r\n")
            writer.write(b"+OK\r\n" * login + answer * data.count(b"EVALSHA\r\n"))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    connections = Connections(RedisTarget.from_url(f"redis://127.0.0.1:{port}/0"), deadline_s=10)
    store = Store(connections, namespace, "default")

    outcomes = await asyncio.wait_for(at_once(store, [new_job(name) for name in "abc"]), 10)

    assert [type(outcome) for outcome in outcomes] == [StoreCorrupt] * 3
    assert all(isinstance(outcome, StoreError) for outcome in outcomes)
    await connections.aclose()
    server.close()
    await server.wait_closed()
