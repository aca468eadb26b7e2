"""Writing to the outbox: with the user's rows, or not at all; and what is written is what will be enqueued."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import fields
from sqlalchemy import MetaData, Table, create_engine, select, text
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.exc import CompileError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from arq_web import Config, Hub
from arq_web.errors import InvalidConfig, NothingToTieTo
from arq_web.outbox import Outbox, outbox_table
from arq_web.outbox.rows import StoredRow, job_of, values_of
from arq_web.outbox.table import now_ms
from arq_web.store.messages import NewJob, Replace
from arq_web.sync_queue import SyncQueue
from tests.outbox import shop
from tests.outbox.shop import Base, Order, outbox_rows, relay_of, rows, send_receipt, waiting, write


async def test_the_row_is_there_when_the_commit_was_and_not_before(engine: AsyncEngine, hub: Hub) -> None:
    """Nothing goes to Redis; the id is known at once."""
    async with AsyncSession(engine) as session:
        session.add(Order(name="a"))
        pending = hub.queue().outbox(session).enqueue(send_receipt, "a")
        before = (pending.fate, await rows(engine))
        await session.commit()

    [row] = await rows(engine)
    assert before == ("waiting", [])
    assert (pending.fate, row["job_id"], row["task"], row["queue"]) == (
        "stored",
        pending.id,
        "shop.send_receipt",
        "default",
    )
    assert await waiting(hub) == []


async def test_a_rollback_takes_both(engine: AsyncEngine, hub: Hub) -> None:
    await write(engine, hub, "a", commit=False)

    assert (await rows(engine), await shop.orders(engine)) == ([], [])


async def test_a_commit_that_fails_takes_both(engine: AsyncEngine, hub: Hub) -> None:
    await write(engine, hub, "a")

    with pytest.raises(IntegrityError):
        await write(engine, hub, "b", "a")

    assert (len(await rows(engine)), await shop.orders(engine)) == (1, ["a"])


async def test_a_savepoint_that_is_rolled_back_takes_its_own(engine: AsyncEngine, hub: Hub) -> None:
    async with AsyncSession(engine) as session:
        tie = hub.queue().outbox(session)
        kept = [tie.enqueue(send_receipt, "a")]
        savepoint = await session.begin_nested()
        dropped = tie.enqueue(send_receipt, "b")
        await session.flush()
        await savepoint.rollback()
        async with session.begin_nested():
            kept.append(tie.enqueue(send_receipt, "c"))
        await session.commit()

    assert [row["job_id"] for row in await rows(engine)] == [each.id for each in kept]
    assert (dropped.fate, {each.fate for each in kept}) == ("dropped", {"stored"})


async def test_many_are_written_in_their_order(engine: AsyncEngine, hub: Hub) -> None:
    ids = await write(engine, hub, *(f"order {number}" for number in range(250)))

    assert [row["job_id"] for row in await rows(engine)] == ids
    while await relay_of(hub).relay_batch():
        pass
    assert await waiting(hub) == ids


async def test_the_payload_is_what_the_codec_made_of_it(engine: AsyncEngine, hub: Hub) -> None:
    """Bytes, not text: whatever the database's character set, and whatever it thinks of a NUL."""
    name = 'Zoë \N{PERSONAL COMPUTER} \0 "quoted" \\'
    await write(engine, hub, "plain")
    async with AsyncSession(engine) as session:
        hub.queue().outbox(session).enqueue(send_receipt.options(owner="Zoë"), name)
        await session.commit()

    written = [bytes(row["payload"]) for row in await rows(engine)]

    assert written == [send_receipt.codec.encode_call((text,), {}) for text in ("plain", name)]
    assert all(row["options"].isascii() for row in await rows(engine))


async def test_the_options_of_a_call_arrive(engine: AsyncEngine, hub: Hub) -> None:
    """All of them, through the database and Redis."""
    at = datetime.now(UTC) + timedelta(hours=1)
    until = at + timedelta(hours=1)
    asked = send_receipt.options(
        id="receipt:1",
        at=at,
        expires=until,
        priority=4,
        unique="key",
        timeout=7,
        max_tries=9,
        keep_result=90,
        owner="ann",
    )
    async with AsyncSession(engine) as session:
        tie = hub.queue().outbox(session)
        tie.enqueue(asked, "a")
        mail = tie.enqueue(send_receipt.options(queue="emails"), "b")
        await session.commit()

    await relay_of(hub).relay_batch()

    info = await hub.queue().job("receipt:1").info()
    assert (info.due_at_ms, info.expires_at_ms) == (ms(at), ms(until))
    assert (info.priority, info.unique, info.owner, info.keep_result_ms) == (4, "key", "ann", 90_000)
    assert info.extra == {"timeout_ms": 7000, "max_tries": 9}
    assert await waiting(hub, "emails") == [mail.id]
    await hub.queue().job("receipt:1").cancel()


NEW_JOBS = st.builds(
    NewJob,
    id=st.from_regex(r"[A-Za-z0-9._:@-]{1,128}", fullmatch=True),
    task=st.from_regex(r"[!-~]{1,200}", fullmatch=True),
    payload=st.binary(),
    nonce=st.sampled_from(["-", "mWkrWjpXwEk"]),
    priority=st.integers(-10, 10),
    due=st.sampled_from(["0", "a1700000000000"]),
    expires=st.sampled_from(["0", "a1700000000000"]),
    max_crashes=st.integers(1, 1000),
    keep_s=st.integers(0, 10**8),
    unique=st.sampled_from(["-", "key"]),
    replace=st.sampled_from(Replace),
    owner=st.none() | st.text(min_size=1),
    extra=st.sampled_from([b"", b'{"timeout_ms":1}']),
)


@given(NEW_JOBS)
def test_a_job_is_the_same_after_it_was_a_row(new: NewJob) -> None:
    """Whatever a later version adds to it: a field that no column keeps would be lost without a word."""
    assert job_of(stored(values_of("default", new))).job == new


def test_no_field_of_a_job_is_left_out() -> None:
    """The strategy above knows all of them."""
    defaults = NewJob("a", "b", b"")
    other = NewJob("c", "d", b"e", "f", 1, "a2", "a3", 4, 5, "g", Replace.FINISHED, "h", b"{}")

    assert [each.name for each in fields(NewJob) if getattr(defaults, each.name) == getattr(other, each.name)] == []
    assert job_of(stored(values_of("default", other))).job == other


@pytest.mark.parametrize(
    ("due", "expires", "age_ms", "due_then", "expires_then"),
    [
        ("d600000", "0", 1_000, "d599000", "0"),
        ("d600000", "d700000", 650_000, "d0", "d50000"),
        ("0", "d1000", 5_000, "0", "d1"),
        ("a1700000000000", "a1700000000001", 5_000, "a1700000000000", "a1700000000001"),
    ],
)
def test_a_delay_counts_from_the_row_on(due: str, expires: str, age_ms: int, due_then: str, expires_then: str) -> None:
    """Not from the relay on: an outage of an hour would make "in ten minutes" an hour and ten."""
    new = NewJob("a", "b", b"", due=due, expires=expires)

    job = job_of(replace(stored(values_of("default", new)), age_ms=age_ms)).job

    assert (job.due, job.expires) == (due_then, expires_then)


async def test_the_age_of_a_row_is_counted_by_the_clock_of_its_database(engine: AsyncEngine, hub: Hub) -> None:
    """Web and worker hosts may disagree, and so may the time zones of sessions."""
    async with AsyncSession(engine) as session:
        hub.queue().outbox(session).enqueue(send_receipt.options(id="later", delay=600, expires=900), "a")
        await session.commit()
    await shop.change(engine, "UPDATE arq_web_outbox SET created_ms = created_ms - 60000")

    await relay_of(hub).relay_batch()

    info = await hub.queue().job("later").info()
    assert info.due_at_ms is not None
    assert info.expires_at_ms is not None
    assert 539_000 <= info.due_at_ms - info.enqueued_at_ms <= 540_000
    assert 839_000 <= info.expires_at_ms - info.enqueued_at_ms <= 840_000
    await hub.queue().job("later").cancel()


async def test_the_clock_of_the_database_is_in_ms_since_the_epoch(engine: AsyncEngine) -> None:
    """Whatever zone the session is in."""
    zone = {"postgresql": "SET TIME ZONE 'America/New_York'", "mysql": "SET time_zone = '-05:00'"}
    before = ms(datetime.now(UTC))
    async with engine.connect() as connection:
        await connection.execute(text(zone.get(engine.dialect.name, "SELECT 1")))
        now = (await connection.execute(select(now_ms()))).scalar_one()

    assert before - 1_000 <= now <= ms(datetime.now(UTC)) + 1_000


async def test_a_sync_session_writes_by_the_queue_of_threads(tmp_path: Path, redis_url: str, namespace: str) -> None:
    """A ``def`` route, with an engine that is not async: the relay takes that, too."""
    sync_engine = create_engine(f"sqlite:///{tmp_path / 'sync.sqlite'}")
    Base.metadata.create_all(sync_engine)
    hub = shop.make_hub(redis_url, namespace, sync_engine)
    sync_queue = SyncQueue(hub.queue(), asyncio.get_running_loop())

    def route() -> list[str]:
        with Session(sync_engine) as session:
            session.add(Order(name="a"))
            pending = sync_queue.outbox(session).enqueue(send_receipt, "a")
            session.commit()
            return [pending.id, pending.fate]

    job_id, fate = await asyncio.to_thread(route)
    await relay_of(hub).relay_batch()

    assert (fate, await waiting(hub)) == ("stored", [job_id])
    await hub.queue().job(job_id).cancel()
    await hub.aclose()
    sync_engine.dispose()


async def test_an_app_without_an_outbox_says_how_to_get_one(
    redis_url: str, namespace: str, engine: AsyncEngine
) -> None:
    hub = Hub(url=redis_url, config=Config(namespace=namespace))
    async with AsyncSession(engine) as session:
        with pytest.raises(NothingToTieTo, match=r"ArqWeb\(\.\.\., outbox=Outbox\("):
            hub.queue().outbox(session)


async def test_what_is_no_session_is_refused(hub: Hub) -> None:
    nothing: Any = object()
    with pytest.raises(NothingToTieTo, match="object is no session"):
        hub.queue().outbox(nothing)


def test_a_table_that_is_not_ours_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="outbox_table"):
        Outbox(create_engine("sqlite://"), Table("orders", MetaData()))


@pytest.mark.parametrize("poll", [0, 3601])
def test_a_poll_outside_its_range_is_refused(poll: float) -> None:
    with pytest.raises(InvalidConfig, match="between"):
        Outbox(create_engine("sqlite://"), outbox_rows, poll=poll)


def test_a_database_that_it_does_not_know_is_refused_by_name() -> None:
    from sqlalchemy.dialects import oracle  # noqa: PLC0415

    with pytest.raises(CompileError, match="not oracle"):
        select(now_ms()).compile(dialect=oracle.dialect())  # type: ignore[no-untyped-call]


def test_a_table_of_another_name_and_schema() -> None:
    table = outbox_table(MetaData(), "jobs_to_send", schema="app")

    assert (table.fullname, table.primary_key.columns.keys()) == ("app.jobs_to_send", ["id"])


@pytest.mark.parametrize("dialect", [sqlite, postgresql, mysql])
def test_the_relays_statements_are_of_each_database(dialect: Any) -> None:
    """MySQL is not among the servers that the tests run on; what it would be sent can be read."""
    asked = select(outbox_rows.c.id).where(outbox_rows.c.claimed_until_ms <= now_ms())
    sql = str(asked.with_for_update(skip_locked=True).compile(dialect=dialect.dialect()))

    assert bool(re.search(r"FOR UPDATE SKIP LOCKED", sql)) == (dialect is not sqlite)
    assert {"sqlite": "julianday", "postgresql": "clock_timestamp", "mysql": "UTC_TIMESTAMP"}[
        dialect.dialect.name
    ] in sql


def stored(values: dict[str, Any]) -> StoredRow:
    return StoredRow(id=1, age_ms=0, tried_ms=0, refusals=0, **values)


def ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
