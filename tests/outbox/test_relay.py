"""The relay: every row once, in order, soon; whatever fails, whoever dies."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import redis.asyncio as redis_async
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import NullPool

from arq_web import Config, Hub, JobState
from arq_web.errors import StoreError
from arq_web.outbox import relay as relay_module
from arq_web.outbox.database import CLAIM_MS
from arq_web.outbox.relay import UNKNOWN_AFTER_MS, Relay
from arq_web.store.relaying import FORGET_MS
from tests.outbox import shop
from tests.outbox.shop import finish, make_hub, receipt_job, relay_of, rows, send_receipt, waiting, write
from tests.support.event_log import listening
from tests.support.ports import free_port
from tests.support.proxy import running_proxy
from tests.support.redis_server import RedisServer, running_redis
from tests.support.time_travel import let_time_pass
from tests.support.waiting import wait_until
from tests.support.working import working

HOUR_MS = 3_600_000


async def is_empty(engine: AsyncEngine) -> bool:
    return not await rows(engine)


@asynccontextmanager
async def relaying(relay: Relay) -> AsyncIterator[None]:
    running = asyncio.create_task(relay.run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait((running,))


# -- soon ---------------------------------------------------------------------------------


async def test_a_web_app_relays_its_own_rows_right_after_their_commit(hub: Hub, engine: AsyncEngine) -> None:
    """Its relay looks for others' rows once an hour here: it was woken."""
    async with hub.lifespan():
        await wait_until(lambda: len(hub._outbox._relays) == 1, description="the relay runs")  # type: ignore[union-attr]
        [job_id] = await write(engine, hub, "a")
        await wait_until(lambda: is_empty(engine), description="the row is relayed")

        assert await waiting(hub) == [job_id]
    assert await receipt_job(hub, job_id).status() is JobState.QUEUED


async def test_a_worker_relays_the_rows_that_a_dead_web_process_left(
    redis_url: str, namespace: str, engine: AsyncEngine
) -> None:
    """Nobody wakes it; and then it runs them."""
    web, app = (make_hub(redis_url, namespace, engine, poll=0.1) for _ in range(2))
    [job_id] = await write(engine, web, "a")

    async with working(app):
        await wait_until(lambda: is_empty(engine), description="the row is relayed")
        assert await receipt_job(app, job_id).result(timeout=10) == "receipt for a"
    await web.aclose()
    await app.aclose()


async def test_an_embedded_worker_relays_too(redis_url: str, namespace: str, engine: AsyncEngine) -> None:
    """While developing there is one process for all."""
    hub = make_hub(redis_url, namespace, engine, config=Config(namespace=namespace, embedded="always"))
    async with hub.lifespan():
        await wait_until(lambda: len(hub._outbox._relays) == 1, description="the relay runs")  # type: ignore[union-attr]
        [job_id] = await write(engine, hub, "a")
        await wait_until(lambda: is_empty(engine), description="the row is relayed")
        assert await receipt_job(hub, job_id).result(timeout=10) == "receipt for a"


async def test_a_burst_relays_first(hub: Hub, engine: AsyncEngine) -> None:
    """What is in the outbox is left to do."""
    [job_id] = await write(engine, hub, "a")

    await finish(hub)

    assert await receipt_job(hub, job_id).status() is JobState.SUCCEEDED


async def test_what_the_running_relay_has_begun_is_caught_up_with(hub: Hub, engine: AsyncEngine) -> None:
    """A burst that returned before would find neither the row nor the job."""
    relay = relay_of(hub)
    for number in range(10):
        [job_id] = await write(engine, hub, str(number))
        async with relaying(relay):
            await asyncio.sleep(0)  # it has begun
            await relay.catch_up()
            assert job_id in await waiting(hub)


async def test_a_row_of_a_job_that_another_app_version_added_goes_its_way(hub: Hub, engine: AsyncEngine) -> None:
    """An old worker relays for a new web process: the task and the queue are not its to know."""
    await write(engine, hub, "a")
    await shop.change(engine, "UPDATE arq_web_outbox SET task = 'shop.newer', queue = 'newer'")

    with listening("outbox") as log:
        await relay_of(hub).relay_batch()

    store = hub.queues.store("newer")
    raw = await store.connections.get().execute("ZRANGE", store.base + b"ready", 0, -1)
    assert isinstance(raw, list)
    assert isinstance(raw[0], bytes)
    assert (len(raw), log.lines, await rows(engine)) == (1, [], [])
    assert await store.cancel(raw[0].decode()) == "cancelled"


# -- once ---------------------------------------------------------------------------------


async def test_a_relay_that_died_before_the_row_was_deleted_is_done_again_and_runs_nothing_twice(
    hub: Hub, engine: AsyncEngine
) -> None:
    """A day later: the job has run, and its record is gone. ``keep_result=0`` is gone after a minute."""
    async with AsyncSession(engine) as session:
        hub.queue().outbox(session).enqueue(send_receipt.options(keep_result=0), "a")
        await session.commit()
    await die_at(engine, "DELETE", relay_of(hub))
    await finish(hub)
    await let_time_pass(hub.queue().store, 24 * HOUR_MS)
    await let_claims_pass(engine)

    await relay_of(hub).relay_batch()

    assert (await rows(engine), await waiting(hub)) == ([], [])


@pytest.mark.parametrize(("point", "is_claimed"), [("UPDATE", False), ("DELETE", True)])
async def test_a_relay_that_died_holds_its_rows_for_a_claim_at_most(
    hub: Hub, engine: AsyncEngine, point: str, *, is_claimed: bool
) -> None:
    """The next one takes them then, and not before: it cannot know that the other is dead."""
    ids = await write(engine, hub, "a", "b")
    await die_at(engine, point, relay_of(hub))

    taken_at_once = await relay_of(hub).relay_batch()
    await let_claims_pass(engine)
    taken_later = await relay_of(hub).relay_batch()

    assert (taken_at_once, taken_later) == ((0, 2) if is_claimed else (2, 0))
    assert (await rows(engine), await waiting(hub)) == ([], ids)


async def test_a_request_that_stood_still_comes_too_late(
    hub: Hub,
    engine: AsyncEngine,
    redis_server: RedisServer,
    namespace: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The claim behind it has passed, another relay has done the row, its job has run; all is forgotten by now."""
    await write(engine, hub, "a")
    async with running_proxy(redis_server.port) as proxy:
        config = Config(namespace=namespace, command_deadline_s=0.1)
        slow = make_hub(proxy.url, namespace, engine, config=config)
        with monkeypatch.context() as patch:
            patch.setattr(relay_module, "VALID_MS", 50)
            with at_statement(engine, "UPDATE", lambda: proxy.black_hole(replies=False)), pytest.raises(StoreError):
                await relay_of(slow).relay_batch()
        late_ms = await hub.queue().store.server_now_ms() + 50

        assert await relay_of(hub).relay_batch() == 1
        await finish(hub)
        await let_time_pass(hub.queue().store, 24 * HOUR_MS)
        await wait_until(lambda: is_past(hub, late_ms), description="the request is too old")
        before = await scripts_run(hub)
        proxy.heal()
        await wait_until(lambda: has_run_more(hub, before), description="the late request has arrived")
        await slow.aclose()

    assert (await waiting(hub), await rows(engine)) == ([], [])


async def test_two_relays_at_once_take_different_rows_where_the_database_can_lock_them(
    hub: Hub, engine: AsyncEngine
) -> None:
    """And where it cannot, the same, and each becomes a job once."""
    ids = await write(engine, hub, *(f"order {number}" for number in range(400)))

    counts = await asyncio.gather(*(relay_everything(relay_of(hub)) for _ in range(4)))

    assert sum(counts) == 400
    assert sorted(await waiting(hub)) == sorted(ids)
    assert await rows(engine) == []


async def test_a_transaction_that_is_not_committed_does_not_hold_up_the_relay(hub: Hub, engine: AsyncEngine) -> None:
    """Its rows come when they come; those of others, written later, go now. Ids do not follow commits."""
    async with AsyncSession(engine) as slow:
        early = hub.queue().outbox(slow).enqueue(send_receipt, "early")
        if engine.dialect.name != "sqlite":  # SQLite has one writer at a time
            await slow.flush()
        [late] = await write(engine, hub, "late")
        assert await relay_of(hub).relay_batch() == 1
        await slow.commit()

    assert await relay_of(hub).relay_batch() == 1
    assert await waiting(hub) == [late, early.id]


async def test_a_receipt_goes_soon_after_its_row(hub: Hub, engine: AsyncEngine) -> None:
    """Redis keeps nothing for a month that nobody will ask for."""
    await write(engine, hub, "a")
    await relay_of(hub).relay_batch()

    store = hub.queue().store
    connection = store.connections.get()
    [receipt] = cast("list[bytes]", await connection.execute("KEYS", store.base + b"o:*"))
    assert 0 < cast("int", await connection.execute("PTTL", receipt)) <= FORGET_MS


# -- whatever fails -----------------------------------------------------------------------


async def test_rows_wait_while_redis_is_away(namespace: str, engine: AsyncEngine) -> None:
    """They are not even claimed; the log says it once, and says when it is over."""
    port = free_port()
    config = Config(namespace=namespace, command_deadline_s=0.05)
    hub = make_hub(f"redis://127.0.0.1:{port}/0", namespace, engine, config=config)
    ids = await write(engine, hub, "a")
    relay = relay_of(hub)

    with listening("outbox") as log:
        for _ in range(3):
            await relay.catch_up()
        [row] = await rows(engine)
        with running_redis(port=port):
            await relay.catch_up()
            assert await waiting(hub) == ids
            await hub.aclose()

    assert (row["claim"], row["claimed_until_ms"], row["tried_ms"]) == (None, 0, None)
    assert [name for name, _, _ in log.lines] == ["outbox.stalled", "outbox.resumed"]
    assert "StoreUnavailable" in log.of("outbox.stalled")[0]["error"]
    assert await rows(engine) == []


async def test_a_redis_that_goes_away_after_the_claim_gives_its_rows_back(
    hub: Hub, engine: AsyncEngine, redis: redis_async.Redis
) -> None:
    """Full, for example: as soon as there is room, they go; nobody waits for the claim to pass."""
    ids = await write(engine, hub, "a")
    await redis.config_set("maxmemory", "1")
    try:
        with pytest.raises(StoreError):
            await relay_of(hub).relay_batch()
    finally:
        await redis.config_set("maxmemory", "0")

    [row] = await rows(engine)
    assert (row["claim"], row["claimed_until_ms"]) == (None, 0)
    assert await relay_of(hub).relay_batch() == 1
    assert await waiting(hub) == ids


async def test_a_table_that_is_missing_is_said_in_words(hub: Hub, engine: AsyncEngine) -> None:
    """The migration was forgotten: the relay goes on asking, and the error names the table."""
    await shop.change(engine, "DROP TABLE arq_web_outbox")
    relay = relay_of(hub)

    with listening("outbox") as log:
        await relay.catch_up()

    [fields] = log.of("outbox.stalled")
    assert "arq_web_outbox" in fields["error"]
    assert "SELECT" not in fields["error"]


async def test_a_relay_whose_database_is_away_waits_longer_each_time(hub: Hub, engine: AsyncEngine) -> None:
    await shop.change(engine, "DROP TABLE arq_web_outbox")
    relay, waits = relay_of(hub), []
    for _ in range(8):
        await relay.catch_up()
        waits.append(relay._wait_s())

    assert 0.4 <= waits[0] <= 0.6
    assert waits[0] < waits[2] < waits[4]
    assert 24 <= waits[-1] <= 36


async def test_a_row_that_cannot_be_relayed_does_not_block_the_others(hub: Hub, engine: AsyncEngine) -> None:
    """Its id belongs to another task's job. It is shown in the log and in its row, and goes when that job is gone."""
    taken = await hub.queue().enqueue(shop.other.options(id="taken"))
    async with AsyncSession(engine) as session:
        tie = hub.queue().outbox(session)
        first = tie.enqueue(send_receipt, "a")
        tie.enqueue(send_receipt.options(id="taken"), "b")
        last = tie.enqueue(send_receipt, "c")
        await session.commit()

    with listening("outbox") as log:
        await relay_everything(relay_of(hub))
    [row] = await rows(engine)
    fields = log.of("outbox.refused")[0]

    assert await waiting(hub) == ["taken", first.id, last.id]
    assert (fields["job"], fields["task"], fields["row"], fields["refusals"]) == (
        "taken",
        send_receipt.name,
        row["id"],
        1,
    )
    assert row["error"] == fields["error"] == "its id belongs to a job of 'shop.other'"
    assert (row["refusals"], row["claim"], row["tried_ms"]) == (1, None, None)

    await taken.cancel()
    await let_time_pass(hub.queue().store, 8 * 24 * HOUR_MS)
    assert await relay_of(hub).relay_batch() == 0  # its next time has not come
    await let_claims_pass(engine)
    assert await relay_of(hub).relay_batch() == 1
    assert await rows(engine) == []


async def test_a_row_that_somebody_has_changed_does_not_block_the_others(hub: Hub, engine: AsyncEngine) -> None:
    ids = await write(engine, hub, "a", "b")
    await shop.change(engine, "UPDATE arq_web_outbox SET options = '{' WHERE job_id = :id", id=ids[0])

    await relay_everything(relay_of(hub))

    [row] = await rows(engine)
    assert await waiting(hub) == [ids[1]]
    assert "cannot be read" in row["error"]


async def test_a_queue_that_is_broken_does_not_block_the_others(
    hub: Hub, engine: AsyncEngine, redis: redis_async.Redis
) -> None:
    """Somebody has written into its keys; the other queues are fine."""
    async with AsyncSession(engine) as session:
        hub.queue().outbox(session).enqueue(send_receipt.options(queue="emails"), "a")
        good = hub.queue().outbox(session).enqueue(send_receipt, "b")
        await session.commit()
    key = hub.queue("emails").store.base + b"ready"
    await redis.set(key, "not ours")

    with listening("outbox") as log:
        await relay_everything(relay_of(hub))
    await redis.delete(key)

    assert await waiting(hub) == [good.id]
    assert [fields["queue"] for fields in log.of("outbox.refused")] == ["emails"]
    await let_claims_pass(engine)
    await relay_everything(relay_of(hub))
    assert await rows(engine) == []


async def test_a_row_that_was_tried_a_month_ago_is_shown_and_not_guessed_at(hub: Hub, engine: AsyncEngine) -> None:
    """No relay has run since one died with it, and the receipt is gone: enqueued, or not, nobody can know."""
    [job_id] = await write(engine, hub, "a")
    await die_at(engine, "DELETE", relay_of(hub))
    await finish(hub)
    await let_time_pass(hub.queue().store, UNKNOWN_AFTER_MS + 25 * HOUR_MS)
    await let_claims_pass(engine)
    await shop.change(engine, f"UPDATE arq_web_outbox SET tried_ms = tried_ms - {UNKNOWN_AFTER_MS}")  # noqa: S608

    with listening("outbox") as log:
        await relay_everything(relay_of(hub))

    [row] = await rows(engine)
    assert await waiting(hub) == []
    assert "29 days ago" in row["error"]
    assert "Delete the row if its job has run" in log.of("outbox.refused")[0]["error"]
    await shop.change(engine, "UPDATE arq_web_outbox SET tried_ms = NULL, claimed_until_ms = 0")
    await relay_everything(relay_of(hub))
    assert (await rows(engine), await waiting(hub)) == ([], [job_id])


async def test_refusals_are_tried_again_an_hour_apart_at_last(hub: Hub, engine: AsyncEngine) -> None:
    """A row that nobody looks after must not fill the log."""
    await write(engine, hub, "a")
    await shop.change(engine, "UPDATE arq_web_outbox SET options = '{', refusals = 40")

    await relay_everything(relay_of(hub))

    async with engine.connect() as connection:
        sql = "SELECT claimed_until_ms - created_ms FROM arq_web_outbox"
        assert (await connection.execute(text(sql))).scalar_one() == pytest.approx(HOUR_MS, abs=60_000)


async def test_a_relay_that_is_stopped_ends_what_it_has_begun(
    hub: Hub, engine: AsyncEngine, redis: redis_async.Redis
) -> None:
    """Else each deployment would leave rows that wait until a claim has passed."""
    ids = await write(engine, hub, "a")
    relay = relay_of(hub)
    await hub.queue().store.server_now_ms()
    await redis.client_pause(300)
    async with relaying(relay):
        await wait_until(lambda: relay._loop is not None, description="the relay is in its batch")

    assert (await rows(engine), await waiting(hub)) == ([], ids)


async def test_a_writer_that_holds_sqlite_is_waited_for(tmp_path: Path, redis_url: str, namespace: str) -> None:
    """One writer at a time: a long transaction of the app delays the relay, and breaks neither."""
    engine = create_async_engine(
        f"sqlite+aiosqlite:///{tmp_path / 'busy.sqlite'}", poolclass=NullPool, connect_args={"timeout": 0.05}
    )
    await shop.create_tables(engine)
    hub = make_hub(redis_url, namespace, engine)
    relay = relay_of(hub)
    ids = await write(engine, hub, "a")
    async with AsyncSession(engine) as session:
        session.add(shop.Order(name="long"))
        await session.flush()
        with pytest.raises(OperationalError, match="locked"):
            await relay.relay_batch()
        await session.commit()

    assert await relay.relay_batch() == 1
    assert (await waiting(hub), await shop.orders(engine)) == (ids, ["a", "long"])
    await receipt_job(hub, ids[0]).cancel()
    await hub.aclose()
    await engine.dispose()


# -- helpers ------------------------------------------------------------------------------


class Died(BaseException):
    """Stands for the end of a process: nothing after it is done."""


async def relay_everything(relay: Relay) -> int:
    """As the relay's loop does; how many rows it took."""
    total = 0
    while count := await relay.relay_batch():
        total += count
    return total


@contextmanager
def at_statement(engine: AsyncEngine, word: str, do: Callable[[], None]) -> Iterator[None]:
    """Do something just before a statement that begins with ``word`` is sent."""

    def look(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith(word):
            do()

    event.listen(engine.sync_engine, "before_cursor_execute", look)
    try:
        yield
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", look)


async def die_at(engine: AsyncEngine, word: str, relay: Relay) -> None:
    """Relay until that statement is about to be sent, and no further."""

    def die() -> None:
        raise Died

    with at_statement(engine, word, die), pytest.raises(Died):
        await relay.relay_batch()


async def let_claims_pass(engine: AsyncEngine) -> None:
    sql = f"UPDATE arq_web_outbox SET claimed_until_ms = claimed_until_ms - {CLAIM_MS + 1} WHERE claimed_until_ms > 0"  # noqa: S608
    await shop.change(engine, sql)


async def is_past(hub: Hub, ms: int) -> bool:
    return await hub.queue().store.server_now_ms() > ms


async def scripts_run(hub: Hub) -> int:
    """How often Redis was sent a script."""
    reply = await hub.queue().store.connections.get().execute("INFO", "commandstats")
    assert isinstance(reply, bytes)
    return sum(int(count) for count in re.findall(rb"cmdstat_eval(?:sha)?:calls=(\d+)", reply))


async def has_run_more(hub: Hub, before: int) -> bool:
    return await scripts_run(hub) > before
