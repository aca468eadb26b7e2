"""A job's headers: they stand in its record, through every transition, and no script looks at them."""

from __future__ import annotations

from typing import Any

import pytest

from arq_web.store.record import ClaimedJob, with_headers
from arq_web.store.store import SettleOutcome, Store
from tests.support.store_helpers import (
    LARGE,
    SETTLE_OUTCOMES,
    claim_one,
    command,
    enqueue_and_claim,
    enqueue_one,
    expire_lease,
    info_of,
    make_due,
    put_record,
    reclaim,
    settle,
    spent_by,
)

HEADERS = {"tenant": "acme", "odd": 'u42 {"h"}\n'}
EXTRA = with_headers(b'{"timeout_ms":5}', HEADERS)


async def both(store: Store, job_id: str) -> tuple[object, object]:
    info = await info_of(store, job_id)
    return info.headers, info.extra


@pytest.mark.parametrize("options", [{}, {"unique": "42"}, {"owner": "ada {"}, {"payload": LARGE}], ids=str)
async def test_a_claim_brings_them_beside_the_options(store: Store, options: dict[str, Any]) -> None:
    job = await enqueue_and_claim(store, extra=EXTRA, **options)

    assert (job.headers, job.extra["timeout_ms"]) == (HEADERS, 5)
    assert await both(store, job.id) == (HEADERS, {"timeout_ms": 5})
    await settle(store, job, "complete")


@pytest.mark.parametrize("outcome", SETTLE_OUTCOMES)
async def test_they_outlive_every_end_of_an_attempt(store: Store, outcome: SettleOutcome) -> None:
    job = await enqueue_and_claim(store, extra=EXTRA)

    await settle(store, job, outcome, note=b'{"type":"E","message":"m"}' if outcome != "complete" else b'{"r":1}')

    assert await both(store, job.id) == (HEADERS, {"timeout_ms": 5})
    if outcome in ("retry", "snooze", "park"):
        await make_due(store, job.id)
        assert (await claim_one(store)).headers == HEADERS
    await store.cancel(job.id)
    await expire_lease(store, job.id)
    await reclaim(store)


async def test_a_reclaimed_job_has_them_until_its_crashes_end_it(store: Store) -> None:
    """And beyond: who looks at the dead wants to know whose they are."""
    job_id = await enqueue_one(store, extra=EXTRA)
    for crashes in (1, 2, 3):
        job: ClaimedJob = await claim_one(store)
        assert job.headers == HEADERS
        await store.blame(job_id, job.attempt, job.token)  # the last of them is not spared
        await expire_lease(store, job_id)
        await reclaim(store)
        assert (await spent_by(store, job_id))[2] == crashes

    assert (await info_of(store, job_id)).state == "dead"
    assert (await info_of(store, job_id)).headers == HEADERS
    await store.redrive(job_id, "nonce")
    assert (await claim_one(store)).headers == HEADERS
    await store.cancel(job_id)
    await expire_lease(store, job_id)
    await reclaim(store)


@pytest.mark.parametrize(
    ("extra", "headers"),
    [(b'{"h":["a"]}', {}), (b'{"h":{"a":1,"b":"c"}}', {"b": "c"}), (b'{"h":null}', {}), (b'{"max_tries":1}', {})],
)
async def test_headers_of_another_program_may_be_anything(store: Store, extra: bytes, headers: dict[str, str]) -> None:
    """What is no text is not shown; the job runs all the same."""
    await put_record(store, "a", b"q\n1763640000000 t " + extra + b"\n{}")

    assert (await info_of(store, "a")).headers == headers
    assert (await claim_one(store)).headers == headers
    await command(store, "DEL", store.base + b"j:a", store.base + b"leases")


@pytest.mark.parametrize(
    ("verb", "waited_from"),
    [("snooze", "its due time"), ("retry", "its due time"), ("release", "when it was put back")],
)
async def test_a_claim_says_since_when_the_job_has_waited(store: Store, verb: SettleOutcome, waited_from: str) -> None:
    """From ``waited_from`` on, and not from its enqueue: what came before was no wait for a worker."""
    job = await enqueue_and_claim(store)
    assert job.due_at_ms == 0
    before_ms = await store.server_now_ms()
    await settle(store, job, verb, 0)
    due_ms = (await info_of(store, job.id)).due_at_ms
    if verb != "release":
        await make_due(store, job.id)

    again = await claim_one(store)

    assert before_ms <= again.due_at_ms <= again.claimed_at_ms
    assert due_ms in (None, again.due_at_ms)
    assert (await info_of(store, job.id)).due_at_ms is None  # while it runs it is due no more
    await settle(store, again, "complete")
