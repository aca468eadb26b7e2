"""The verbs of a queue for tests: short calls with defaults, and ways to move the data instead of the clock."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any, cast

from arq_web.job import JobInfo, JobState
from arq_web.store.connection import Arg, Reply
from arq_web.store.record import ClaimedJob
from arq_web.store.store import (
    ClaimReply,
    Held,
    NewJob,
    ReclaimReply,
    Renewed,
    Settled,
    Settlement,
    SettleOutcome,
    Store,
    WorkerKind,
)

WORKER = "host-a:11:aaaaaaaa"
OTHER_WORKER = "host-b:22:bbbbbbbb"
LEASE_MS = 8_000
HOUR_MS = 3_600_000
TASK = "shop.tasks:send_mail"
LARGE = b"x" * 4097
"""A payload that is kept in a key of its own."""
SETTLE_OUTCOMES: tuple[SettleOutcome, ...] = (
    "complete",
    "retry",
    "snooze",
    "park",
    "bury",
    "cancel",
    "crash",
    "release",
)

# -- the verbs ----------------------------------------------------------------------------


def new_token() -> str:
    """What a worker makes per claim, and an enqueue per request."""
    return secrets.token_urlsafe(8)


def new_job(id: str | None = None, **options: Any) -> NewJob:  # noqa: A002 - as NewJob calls it
    """A job of its own request; ``options`` are NewJob's."""
    options = {"task": TASK, "payload": b"{}", "nonce": new_token(), **options}
    return NewJob(id=id or secrets.token_hex(8), **options)


async def enqueue_one(store: Store, id: str | None = None, **options: Any) -> str:  # noqa: A002 - as above
    """Enqueue one job; its id."""
    reply = await store.enqueue([new_job(id, **options)])
    return reply.jobs[0].id


async def claim(
    store: Store,
    limit: int = 10,
    *,
    worker: str = WORKER,
    token: str | None = None,
    kind: WorkerKind = WorkerKind.EXTERNAL,
    lease_ms: int = LEASE_MS,
) -> ClaimReply:
    """Claim; by default with a token that is used once."""
    return await store.claim(worker, kind, token or new_token(), limit, lease_ms)


async def claim_one(store: Store, *, worker: str = WORKER, token: str | None = None) -> ClaimedJob:
    """Claim one job, which must be there."""
    [job] = (await claim(store, 1, worker=worker, token=token)).jobs
    return job


async def enqueue_and_claim(store: Store, id: str | None = None, **options: Any) -> ClaimedJob:  # noqa: A002 - as above
    """A job that runs; the queue must be empty before."""
    await enqueue_one(store, id, **options)
    return await claim_one(store)


def settlement(job: ClaimedJob, outcome: SettleOutcome, ms: int = HOUR_MS, note: bytes = b"") -> Settlement:
    """How this attempt ends."""
    return Settlement(job.id, job.attempt, job.token, outcome, ms, note)


async def settle(
    store: Store, job: ClaimedJob, outcome: SettleOutcome, ms: int = HOUR_MS, note: bytes = b""
) -> Settled:
    """End one attempt."""
    [answer] = await store.settle(WORKER, [settlement(job, outcome, ms, note)])
    return answer


def held(job: ClaimedJob) -> Held:
    """The lease of an attempt."""
    return Held(job.id, job.attempt, job.token)


async def renew(
    store: Store, jobs: Sequence[ClaimedJob], *, last_token: str, worker: str = WORKER, asked_ago_ms: int = 0
) -> list[Renewed]:
    """Renew the leases of ``jobs``; the worker looked at what it holds ``asked_ago_ms`` before."""
    asked_ms = await store.server_now_ms() - asked_ago_ms
    leases = [held(job) for job in jobs]
    return await store.renew(worker, WorkerKind.EXTERNAL, LEASE_MS, last_token, leases, asked_ms=asked_ms)


async def reclaim(store: Store, limit: int = 100) -> ReclaimReply:
    """Reclaim as the second look would: the first has passed, and so has its grace."""
    await end_grace(store)
    return await store.reclaim(limit)


async def end_as(store: Store, job_id: str, state: JobState) -> None:
    """Bring a queued job to its end; nothing else may be ready."""
    if state is JobState.CANCELLED:
        await store.cancel(job_id)
    elif state is JobState.EXPIRED:
        await expire(store, job_id)
        await claim(store)
    else:
        job = await claim_one(store)
        await settle(store, job, "complete" if state is JobState.SUCCEEDED else "bury", HOUR_MS, b'{"type":"E"}')
    assert await state_of(store, job_id) is state


# -- moving the data, not the clock -------------------------------------------------------


async def expire_lease(store: Store, *job_ids: str) -> None:
    """Let the leases of running jobs have passed."""
    now_ms = await store.server_now_ms()
    for job_id in job_ids:
        await command(store, "ZADD", store.base + b"leases", "XX", now_ms - 1, job_id)


async def make_due(store: Store, *job_ids: str) -> None:
    """Let the time of scheduled or retrying jobs have come, in this order."""
    now_ms = await store.server_now_ms()
    for index, job_id in enumerate(job_ids):
        await command(store, "ZADD", store.base + b"due", "XX", now_ms - len(job_ids) + index, job_id)


async def expire(store: Store, job_id: str) -> None:
    """Let the time by which a job had to start have passed."""
    head, spec, body = (await record_of(store, job_id)).split(b"\n", 2)
    created, task, *rest = spec.split(b" ")
    options = [word for word in rest if not word.startswith(b"e")]
    spec = b" ".join([created, task, b"e1", *options])
    await command(store, "SET", store.base + b"j:" + job_id.encode(), b"\n".join([head, spec, body]))


async def end_grace(store: Store) -> None:
    """Let somebody have looked for silent workers just now, and the grace after that be over."""
    now_ms = await store.server_now_ms()
    await command(store, "SET", store.base + b"reclaimed", f"{now_ms} {now_ms - 1}", "PX", 60_000)


async def put_record(store: Store, job_id: str | bytes, raw: bytes, *, index: str = "ready", score: int = 0) -> None:
    """Write what only the scripts should write: a record, and its place in an index."""
    name = job_id.encode() if isinstance(job_id, str) else job_id
    await command(store, "SET", store.base + b"j:" + name, raw)
    await command(store, "ZADD", store.base + index.encode(), score, name)


# -- looking ------------------------------------------------------------------------------


async def command(store: Store, *args: Arg) -> Reply:
    """Any command, on the store's own connection."""
    return await store.connections.get(store.base).execute(*args)


async def info_of(store: Store, job_id: str) -> JobInfo:
    """The job, which must be there."""
    info = await store.read(job_id, with_payload=True)
    assert info is not None, f"job {job_id} is gone"
    return info


async def state_of(store: Store, job_id: str) -> JobState:
    """Where the job is."""
    return (await info_of(store, job_id)).state


async def spent_by(store: Store, job_id: str) -> tuple[int, int, int]:
    """The three counters of a job: attempt, failures, crashes."""
    info = await info_of(store, job_id)
    return info.attempt, info.failures, info.crashes


async def record_of(store: Store, job_id: str) -> bytes:
    """The record as it is in Redis."""
    raw = await command(store, "GET", store.base + b"j:" + job_id.encode())
    assert isinstance(raw, bytes)
    return raw


async def ttl_ms(store: Store, key: str) -> int:
    """How long ``key`` (without the queue's base) lives; -1 for ever, -2 when there is none."""
    return cast("int", await command(store, "PTTL", store.base + key.encode()))


async def members(store: Store, index: str) -> list[str]:
    """The ids in ``ready``, ``due``, ``leases`` or ``dead``, in their order."""
    reply = cast("list[bytes]", await command(store, "ZRANGE", store.base + index.encode(), 0, -1))
    return [member.decode() for member in reply]


async def score_of(store: Store, index: str, job_id: str) -> int:
    """The place of a job in an index; exact, or the test fails."""
    reply = cast("bytes", await command(store, "ZSCORE", store.base + index.encode(), job_id))
    return int(reply)


async def is_woken(store: Store) -> bool:
    """Take the wake marker away; True if it was set."""
    return await command(store, "DEL", store.base + b"wake") == 1


async def rejects(store: Store) -> list[tuple[str, bytes, bytes]]:
    """Reason, id and raw bytes of what was rejected, the newest first."""
    entries = cast("list[bytes]", await command(store, "LRANGE", store.base + b"rejects", 0, -1))
    found = []
    for entry in entries:
        _, reason, size, rest = entry.split(b"\n", 3)
        found.append((reason.decode(), rest[: int(size)], rest[int(size) :]))
    return found


async def counted(store: Store) -> dict[str, int]:
    """What the queue counted in all its minutes."""
    totals: dict[str, int] = {}
    for key in await keys(store, "m:*"):
        flat = cast("list[bytes]", await command(store, "HGETALL", key))
        for name, number in zip(flat[::2], flat[1::2], strict=True):
            totals[name.decode()] = totals.get(name.decode(), 0) + int(number)
    return totals


async def keys(store: Store, pattern: str = "*") -> list[bytes]:
    """The queue's keys; the test's database is small."""
    return sorted(cast("list[bytes]", await command(store, "KEYS", store.base + pattern.encode())))


async def snapshot(store: Store) -> dict[bytes, tuple[bytes, bool]]:
    """All that the queue holds, with whether it has an end. Not what each call touches: workers, counters, answers."""
    passing = tuple(store.base + name for name in (b"workers", b"m:", b"wake", b"reclaimed", b"r:"))
    found: dict[bytes, tuple[bytes, bool]] = {}
    for key in await keys(store):
        if not key.startswith(passing):
            content = await command(store, "DUMP", key)
            found[key] = (cast("bytes", content), await command(store, "PTTL", key) != -1)
    return found
