"""What ended, or was thrown out, leaves nothing behind that has no end."""

from __future__ import annotations

import pytest

from arq_web.store.store import Store
from tests.support.store_helpers import (
    LARGE,
    claim,
    command,
    enqueue_and_claim,
    enqueue_one,
    keys,
    members,
    put_record,
    reclaim,
    record_of,
    settle,
)


@pytest.mark.parametrize("index", ["ready", "due", "leases"])
async def test_the_unique_key_of_an_unreadable_record_goes_with_it(store: Store, index: str) -> None:
    """Its job is with the rejects: nobody else would ever free it."""
    await enqueue_one(store, "a", unique="key:1", priority=3, extra=b'{"max_tries":2}', payload=LARGE)
    raw = await record_of(store, "a")
    await command(store, "ZREM", store.base + b"ready", "a")
    await put_record(store, "a", raw.replace(b"q\n", b"z 1 2\n", 1), index=index, score=1)

    await claim(store)
    if index == "leases":
        await reclaim(store)

    assert [await keys(store, f"{kind}:*") for kind in "jpu"] == [[], [], []]


@pytest.mark.leaves_keys("unique keys without a job")
async def test_an_unreadable_record_frees_no_key_of_another_job(store: Store) -> None:
    """Whatever it says."""
    await command(store, "SET", store.base + b"u:key", "other")
    await put_record(store, "a", b"z\n1763640000000 t:t ukey\n ukey")

    await claim(store)

    assert await command(store, "GET", store.base + b"u:key") == b"other"


@pytest.mark.parametrize("due", ["0", "d60000"])
async def test_an_id_that_lives_again_is_not_listed_as_dead(store: Store, due: str) -> None:
    """Its dead record has gone by its time, while other dead jobs kept the list."""
    job = await enqueue_and_claim(store, "a")
    await settle(store, job, "bury")
    assert await members(store, "dead") == ["a"]
    await command(store, "DEL", store.base + b"j:a")

    await enqueue_one(store, "a", due=due)

    assert await members(store, "dead") == []
