"""relay: a row of an outbox becomes a job once, whoever relays it, however often, however late."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from arq_web.job import JobState
from arq_web.store.connection import Connections
from arq_web.store.messages import Replace
from arq_web.store.relaying import RECEIPT_MS, RelayAnswer, RelayedRow, RelayOutcome, RelayStore
from tests.support.store_helpers import (
    HOUR_MS,
    LARGE,
    claim,
    command,
    counted,
    end_as,
    enqueue_one,
    info_of,
    keys,
    members,
    new_job,
    snapshot,
    state_of,
    ttl_ms,
)
from tests.support.time_travel import let_time_pass

VALID_MS = 20_000


@pytest.fixture
def store(connections: Connections, namespace: str) -> RelayStore:
    return RelayStore(connections, namespace, "default")


def row(name: str, receipt: str = "", **options: Any) -> RelayedRow:
    """A row as an outbox has it: the same each time it is read."""
    return RelayedRow(receipt or f"receipt-{name}", new_job(name, **{"nonce": "-", **options}))


async def relay(store: RelayStore, *rows: RelayedRow) -> list[RelayAnswer]:
    return await store.relay(rows, valid_until_ms=await store.server_now_ms() + VALID_MS)


CREATED, EXISTS = RelayOutcome.CREATED, RelayOutcome.EXISTS


async def test_rows_become_jobs_in_their_order_each_with_a_receipt_that_has_an_end(store: RelayStore) -> None:
    """A receipt without an end would stay for ever when its row is deleted by hand."""
    answers = await relay(store, row("b"), row("a", payload=LARGE), row("c", due="d60000"))

    assert answers == [RelayAnswer(CREATED, name) for name in "bac"]
    assert await members(store, "ready") == ["b", "a"]
    assert await state_of(store, "c") is JobState.SCHEDULED
    assert await command(store, "GET", store.base + b"o:receipt-a") == b"1 a"
    assert RECEIPT_MS - 5_000 < await ttl_ms(store, "o:receipt-a") <= RECEIPT_MS
    assert await ttl_ms(store, "j:a") == -1
    assert (await counted(store))["enqueued"] == 3


async def test_a_row_that_was_relayed_gets_the_same_answer_and_nothing_is_written(store: RelayStore) -> None:
    await relay(store, row("a"))
    before = await snapshot(store)

    assert await relay(store, row("a")) == [RelayAnswer(CREATED, "a")]
    assert await snapshot(store) == before


@pytest.mark.parametrize("keep_s", [0, 3600])
async def test_a_relay_that_comes_back_a_week_later_runs_nothing_twice(store: RelayStore, keep_s: int) -> None:
    """It died between the enqueue and the end of the row; the job has run since, and its record is gone."""
    await relay(store, row("a", keep_s=keep_s))
    await end_as(store, "a", JobState.SUCCEEDED)
    await let_time_pass(store, 7 * 24 * HOUR_MS)
    assert await keys(store, "j:*") == []

    assert await relay(store, row("a", keep_s=keep_s)) == [RelayAnswer(CREATED, "a")]
    assert (await claim(store)).jobs == []


async def test_a_row_whose_id_is_taken_meets_that_job_and_is_done(store: RelayStore) -> None:
    """As any enqueue does. And it stays so: what was answered once is not asked again."""
    await enqueue_one(store, "order-1")
    first = await relay(store, row("order-1", nonce="x"))
    await end_as(store, "order-1", JobState.SUCCEEDED)
    await let_time_pass(store, 2 * HOUR_MS)

    again = await relay(store, row("order-1", nonce="x"))

    assert first == again == [RelayAnswer(EXISTS, "order-1")]
    assert await keys(store, "j:*") == []


async def test_two_rows_of_one_id_are_two_requests(store: RelayStore) -> None:
    """A receipt is the row's, not the job's: a chosen id comes again next week."""
    await relay(store, row("order-1", "monday", nonce="x"))
    await end_as(store, "order-1", JobState.SUCCEEDED)

    answers = await relay(store, row("order-1", "tuesday", nonce="y", replace=Replace.FINISHED))

    assert answers == [RelayAnswer(CREATED, "order-1")]
    assert await members(store, "ready") == ["order-1"]


async def test_a_unique_key_is_answered_by_its_holder(store: RelayStore) -> None:
    answers = await relay(store, row("a", unique="key"), row("b", unique="key"))
    again = await relay(store, row("b", unique="key"))

    assert answers == [RelayAnswer(CREATED, "a"), RelayAnswer(EXISTS, "a")]
    assert again == [RelayAnswer(EXISTS, "a")]


async def test_a_conflict_is_its_own_and_leaves_no_receipt(store: RelayStore) -> None:
    """The rows around it go; it can be tried again when the other job is gone."""
    await enqueue_one(store, "taken", task="other")

    answers = await relay(store, row("a"), row("taken"), row("b"))

    assert answers[1] == RelayAnswer(RelayOutcome.CONFLICT, "other")
    assert [answer.outcome for answer in answers] == [CREATED, RelayOutcome.CONFLICT, CREATED]
    assert await keys(store, "o:receipt-taken") == []


@pytest.mark.leaves_keys("garbage under the name of a job")
async def test_a_record_that_is_not_ours_is_its_own_trouble(store: RelayStore) -> None:
    await command(store, "SET", store.base + b"j:broken", b"nonsense", "PX", HOUR_MS)

    answers = await relay(store, row("a"), row("broken"))

    assert [answer.outcome for answer in answers] == [CREATED, RelayOutcome.CORRUPT]


async def test_a_request_that_comes_too_late_writes_nothing(store: RelayStore) -> None:
    """Its relay stood still, and another one may have the rows: the one whose claim has passed must not win."""
    before = await snapshot(store)

    answers = await store.relay([row("a"), row("b")], valid_until_ms=await store.server_now_ms() - 1)

    assert [answer.outcome for answer in answers] == [RelayOutcome.LATE] * 2
    assert await snapshot(store) == before


async def test_many_relays_at_once_make_one_job(store: RelayStore) -> None:
    """Where a database cannot lock rows, several read the same."""
    answers = await asyncio.gather(*(relay(store, row("a"), row("b")) for _ in range(20)))

    assert answers == [[RelayAnswer(CREATED, "a"), RelayAnswer(CREATED, "b")]] * 20
    assert await members(store, "ready") == ["a", "b"]
    assert (await counted(store))["enqueued"] == 2


async def test_what_was_asked_of_the_job_is_in_its_record(store: RelayStore) -> None:
    due_ms = await store.server_now_ms() + HOUR_MS
    await relay(store, row("a", priority=3, due=f"a{due_ms}", expires=f"a{due_ms + 1}", max_crashes=1, owner="ann"))

    info = await info_of(store, "a")
    assert (info.priority, info.due_at_ms, info.expires_at_ms) == (3, due_ms, due_ms + 1)
    assert (info.max_crashes, info.owner) == (1, "ann")


async def test_more_than_one_request_holds_goes_in_several(store: RelayStore) -> None:
    rows = [row(f"{number:04}", payload=b"x" * 3_000_000) for number in range(3)]

    answers = await relay(store, *rows)

    assert [answer.word for answer in answers] == ["0000", "0001", "0002"]
