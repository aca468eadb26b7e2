"""forget: the row is deleted, so its receipt may go; but not at once."""

from __future__ import annotations

import pytest

from arq_web.store.connection import Connections
from arq_web.store.relaying import FORGET_MS, RelayedRow, RelayOutcome, RelayStore
from tests.support.store_helpers import keys, new_job, snapshot, ttl_ms


@pytest.fixture
def store(connections: Connections, namespace: str) -> RelayStore:
    return RelayStore(connections, namespace, "default")


async def test_a_receipt_outlives_its_row_by_a_claim(store: RelayStore) -> None:
    """Whoever had read the row before it was deleted finds the receipt, or comes too late by its own claim."""
    rows = [RelayedRow(name, new_job(name, nonce="-")) for name in ("a", "b", "c")]
    until_ms = await store.server_now_ms() + 20_000
    await store.relay(rows, valid_until_ms=until_ms)

    await store.forget(["a", "b"])

    assert FORGET_MS - 5_000 < await ttl_ms(store, "o:a") <= FORGET_MS
    assert await ttl_ms(store, "o:b") <= FORGET_MS < await ttl_ms(store, "o:c")
    [again] = await store.relay(rows[:1], valid_until_ms=until_ms)
    assert (again.outcome, again.word) == (RelayOutcome.CREATED, "a")
    assert await keys(store, "o:*")


async def test_receipts_that_are_not_there_are_nothing(store: RelayStore) -> None:
    """Sent twice, or a month later."""
    before = await snapshot(store)

    await store.forget(["a"])
    await store.forget([])

    assert await snapshot(store) == before
