"""Every script sent twice: the same answer, the same state. And a copy that comes late changes nothing.

What is compared is the whole of what Redis holds for the queue (``whole``): the bytes of every key as DUMP gives them.
Only what says "until when", and is said anew by the second sending, is compared by its value instead, within the time
that lies between: the scores of ``leases`` and ``workers``, the times in ``reclaimed``, and the time to live of each
key. Special cases of single verbs are in the verbs' own tests; copies of claims in test_late_claims.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, cast, get_args

import pytest

from arq_web.store import scripts
from arq_web.store.scripts import Verb
from arq_web.store.store import Replace, SettleOutcome, Store
from tests.support.sendings import (
    A_RUNS,
    LAPSED,
    OTHER_CLAIMS,
    SENDINGS,
    Sending,
    Step,
    abandons,
    cancels,
    declares,
    dismisses,
    enqueue,
    falls_due,
    fires,
    job,
    reclaims,
    redrives,
    settles,
    steps,
)
from tests.support.store_helpers import command, keys, spent_by, state_of
from tests.support.time_travel import let_time_pass

every_sending = pytest.mark.parametrize("sending", SENDINGS, ids=lambda sending: sending.name)
BETWEEN_MS = 3_000
"""A test lasts less, and the lengths of time that a script gives are longer."""


async def whole(store: Store) -> dict[bytes, object]:
    """All that the queue holds; moments as something that is equal to a moment shortly before or after."""
    found: dict[bytes, object] = {}
    for key in await keys(store):
        left_ms = cast("int", await command(store, "PTTL", key))
        found[key] = await _content(store, key), _about(left_ms) if left_ms >= 0 else left_ms
    return found


async def _content(store: Store, key: bytes) -> object:
    match key.removeprefix(store.base):
        case b"leases" | b"workers":
            flat = cast("list[bytes]", await command(store, "ZRANGE", key, 0, -1, "WITHSCORES"))
            return {member: _about(int(score)) for member, score in zip(flat[::2], flat[1::2], strict=True)}
        case b"reclaimed":
            words = cast("bytes", await command(store, "GET", key)).split()
            return [_about(int(word)) for word in words]
        case _:
            return await command(store, "DUMP", key)


class _about:  # noqa: N801 - reads as a word in what a failure shows
    def __init__(self, ms: int) -> None:
        self.ms = ms

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _about) and abs(self.ms - other.ms) <= BETWEEN_MS

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"about {self.ms}"


def test_no_script_and_no_outcome_is_missing() -> None:
    verbs = {verb.script.name for verb in vars(scripts).values() if isinstance(verb, Verb)}
    source = scripts.SETTLE.script.text.decode()
    written = re.findall(r"^  (\w+) = function\(id, j", source, re.MULTILINE)

    assert {sending.verb for sending in SENDINGS} == verbs
    assert {sending.case for sending in SENDINGS if sending.verb == "settle"} >= {*get_args(SettleOutcome), *written}
    assert len(written) == 9


@every_sending
async def test_a_request_sent_twice_is_answered_as_once_and_does_nothing_more(store: Store, sending: Sending) -> None:
    """A lost answer is no reason to do it again: every connection sends a second time when it hears nothing."""
    await sending.prepare(store)
    before = await whole(store)
    first = await sending.send(store)
    after = await whole(store)

    second = await sending.send(store)

    assert second == first
    assert await whole(store) == after
    assert (after != before) == (sending.name not in WITHOUT_EFFECT)


WITHOUT_EFFECT = {
    "enqueue a job that is there",
    "measure while another leads",
    "enqueue a job that is not gone yet",
    "enqueue a conflict",
    "enqueue a unique key that is held",
    "enqueue one under a key that has one",
    "enqueue one under a key for other values",
    "enqueue one under a key whose job is gone",
    "enqueue one more than may wait",
    "watch a job that has ended",
    "renew a lease",
    "renew one to be cancelled",
    "renew before the next claim",
}
"""These change nothing, or no more than until when."""


@pytest.mark.parametrize("sending", [s for s in SENDINGS if s.then], ids=lambda sending: sending.name)
async def test_a_copy_that_comes_after_the_next_transition_changes_nothing(store: Store, sending: Sending) -> None:
    """The first copy of what was sent twice may be on its way for long; its sender has gone on."""
    await sending.prepare(store)
    await sending.send(store)
    assert sending.then is not None
    await sending.then(store)
    before = await whole(store)

    await sending.send(store)

    assert await whole(store) == before


async def test_a_cancel_ends_what_lives_under_its_id_but_a_late_copy_ends_nothing(store: Store) -> None:
    """Whoever cancels anew wants it gone, also if somebody else has just brought it back."""
    first = cancels("a")
    await enqueue(job("a"))(store)
    await first(store)
    await redrives("a", "again")(store)

    assert await first(store) == "cancelled"
    assert await state_of(store, "a") == "queued"
    assert await cancels("a")(store) == "cancelled"
    assert await state_of(store, "a") == "cancelled"


@pytest.mark.parametrize("ends", [cancels, dismisses], ids=["cancel", "dismiss"])
async def test_a_late_copy_leaves_another_job_of_that_id_alone(store: Store, ends: Callable[[str], Step]) -> None:
    """It once ended it, when the first reply was lost and the id was taken before the request was sent again."""
    request = ends("a")
    await enqueue(job("a", "first"))(store)
    word = await request(store)
    await enqueue(job("a", "second", replace=Replace.FINISHED))(store)
    before = await whole(store)

    assert await request(store) == word

    assert await whole(store) == before


async def test_a_request_that_met_a_held_key_makes_its_job_when_the_key_is_free(store: Store) -> None:
    """ "Somebody else has it" leaves nothing behind by which a later copy could be known."""
    held, wanted = enqueue(job("b", unique="k")), enqueue(job("a", unique="k"))
    await held(store)
    assert await wanted(store) == [("b", False)]
    await cancels("b")(store)

    assert await wanted(store) == [("a", True)]
    answer: Any = await OTHER_CLAIMS(store)
    assert [each[0] for each in answer[0]] == ["a"]


async def test_a_second_cancel_by_a_worker_leaves_a_job_as_it_was_marked(store: Store) -> None:
    """Its place, and since when it stands there: it once wrote both anew."""
    await enqueue(job("a", due="d60000"), job("b"))(store)
    await cancels("a", by_worker=True)(store)
    await let_time_pass(store, 5_000)
    before = (
        await command(store, "GET", store.base + b"j:a"),
        await command(store, "ZSCORE", store.base + b"ready", "a"),
    )

    assert await cancels("a", by_worker=True)(store) == "requested"

    after = await command(store, "GET", store.base + b"j:a"), await command(store, "ZSCORE", store.base + b"ready", "a")
    assert after == before


async def test_a_late_fire_whose_id_has_gone_to_another_task_names_no_job(store: Store) -> None:
    """It once answered with that task's name for an id."""
    fire = fires(1000, 2000, job("a"))
    await declares("print")(store)
    assert await fire(store) == ("fired", 2000, "a")
    await cancels("a")(store)
    await enqueue(job("a", "new", task="other:task", replace=Replace.FINISHED))(store)

    assert await fire(store) == ("moved", 2000, "a")


async def test_an_abandoned_attempt_that_ended_in_time_makes_no_later_crash_free(store: Store) -> None:
    """What a stopping worker says of one attempt is not true of the next."""
    await steps(A_RUNS, abandons(), settles("retry"), falls_due("a"), OTHER_CLAIMS, LAPSED, reclaims())(store)

    assert await spent_by(store, "a") == (2, 1, 1)
