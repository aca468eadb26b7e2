"""A request under an idempotency key: however often it comes, it is one job, and gets one answer."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from msgspec import structs

from arq_web.errors import IdempotencyKeyReused, IdempotentJobGone, JobIdConflict
from arq_web.job import JobState
from arq_web.store.store import Enqueued, Idempotency, NewJob, Replace, Store
from tests.support.store_helpers import (
    HOUR_MS,
    claim,
    command,
    counted,
    end_as,
    enqueue_one,
    info_of,
    keys,
    members,
    new_job,
    new_token,
    put_record,
    snapshot,
    state_of,
    ttl_ms,
)
from tests.support.time_travel import let_time_pass

DAY_MS = 24 * HOUR_MS
ONCE = Idempotency("key", "values", DAY_MS)
ENDS = (JobState.SUCCEEDED, JobState.DEAD, JobState.CANCELLED, JobState.EXPIRED)


def request(name: str, **options: object) -> NewJob:
    """A job as an HTTP request makes it: its id is new with every request."""
    return new_job(name, nonce="-", **options)


async def once(store: Store, new: NewJob, asked: Idempotency = ONCE) -> Enqueued:
    [answer] = (await store.enqueue([new], once=asked)).jobs
    return answer


async def test_the_first_request_makes_its_job_and_notes_the_key_with_an_end(store: Store) -> None:
    assert await once(store, request("a")) == Enqueued("a", created=True)

    assert await command(store, "GET", store.base + b"i:key") == b"values a"
    assert DAY_MS - 5_000 < await ttl_ms(store, "i:key") <= DAY_MS
    assert await ttl_ms(store, "j:a") == -1


async def test_the_same_request_gets_the_same_job_and_writes_nothing(store: Store) -> None:
    await once(store, request("a"))
    before = await snapshot(store)

    assert await once(store, request("b", payload=b"[1]")) == Enqueued("a", created=False, replayed=True)

    assert await snapshot(store) == before


@pytest.mark.parametrize("state", ENDS)
async def test_a_job_that_has_ended_still_answers_for_its_request(store: Store, state: JobState) -> None:
    """The point of the key: a client that heard nothing asks again, perhaps when all is over."""
    await once(store, request("a"))
    await end_as(store, "a", state)

    assert await once(store, request("b")) == Enqueued("a", created=False, replayed=True)

    assert await state_of(store, "a") is state
    assert (await counted(store))["enqueued"] == 1


async def test_many_requests_at_once_make_one_job(store: Store) -> None:
    answers = await asyncio.gather(*(once(store, request(f"{number}")) for number in range(200)))

    assert len({answer.id for answer in answers}) == 1
    assert sorted(answer.created for answer in answers) == [False] * 199 + [True]
    assert len(await members(store, "ready")) == 1


async def test_other_values_under_the_same_key_are_refused_and_write_nothing(store: Store) -> None:
    await once(store, request("a"))
    before = await snapshot(store)

    with pytest.raises(IdempotencyKeyReused, match="'a'"):
        await once(store, request("b"), replace(ONCE, fingerprint="others"))

    assert await snapshot(store) == before


async def test_once_the_record_is_gone_the_request_is_told_of_its_job_and_not_run_again(store: Store) -> None:
    """The key outlives the record: a result is kept for an hour, a key for a day."""
    await once(store, request("a"))
    await end_as(store, "a", JobState.SUCCEEDED)
    await let_time_pass(store, HOUR_MS)
    assert await store.read("a") is None

    with pytest.raises(IdempotentJobGone, match="'a'"):
        await once(store, request("b"))

    assert await members(store, "ready") == []


async def test_once_the_key_is_gone_too_the_request_is_a_new_one(store: Store) -> None:
    await once(store, request("a"))
    await end_as(store, "a", JobState.SUCCEEDED)
    await let_time_pass(store, DAY_MS)

    assert await once(store, request("b")) == Enqueued("b", created=True)


async def test_a_key_ends_at_its_time_though_its_job_still_waits(store: Store) -> None:
    """What is published is how long a key is known, from its first use; and no use of it makes that longer."""
    await once(store, request("a"))
    await let_time_pass(store, DAY_MS - 60_000)
    await once(store, request("b"))
    assert await ttl_ms(store, "i:key") <= 60_000
    await let_time_pass(store, 60_000)

    assert await once(store, request("c")) == Enqueued("c", created=True)

    assert await members(store, "ready") == ["a", "c"]


async def test_keys_do_not_meet(store: Store) -> None:
    await once(store, request("a"))

    assert await once(store, request("b"), replace(ONCE, key="other")) == Enqueued("b", created=True)


async def test_what_answered_a_request_for_a_held_unique_key_answers_it_again(store: Store) -> None:
    """Also once that job has ended: the request has had its answer, and must not make a job of its own now."""
    await enqueue_one(store, "holder", unique="k")
    first = await once(store, request("a", unique="k"))
    await end_as(store, "holder", JobState.SUCCEEDED)

    again = await once(store, request("b", unique="k"))

    assert (first, again) == (Enqueued("holder", created=False), Enqueued("holder", created=False, replayed=True))
    assert await members(store, "ready") == []


async def test_a_request_for_an_id_of_its_own_is_told_from_another_one_of_the_same_id(store: Store) -> None:
    """An id is said anew by each request, so its nonce tells whether an answer was lost or somebody asks again."""
    new = new_job("a")
    first = await once(store, new)

    assert (first, await once(store, new)) == (Enqueued("a", created=True), Enqueued("a", created=True))
    assert await once(store, structs.replace(new, nonce=new_token())) == Enqueued("a", created=False, replayed=True)
    assert await command(store, "GET", store.base + b"i:key") == f"values a {new.nonce}".encode()


async def test_a_request_for_an_id_that_exists_is_answered_the_same_when_it_is_sent_again(store: Store) -> None:
    await enqueue_one(store, "a")
    new = new_job("a")

    assert [await once(store, new), await once(store, new)] == [Enqueued("a", created=False)] * 2


async def test_a_key_comes_before_what_would_replace_its_job(store: Store) -> None:
    await once(store, new_job("a"))
    await end_as(store, "a", JobState.SUCCEEDED)

    answer = await once(store, new_job("a", replace=Replace.FINISHED))

    assert answer == Enqueued("a", created=False, replayed=True)
    assert await state_of(store, "a") is JobState.SUCCEEDED


async def test_a_request_that_is_refused_leaves_its_key_unused(store: Store) -> None:
    """It made no job; what it asks for with another id is not a repetition."""
    await enqueue_one(store, "a", task="other:task")

    with pytest.raises(JobIdConflict):
        await once(store, new_job("a"))

    assert await keys(store, "i:*") == []
    assert await once(store, request("b"), replace(ONCE, fingerprint="others")) == Enqueued("b", created=True)


async def test_a_key_stands_for_one_job(store: Store) -> None:
    with pytest.raises(ValueError, match="not for 2"):
        await store.enqueue([request("a"), request("b")], once=ONCE)


async def test_a_redriven_job_answers_for_its_request(store: Store) -> None:
    await once(store, request("a"))
    await end_as(store, "a", JobState.DEAD)
    await store.redrive("a", "again")

    assert await once(store, request("b")) == Enqueued("a", created=False, replayed=True)
    assert [job.id for job in (await claim(store)).jobs] == ["a"]


@pytest.mark.leaves_keys("garbage in place of a record")
async def test_a_job_whose_record_is_garbage_is_not_made_anew(store: Store) -> None:
    await once(store, request("a"))
    await put_record(store, "a", b"something else")

    with pytest.raises(IdempotentJobGone):
        await once(store, request("b"))


@pytest.mark.parametrize("rubbish", [("SET", b"no-space"), ("HSET", b"field", b"value")])
async def test_a_key_that_somebody_overwrote_is_used_anew(store: Store, rubbish: tuple[str | bytes, ...]) -> None:
    """It says nothing about any job; and a queue does not stand still for it."""
    word, *values = rubbish
    await command(store, word, store.base + b"i:key", *values)

    assert await once(store, request("a")) == Enqueued("a", created=True)
    assert await once(store, request("b")) == Enqueued("a", created=False, replayed=True)
    assert await ttl_ms(store, "i:key") > 0


async def test_the_owner_of_a_job_stays_with_it(store: Store) -> None:
    """Through every transition, also through the one that writes its second line anew."""
    owner = "Zoë {x} o'Neil\n100%"
    await enqueue_one(store, "a", owner=owner, extra=b'{"max_tries":7}', unique="k")
    await end_as(store, "a", JobState.DEAD)
    await store.redrive("a", "again")

    info = await info_of(store, "a")

    assert (info.owner, info.extra, info.unique) == (owner, {"max_tries": 7}, "k")


@pytest.mark.parametrize("owner", ["-", "o", "42", "ada@example.org", " ", "{", "é" * 255])
async def test_any_text_may_be_an_owner(store: Store, owner: str) -> None:
    await enqueue_one(store, "a", owner=owner, payload=b"{}")
    await store.cancel("a")
    await store.redrive("a", "again")

    info = await info_of(store, "a")

    assert (info.owner, info.payload, info.extra) == (owner, b"{}", {})


async def test_a_job_without_an_owner_spends_no_byte_on_it(store: Store) -> None:
    await enqueue_one(store, "a", nonce="-")

    raw = await command(store, "GET", store.base + b"j:a")

    assert isinstance(raw, bytes)
    assert raw.split(b"\n")[1].split(b" ")[1:] == [b"shop.tasks:send_mail"]
    assert (await info_of(store, "a")).owner is None
