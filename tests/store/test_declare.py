"""Declaring a schedule: Redis holds its next tick and the fingerprint of its spec."""

from __future__ import annotations

import asyncio

from arq_web.store.store import Store
from tests.support.store_helpers import HOUR_MS, command, keys, ttl_ms

WEEK_MS = 7 * 86_400_000


async def test_a_new_schedule_gets_its_first_tick(store: Store) -> None:
    tick_ms = await store.server_now_ms() + HOUR_MS

    now_ms, stored_ms = await store.declare("nightly", "spec-1", tick_ms)

    assert stored_ms == tick_ms
    assert abs(now_ms + HOUR_MS - tick_ms) < 5_000
    assert await keys(store) == [store.base + b"s:nightly"]


async def test_a_known_schedule_keeps_its_tick(store: Store) -> None:
    """A worker that starts must not skip the tick that is due, nor fire one twice."""
    await store.declare("nightly", "spec-1", 1_000)

    again = [(await store.declare("nightly", "spec-1", tick_ms))[1] for tick_ms in (2_000, 1_000, 3_000)]

    assert again == [1_000, 1_000, 1_000]


async def test_the_last_to_declare_another_spec_writes_its_own(store: Store) -> None:
    """A deployment changes a schedule; and a roll-back changes it back."""
    await store.declare("nightly", "spec-1", 1_000)

    assert (await store.declare("nightly", "spec-2", 2_000))[1] == 2_000
    assert (await store.declare("nightly", "spec-1", 3_000))[1] == 3_000


async def test_two_processes_that_start_at_once_agree_on_the_tick(store: Store) -> None:
    one, other = await asyncio.gather(
        store.declare("nightly", "spec-1", 1_000), store.declare("nightly", "spec-1", 2_000)
    )

    assert one[1] == other[1]


async def test_a_schedule_is_forgotten_a_week_after_its_tick(store: Store) -> None:
    """What no process declares any more must go; what fires once a year must stay."""
    now_ms = await store.server_now_ms()
    await store.declare("past", "spec", now_ms - HOUR_MS)
    await store.declare("yearly", "spec", now_ms + 365 * 86_400_000)

    assert WEEK_MS - 5_000 < await ttl_ms(store, "s:past") <= WEEK_MS
    assert 372 * 86_400_000 - 5_000 < await ttl_ms(store, "s:yearly") <= 372 * 86_400_000


async def test_declaring_again_keeps_a_schedule_known(store: Store) -> None:
    await store.declare("nightly", "spec", 1_000)
    await command(store, "PEXPIRE", store.base + b"s:nightly", 1_000)

    await store.declare("nightly", "spec", 1_000)

    assert await ttl_ms(store, "s:nightly") > WEEK_MS - 5_000


async def test_garbage_in_its_place_is_replaced(store: Store) -> None:
    await command(store, "SET", store.base + b"s:nightly", "something else")

    assert (await store.declare("nightly", "spec", 1_000))[1] == 1_000
