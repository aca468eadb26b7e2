"""The numbers of a queue, for machines: metrics and autoscalers. One script; it may also settle who is to tell them."""

from __future__ import annotations

from dataclasses import dataclass

from arq_web.errors import StoreCorrupt
from arq_web.store import scripts
from arq_web.store.store import Store

NOBODY = "-"


@dataclass(frozen=True, slots=True)
class Measured:
    """What a queue holds at one moment. ``dead`` and ``rejected`` may be up to a week old."""

    at_ms: int
    """By the clock of Redis."""
    ready: int
    """Waiting for a worker: queued, or due already."""
    scheduled: int
    """Due later: scheduled or retrying."""
    running: int
    """By all workers."""
    dead: int
    rejected: int
    oldest_ready_age_ms: int
    """How long the oldest of the ready ones has been that, since it was due or last came back from a worker."""


async def measure(store: Store) -> Measured:
    """Look at a queue, whoever leads. One round trip, and cheap however much is in it.

    Raises:
        StoreUnavailable, StoreRefused: Redis did not answer.
    """
    measured = await _measured(store, NOBODY, 0)
    assert measured is not None, "only who leads is refused"
    return measured


async def measure_as_leader(store: Store, leader: str, lead_ms: int) -> Measured | None:
    """Look at a queue, and be its only leader for so long; None while another one is.

    Raises:
        StoreUnavailable, StoreRefused: Redis did not answer.
    """
    return await _measured(store, leader, lead_ms)


async def resign(store: Store, leader: str) -> None:
    """Let another lead at once, if this leader still does.

    Raises:
        StoreUnavailable, StoreRefused: Redis did not answer.
    """
    await _measured(store, leader, 1)  # its lead ends in a millisecond


async def _measured(store: Store, leader: str, lead_ms: int) -> Measured | None:
    arguments = scripts.MEASURE.arguments(leader=leader, lead_ms=lead_ms)
    reply = await store.connections.get(store.base).run_script(scripts.MEASURE.script, (store.base,), arguments)
    numbers = [each for each in reply if isinstance(each, int)] if isinstance(reply, list) else []
    match numbers:
        case [_]:
            return None
        case [at, ready, scheduled, running, dead, rejected, age_ms]:
            return Measured(at, ready, scheduled, running, dead, rejected, max(0, age_ms))
        case _:
            raise StoreCorrupt(store.connections.target.address, f"script 'measure' answered {reply!r}")
