"""Progress: a running attempt says how far it is; nobody else does."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from msgspec import structs

from arq_web.job import ProgressInfo
from arq_web.store.record import ClaimedJob, Note, ProgressNote, encode_note
from arq_web.store.store import SettleOutcome, Store
from tests.support.store_helpers import (
    OTHER_WORKER,
    claim_one,
    enqueue_and_claim,
    expire_lease,
    info_of,
    keys,
    reclaim,
    record_of,
    settle,
    snapshot,
    ttl_ms,
)

HALF = encode_note(Note(progress=ProgressNote(0.5, "half")))


async def test_progress_is_shown_and_keeps_everything_else(store: Store) -> None:
    job = await enqueue_and_claim(store, "a", payload=b"the payload")
    before = await info_of(store, "a")

    assert await _report(store, job)

    info = await info_of(store, "a")
    assert info.progress == ProgressInfo(0.5, "half")
    assert replace(info, progress=None) == before
    assert await ttl_ms(store, "j:a") == -1


async def test_the_same_progress_again_changes_nothing(store: Store) -> None:
    job = await enqueue_and_claim(store, "a")
    await _report(store, job)
    before = await snapshot(store)

    assert await _report(store, job)
    assert await snapshot(store) == before


async def test_a_superseded_attempt_reports_nothing(store: Store) -> None:
    """Its bar would jump between two attempts."""
    stale = await enqueue_and_claim(store, "a")
    await expire_lease(store, "a")
    await reclaim(store)
    assert not await _report(store, stale)
    fresh = await claim_one(store, worker=OTHER_WORKER)
    before = await record_of(store, "a")

    assert not await _report(store, stale)
    assert not await _report(store, structs.replace(stale, attempt=fresh.attempt))
    assert not await _report(store, structs.replace(fresh, attempt=stale.attempt))
    assert await record_of(store, "a") == before


@pytest.mark.parametrize("outcome", ["complete", "retry", "release"])
async def test_an_attempt_that_was_settled_reports_nothing(store: Store, outcome: SettleOutcome) -> None:
    job = await enqueue_and_claim(store, "a")
    await settle(store, job, outcome, note=b"[1]")
    before = await snapshot(store)

    assert not await _report(store, job)
    assert await snapshot(store) == before


async def test_a_job_that_is_gone_has_no_progress(store: Store) -> None:
    assert not await store.progress("gone", 1, "token", HALF)
    assert await keys(store) == []


async def test_a_report_beside_a_settle_never_undoes_it(store: Store) -> None:
    job = await enqueue_and_claim(store, "a")

    await asyncio.gather(settle(store, job, "complete", note=b"[1]"), _report(store, job))

    info = await info_of(store, "a")
    assert (info.result, info.progress) == (b"[1]", None)


async def _report(store: Store, job: ClaimedJob) -> bool:
    return await store.progress(job.id, job.attempt, job.token, HALF)
