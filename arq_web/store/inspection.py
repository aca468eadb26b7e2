"""Looks at a queue for people: what waits, runs, is dead, was rejected. Reads only, and only a page at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from arq_web.errors import StoreCorrupt
from arq_web.job import JobInfo, JobState
from arq_web.store.connection import Arg, Reply
from arq_web.store.record import STATES, UnreadableRecord, read_info
from arq_web.store.store import Store, WorkerSeen

_PAGE_COUNT = 50
_MAX_LOOKED_AT = 10_000
_LETTERS = {state: letter for letter, state in STATES.items()}


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """How much of everything a queue holds. Of finished jobs only the dead are counted: nothing indexes the others."""

    now_ms: int
    """Server time of this look."""
    queued: int
    waiting: int
    """Due later: scheduled or retrying."""
    running: int
    dead: int
    rejected: int


@dataclass(frozen=True, slots=True)
class Page:
    """Some jobs of one state. ``cursor`` asks for the next page; None when there is none."""

    jobs: list[JobInfo] = field(default_factory=list)
    cursor: int | None = None
    unreadable: list[str] = field(default_factory=list)
    """Ids whose record is missing or not ours; the next claim moves them to the rejects."""


@dataclass(frozen=True, slots=True)
class Reject:
    """Something in the queue that was no job of ours, with its raw bytes. Kept for a week."""

    at_ms: int
    reason: str
    id: str
    raw: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class ScheduleSeen:
    """A schedule as Redis knows it."""

    name: str
    next_tick_ms: int
    last_tick_ms: int | None
    fingerprint: str


class Inspector:
    """Read verbs over one queue. Every method may raise StoreUnavailable or StoreRefused."""

    def __init__(self, store: Store) -> None:
        self._store, self._base = store, store.base

    async def counts(self) -> QueueCounts:
        """How much of everything there is: one round trip, and cheap."""
        queued, due, leases, dead, rejects, now_ms = await asyncio.gather(
            self._execute("ZCARD", self._base + b"ready"),
            self._execute("ZCARD", self._base + b"due"),
            self._execute("ZCARD", self._base + b"leases"),
            self._execute("ZCARD", self._base + b"dead"),
            self._execute("LLEN", self._base + b"rejects"),
            self._store.server_now_ms(),
        )
        return QueueCounts(now_ms, _int(queued), _int(due), _int(leases), _int(dead), _int(rejects))

    async def jobs(self, state: JobState, *, limit: int = 50, cursor: int = 0, scans: int | None = None) -> Page:
        """Jobs of one state: the next ones first; the newest first where they are dead.

        ``succeeded``, ``cancelled`` and ``expired`` are in no index: they are looked for in the whole database (SCAN),
        which is slow in a large one, comes in no order, and may bring more than ``limit``.

        Args:
            state: which ones.
            limit: how many at most.
            cursor: of the page before.
            scans: how many times SCAN is sent at most, where it is; None until there is enough.
        """
        match state:
            case JobState.QUEUED:
                return await self._indexed(b"ready", state, limit, cursor)
            case JobState.RUNNING:
                return await self._indexed(b"leases", state, limit, cursor)
            case JobState.SCHEDULED | JobState.RETRYING:
                return await self._indexed(b"due", state, limit, cursor)
            case JobState.DEAD:
                return await self._indexed(b"dead", state, limit, cursor, newest_first=True)
            case _:
                return await self._scanned(state, limit, cursor, scans)

    async def dead_ids(self, *, until_ms: int, skip: int = 0, limit: int = 100) -> list[str]:
        """Ids that died until then (server time), the oldest first; the records of some may be gone already."""
        reply = await self._execute("ZRANGEBYSCORE", self._base + b"dead", "-inf", until_ms, "LIMIT", skip, limit)
        return [_bytes(each).decode(errors="replace") for each in _list(reply)]

    async def rejects(self, *, limit: int = 50) -> list[Reject]:
        """What was found in the queue and was no job of ours, the newest first."""
        reply = await self._execute("LRANGE", self._base + b"rejects", 0, limit - 1)
        return [_read_reject(_bytes(each)) for each in _list(reply)]

    async def schedules(self, names: Sequence[str]) -> list[ScheduleSeen]:
        """Those of the named schedules that some worker has declared."""
        if not names:
            return []
        replies = await asyncio.gather(*(self._execute("GET", self._base + b"s:" + name.encode()) for name in names))
        found = []
        for name, reply in zip(names, replies, strict=True):
            words = _bytes(reply).split(b" ")
            if len(words) == 3:
                found.append(ScheduleSeen(name, int(words[0]), int(words[2]) or None, words[1].decode()))
        return found

    async def workers(self) -> list[WorkerSeen]:
        """Workers that were heard of in the last ten seconds."""
        return await self._store.workers()

    async def counters(self, minutes: Sequence[int]) -> dict[int, dict[str, int]]:
        """What happened in each of those minutes (Unix time / 60), by name: ``enqueued``, ``complete``, ..."""
        keys = [self._base + b"m:%d" % minute for minute in minutes]
        replies = await asyncio.gather(*(self._execute("HGETALL", key) for key in keys))
        return {minute: _counts_of(_list(reply)) for minute, reply in zip(minutes, replies, strict=True)}

    async def held_counts(self, workers: Sequence[str]) -> list[int]:
        """How many jobs of this queue each of the workers holds."""
        keys = [self._base + b"h:" + worker.encode() for worker in workers]
        return [_int(reply) for reply in await asyncio.gather(*(self._execute("SCARD", key) for key in keys))]

    async def find(self, prefix: str, *, limit: int = 10) -> list[str]:
        """Ids that begin like this, up to about ``limit``: looks through the whole database (SCAN)."""
        ids: list[str] = []
        position = 0
        while len(ids) < limit:
            position, found = await self._scan(position, prefix.encode())
            ids += [job_id for job_id in found if job_id not in ids]
            if not position:
                break
        return sorted(ids)

    async def _indexed(
        self, index: bytes, state: JobState, limit: int, cursor: int, *, newest_first: bool = False
    ) -> Page:
        """A page of a sorted set, without those whose record says another state (the index is shared, or was left)."""
        verb = "ZREVRANGE" if newest_first else "ZRANGE"
        page, looked_at = Page(), 0
        while len(page.jobs) < limit and looked_at < _MAX_LOOKED_AT:
            count = min(_PAGE_COUNT, limit - len(page.jobs))
            start = cursor + looked_at
            reply = _list(await self._execute(verb, self._base + index, start, start + count - 1))
            await self._fill(page, [_bytes(each).decode(errors="replace") for each in reply], state)
            looked_at += len(reply)
            if len(reply) < count:
                return page
        next_one = cursor + looked_at
        has_more = bool(_list(await self._execute(verb, self._base + index, next_one, next_one)))
        return Page(page.jobs, next_one if has_more else None, page.unreadable)

    async def _scanned(self, state: JobState, limit: int, cursor: int, scans: int | None) -> Page:
        page, seen = Page(), set[str]()
        scanned_count = 0
        while len(page.jobs) < limit and scanned_count != scans:
            scanned_count += 1
            cursor, found = await self._scan(cursor, b"")
            new = [job_id for job_id in found if job_id not in seen]
            seen.update(new)
            letters = await asyncio.gather(*(self._letter(job_id) for job_id in new))
            wanted = [job_id for job_id, letter in zip(new, letters, strict=True) if letter == _LETTERS[state]]
            for first in range(0, len(wanted), _PAGE_COUNT):
                await self._fill(page, wanted[first : first + _PAGE_COUNT], state)
            if not cursor:
                return page
        return Page(page.jobs, cursor, page.unreadable)

    async def _scan(self, position: int, prefix: bytes) -> tuple[int, list[str]]:
        # Of a job id's characters and our own, none means anything in a pattern but these.
        escaped = prefix.replace(b"\\", b"\\\\").replace(b"*", b"\\*").replace(b"?", b"\\?").replace(b"[", b"\\[")
        start = self._base + b"j:"
        reply = _list(await self._execute("SCAN", position, "MATCH", start + escaped + b"*", "COUNT", 500))
        keys = [_bytes(each) for each in _list(reply[1])]
        return _int(reply[0]), [key[len(start) :].decode(errors="replace") for key in keys]

    async def _letter(self, job_id: str) -> bytes:
        """The state of a record, without reading all of it: results may be large."""
        try:
            return _bytes(await self._execute("GETRANGE", self._key(job_id), 0, 0))
        except StoreCorrupt:
            return b""  # of another type: not a job

    async def _fill(self, page: Page, ids: Sequence[str], state: JobState) -> None:
        if not ids:
            return
        raws = _list(await self._execute("MGET", *(self._key(job_id) for job_id in ids)))
        for job_id, raw in zip(ids, raws, strict=True):
            try:
                info = read_info(job_id, self._store.queue, _bytes(raw))
            except (UnreadableRecord, UnicodeDecodeError):
                # Of the dead a missing record is no news: its time has passed. The others must have one.
                if raw is not None or state is not JobState.DEAD:
                    page.unreadable.append(job_id)
                continue
            if info.state is state:
                page.jobs.append(info)

    def _key(self, job_id: str) -> bytes:
        return self._base + b"j:" + job_id.encode()

    async def _execute(self, *args: Arg) -> Reply:
        return await self._store.connections.get(self._base).execute(*args)


def _read_reject(entry: bytes) -> Reject:
    try:
        at, reason, length, rest = entry.split(b"\n", 3)
        split = int(length)
        return Reject(int(at), reason.decode(errors="replace"), rest[:split].decode(errors="replace"), rest[split:])
    except ValueError:
        return Reject(0, "unreadable entry", "", entry)


def _counts_of(pairs: Sequence[Reply]) -> dict[str, int]:
    return {_bytes(pairs[at]).decode(errors="replace"): _int(pairs[at + 1]) for at in range(0, len(pairs) - 1, 2)}


def _bytes(value: Reply) -> bytes:
    return value if isinstance(value, bytes) else b""


def _int(value: Reply) -> int:
    return int(value) if isinstance(value, (int, bytes)) else 0


def _list(value: Reply) -> list[Reply]:
    return value if isinstance(value, list) else []
