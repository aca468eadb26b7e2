"""``app-worker migrate-arq``: moves what waits in a real arq's keys into our queue. Only this file reads those keys.

Each job goes in one transaction of Redis: create it in our queue, then take it out of arq's, and that only if it is
in ours. So wherever this is killed, a job is in one of the two, and the next run goes on where this one ended.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from msgspec import structs
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, RedisError, ResponseError

from arq_web.arq._envelope import Deserializer, Serializer
from arq_web.arq._foreign import Envelopes, Unreadable
from arq_web.arq._health import foreign_health
from arq_web.arq._settings import RedisSettings, as_settings
from arq_web.arq._translate import Terms, new_job
from arq_web.arq.connections import create_pool
from arq_web.arq.constants import default_queue_name, expires_extra_ms
from arq_web.arq.worker import get_kwargs
from arq_web.errors import StoreRefused, StoreUnavailable
from arq_web.store import scripts
from arq_web.store.gathering import enqueue_arguments
from arq_web.store.messages import NewJob
from arq_web.store.store import Store

_JOB, _RETRY, _IN_PROGRESS, _ABORT = "arq:job:", "arq:retry:", "arq:in-progress:", "arq:abort"
_HEALTH_SUFFIX = ":health-check"

QUEUED, DEFERRED, RETRYING, ABORTED, PRESENT = "queued", "deferred", "retrying", "aborted", "there already"
KINDS: Final = (QUEUED, DEFERRED, RETRYING, ABORTED, PRESENT)
"""What a job was in arq; or ``there already``: a live job of this id and function is in our queue."""
_PAGE_COUNT: Final = 100
_LOOK_COUNT: Final = 1000
_CLOCKS_MS: Final = 10_000
"""So much may the clock of whoever enqueued a job differ from the server's."""

# Takes a job out of arq's keys if its record is in our queue: made by us (the nonce tells), or alive and of the same
# task. Before it, in the same transaction, stands the script that creates that record: should that fail (Redis is full,
# say), nothing is undone, but then there is no record either.
_FORGET: Final = """
local state, task, options = string.match(redis.call('GET', KEYS[1]) or '', '^(.)[^\\n]*\\n%d+ (%S+)([^\\n]*)\\n')
if task ~= ARGV[2] then return 0 end
local ours = string.find(options .. ' ', ' n' .. ARGV[3] .. ' ', 1, true)
if not ours and not string.find('sqrt', state, 1, true) then return 0 end
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
for i = 4, #KEYS do redis.call('DEL', KEYS[i]) end
return ours and 1 or 2
"""
_OURS, _TWIN = 1, 2
_CONFLICT = 2


@dataclass(frozen=True, slots=True)
class Waiting:
    """One job as arq's keys have it."""

    id: str
    score_ms: int
    raw: bytes | None
    """The serialised job; None when its time to live has passed."""
    expires_in_ms: int
    """How long it still has to live; negative: for ever."""
    tries: int
    abort_at_ms: int | None


@dataclass(slots=True)
class Report:
    """What became of the jobs: how many of each kind are in our queue, and which stay in arq's, with the reason."""

    moved: Counter[str] = field(default_factory=Counter)
    left: dict[str, str] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Jobs that are now in our queue."""
        return sum(self.moved.values())


class Migration:
    """From one queue of arq's into one of ours, in the same Redis."""

    def __init__(
        self,
        redis: Redis,
        arq_queue: str,
        store: Store,
        *,
        deserializer: Deserializer | None = None,
        serializer: Serializer | None = None,
        health_check_key: str | None = None,
    ) -> None:
        """Ask nothing yet.

        Args:
            redis: where arq's keys are; its replies are bytes.
            arq_queue: arq's queue_name.
            store: the queue to move to.
            deserializer: of arq's jobs; default pickle.
            serializer: its counterpart.
            health_check_key: of arq's worker; default by the queue's name.
        """
        # redis-py's annotations are those of its blocking client and this one at once.
        self._redis: Any = redis
        self._queue, self._store = arq_queue, store
        self._envelopes = Envelopes(deserializer, serializer)
        self._health_check_key = health_check_key or arq_queue + _HEALTH_SUFFIX

    async def count(self) -> int:
        """Jobs in arq's queue, running ones included."""
        return int(await self._redis.zcard(self._queue))

    async def signs_of_life(self) -> list[str]:
        """Why one must think that a worker of arq's still works here; empty when there is no sign of it."""
        signs = []
        health = await foreign_health(self._redis, self._health_check_key)
        if health is not None:
            text, left_s = health
            signs.append(f"its health check {self._health_check_key!r} says {text!r}, for another {left_s:.0f} s")
        running = [job_id async for job_id in self._running()]
        if running:
            shown = ", ".join(running[:3]) + (", ..." if len(running) > 3 else "")
            signs.append(f"{len(running)} of its jobs are marked as running ({shown})")
        return signs

    async def run(self, *, dry_run: bool = False, on_job: Callable[[], None] = lambda: None) -> Report:
        """Move everything; safe to repeat, at any time.

        Args:
            dry_run: read and count, write nothing.
            on_job: called once per job that was looked at.
        """
        report = Report()
        while True:
            before = report.total
            await self._pass(report, dry_run=dry_run, on_job=on_job)
            # Whoever still enqueues jobs of arq's shifts the pages under our eyes: again, until nothing moves.
            if dry_run or report.total == before:
                return report

    async def _pass(self, report: Report, *, dry_run: bool, on_job: Callable[[], None]) -> None:
        offset = 0
        while True:
            entries = await self._redis.zrange(self._queue, offset, offset + _PAGE_COUNT - 1, withscores=True)
            if not entries:
                return
            new = [(_text(job_id), int(score)) for job_id, score in entries if _text(job_id) not in report.left]
            moved = await self._move_page(new, report, dry_run=dry_run)
            for _ in new:
                on_job()
            offset += len(entries) if dry_run else len(entries) - moved

    async def _move_page(self, entries: Sequence[tuple[str, int]], report: Report, *, dry_run: bool) -> int:
        """How many are gone from arq's queue."""
        now_ms = await self._store.server_now_ms()
        ready: list[tuple[Waiting, NewJob, str]] = []
        for waiting in await self._read(entries):
            try:
                new, enqueued_at_ms = self._translated(waiting, now_ms)
            except Unreadable as why:
                report.left[waiting.id] = str(why)
                continue
            ready.append((waiting, new, _kind(waiting, enqueued_at_ms, now_ms)))
        if dry_run:
            report.moved.update(kind for _, _, kind in ready)
            return 0
        answers = await self._move(ready) if ready else []
        for (waiting, _, kind), answer in zip(ready, answers, strict=True):
            if isinstance(answer, str):
                report.left[waiting.id] = answer
            else:
                report.moved[PRESENT if answer == _TWIN else kind] += 1
        return sum(not isinstance(answer, str) for answer in answers)

    async def _read(self, entries: Sequence[tuple[str, int]]) -> list[Waiting]:
        if not entries:
            return []
        async with self._redis.pipeline(transaction=False) as pipe:
            for job_id, _ in entries:
                pipe.get(_JOB + job_id)
                pipe.get(_RETRY + job_id)
                pipe.zscore(_ABORT, job_id)
                pipe.pttl(_JOB + job_id)
            replies = await pipe.execute()
        return [
            Waiting(
                id=job_id,
                score_ms=score_ms,
                raw=raw,
                expires_in_ms=ttl_ms,
                tries=_count(tries),
                abort_at_ms=None if abort is None else int(abort),
            )
            for (job_id, score_ms), (raw, tries, abort, ttl_ms) in zip(
                entries, _groups(replies, [4] * len(entries)), strict=True
            )
        ]

    def _translated(self, waiting: Waiting, now_ms: int) -> tuple[NewJob, int]:
        """The job as our queue wants it, and when it was enqueued.

        Raises:
            Unreadable: it is not one that can be run.
        """
        if waiting.raw is None:
            raise Unreadable("its payload is gone: it was not run in the time that arq keeps it")
        envelope, payload = self._envelopes.read(waiting.raw)
        # arq counts attempts in a key of its own: the next one is one more, or what the enqueue asked for.
        job_try = max(waiting.tries + 1 if waiting.tries else 0, envelope["t"] or 0) or None
        if job_try != envelope["t"]:
            payload = self._envelopes.write({**envelope, "t": job_try})
        expires_ms = _expires_ms(waiting, envelope["et"], now_ms)
        terms = Terms(waiting.score_ms, f"a{max(waiting.score_ms, 0)}", expires_ms)
        try:
            new = new_job(waiting.id, envelope["f"], payload, terms, is_chosen_id=True)
        except ValueError as error:
            raise Unreadable(str(error)) from error
        nonce = "arq-" + hashlib.sha256(waiting.raw).hexdigest()[:16]  # the same each time: it tells our own work
        return structs.replace(new, nonce=nonce), envelope["et"]

    async def _move(self, ready: Sequence[tuple[Waiting, NewJob, str]]) -> list[int | str]:
        """Move each; a text says why one stays."""
        base = self._store.base
        create, cancel = await self._load(scripts.ENQUEUE), await self._load(scripts.CANCEL)
        forget = await self._redis.script_load(_FORGET)
        sizes = []
        async with self._redis.pipeline(transaction=True) as pipe:
            for waiting, new, kind in ready:
                before = len(pipe.command_stack)
                pipe.evalsha(create, 1, base, *enqueue_arguments([new]))
                if kind == ABORTED:
                    pipe.evalsha(cancel, 1, base, *scripts.CANCEL.arguments(id=new.id, nonce=new.nonce))
                prefixes = (_JOB, _RETRY, _IN_PROGRESS)
                keys = (base + b"j:" + new.id.encode(), self._queue, _ABORT, *(p + waiting.id for p in prefixes))
                pipe.evalsha(forget, len(keys), *keys, waiting.id, new.task, new.nonce)
                sizes.append(len(pipe.command_stack) - before)
            try:
                replies = await pipe.execute(raise_on_error=False)
            except ResponseError as error:  # it did not take the transaction at all: it is full, say
                # What redis-py puts before it are the command's arguments, and those are the job's.
                return [f"Redis refused it: {str(error).rpartition('caused error: ')[2]}"] * len(ready)
        return [_answer(each) for each in _groups(replies, sizes)]

    async def _load(self, verb: scripts.Verb) -> str:
        return str(await self._redis.script_load(verb.script.text))

    async def _running(self) -> AsyncIterator[str]:
        offset = 0
        while ids := await self._redis.zrange(self._queue, offset, offset + _LOOK_COUNT - 1):
            async with self._redis.pipeline(transaction=False) as pipe:
                for job_id in ids:
                    pipe.exists(_IN_PROGRESS + _text(job_id))
                replies = await pipe.execute()
            for job_id, is_running in zip(ids, replies, strict=True):
                if is_running:
                    yield _text(job_id)
            offset += len(ids)


@asynccontextmanager
async def migration_of(settings: Any, *, to_queue: str | None = None) -> AsyncGenerator[Migration]:
    """The migration of the queue that worker settings name; closes its connections in the end.

    Raises:
        StoreUnavailable, StoreRefused: Redis does not let us in.
        InvalidOption: ``to_queue`` cannot be a queue.
    """
    options = get_kwargs(settings)
    queue_name = options.get("queue_name") or default_queue_name
    where = as_settings(options.get("redis_pool") or options.get("redis_settings"))
    with _as_our_errors(where):
        redis = await create_pool(where)
        try:
            yield Migration(
                redis,
                queue_name,
                redis.link.store(to_queue or queue_name),
                deserializer=options.get("job_deserializer"),
                serializer=options.get("job_serializer"),
                health_check_key=options.get("health_check_key"),
            )
        finally:
            await redis.aclose(close_connection_pool=True)


@contextmanager
def _as_our_errors(where: RedisSettings) -> Iterator[None]:
    address = where.unix_socket_path or f"{where.host}:{where.port}"
    try:
        yield
    except AuthenticationError as error:
        raise StoreRefused(address, str(error)) from error
    except (RedisError, OSError) as error:
        raise StoreUnavailable(address, str(error)) from error


def _expires_ms(waiting: Waiting, enqueued_at_ms: int, now_ms: int) -> int | None:
    """What is left of the time that the enqueue gave it; None where that was arq's day: then it has a new one."""
    if waiting.expires_in_ms < 0:
        return None
    given_ms = waiting.expires_in_ms + now_ms - enqueued_at_ms
    if waiting.tries:  # its score has moved: how long it was deferred at first, nobody knows any more
        is_default = given_ms > expires_extra_ms - _CLOCKS_MS
    else:
        default_ms = max(0, waiting.score_ms - enqueued_at_ms) + expires_extra_ms
        is_default = abs(given_ms - default_ms) < _CLOCKS_MS
    return None if is_default else max(1, waiting.expires_in_ms)


def _kind(waiting: Waiting, enqueued_at_ms: int, now_ms: int) -> str:
    # arq never clears a mark whose job had ended already: an older one than the job was meant for another of its id.
    if waiting.abort_at_ms is not None and waiting.abort_at_ms >= enqueued_at_ms:
        return ABORTED
    if waiting.tries:
        return RETRYING
    return DEFERRED if waiting.score_ms > now_ms else QUEUED


def _answer(replies: Sequence[Any]) -> int | str:
    """What FORGET said if the job is in our queue; else why it stays."""
    created, forgotten = replies[0], replies[-1]
    if forgotten in (_OURS, _TWIN):
        return int(forgotten)
    for each in replies:
        if isinstance(each, RedisError):
            return f"Redis refused it: {each}"
    outcome, existing = created[1], created[2]
    if outcome == _CONFLICT:
        return f"its id belongs to a job of function {_text(existing)!r} in the new queue"
    return "a job of its id has ended in the new queue, or cannot be read there"


def _groups(replies: Sequence[Any], sizes: Sequence[int]) -> Iterator[Sequence[Any]]:
    first = 0
    for size in sizes:
        yield replies[first : first + size]
        first += size


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _count(value: bytes | None) -> int:
    return int(value) if value is not None and value.isdigit() else 0
