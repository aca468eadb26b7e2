"""The verbs of a queue, each one script: what Redis answers becomes words here and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, IntEnum
from typing import Literal

from arq_web.errors import JobIdConflict, StoreCorrupt
from arq_web.job import JobInfo
from arq_web.store import scripts
from arq_web.store.connection import Connections, Reply
from arq_web.store.keys import base_key
from arq_web.store.record import ClaimedJob, UnreadableRecord, payload_is_aside, read_claimed, read_info
from arq_web.store.scripts import Argument, Verb

WORKER_ALIVE_MS = 10_000
"""A worker that neither claimed nor renewed for so long counts as gone (for `check`, standby and warnings)."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """One job to create, as the enqueue script wants it.

    ``due`` and ``expires`` are ``"0"`` (none), ``"d<ms>"`` (from now, server time) or ``"a<ms>"`` (at, epoch).
    """

    id: str
    task: str
    payload: bytes
    nonce: str = "-"
    priority: int = 0
    due: str = "0"
    expires: str = "0"
    max_crashes: int = 3
    keep_s: int = 3600
    unique: str = "-"
    replace: bool = False
    extra: bytes = b""

    def arguments(self) -> tuple[Argument, ...]:
        """In the order of ``_create.lua``."""
        return (
            self.id,
            self.nonce,
            self.priority,
            self.due,
            self.expires,
            self.max_crashes,
            self.keep_s,
            self.unique,
            self.task,
            "1" if self.replace else "0",
            b" " + self.extra if self.extra else b"",
            self.payload,
        )


@dataclass(frozen=True, slots=True)
class Enqueued:
    """The answer for one job: its id (an existing job's, perhaps) and whether this request made it."""

    id: str
    created: bool


@dataclass(frozen=True, slots=True)
class EnqueueReply:
    """The answer for all jobs of one enqueue. ``attended``: a worker of the queue was seen lately."""

    jobs: list[Enqueued]
    attended: bool


class WorkerKind(Enum):
    """How a worker presents itself; an embedded one may stand back for external ones."""

    EXTERNAL = "x"
    EMBEDDED = "e"
    STANDBY = "s"


@dataclass(frozen=True, slots=True)
class ClaimReply:
    """What a claim brought, and what the claimer must know to wait well."""

    jobs: list[ClaimedJob]
    unreadable: list[tuple[bytes, bytes]]
    """Id and record of what was claimed but cannot be read here; it is with the queue's rejects now."""
    now_ms: int
    next_due_ms: int
    lease_count: int
    ready_count: int
    standby: bool


class Settled(IntEnum):
    """What became of one settle."""

    LOST = 0
    RECORDED = 1
    ALREADY = 2
    CANCELLED = 3


SettleOutcome = Literal["complete", "retry", "snooze", "park", "bury", "cancel", "crash", "release"]


@dataclass(frozen=True, slots=True)
class Settlement:
    """How one attempt ends. ``ms``: how long to keep the record (complete), or to wait (retry, snooze, park)."""

    job_id: str
    attempt: int
    token: str
    outcome: SettleOutcome
    ms: int = 0
    note: bytes = b""


class Renewed(IntEnum):
    """What became of one lease."""

    LOST = 0
    KEPT = 1
    CANCEL_REQUESTED = 2


@dataclass(frozen=True, slots=True)
class Held:
    """One attempt that a worker holds. ``is_lapsing``: known, but its lease must not be renewed any more."""

    job_id: str
    attempt: int
    token: str
    is_lapsing: bool = False


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """One job that was taken from a silent worker. ``state`` is ``q`` (queued), ``d`` (dead) or ``x`` (cancelled)."""

    id: str
    state: str
    crashes: int
    worker: str
    task: str


@dataclass(frozen=True, slots=True)
class ReclaimReply:
    """What a look for silent workers found. Times are server time, ms; 0 for none."""

    now_ms: int
    grace_until_ms: int
    earliest_lease_ms: int
    jobs: list[Reclaimed]


@dataclass(frozen=True, slots=True)
class FireReply:
    """What became of one tick: fired, early, moved, foreign, absent, conflict."""

    outcome: str
    now_ms: int
    tick_ms: int
    job_id: str


@dataclass(frozen=True, slots=True)
class WorkerSeen:
    """A worker that a queue has heard of lately."""

    id: str
    external: bool
    expires_ms: int


class Store:
    """One queue's verbs over the running loop's shared connection.

    Every method may raise StoreUnavailable (send it again: it is safe), StoreRefused, StoreFull or StoreCorrupt.
    """

    def __init__(
        self, connections: Connections, namespace: str, queue: str, *, keep_dead_ms: int = 7 * 86_400_000
    ) -> None:
        self.connections, self.namespace, self.queue = connections, namespace, queue
        self.base = base_key(namespace, queue)
        self._keep_dead_ms = keep_dead_ms

    async def enqueue(self, jobs: Sequence[NewJob]) -> EnqueueReply:
        """Create all of ``jobs``, or none.

        Raises:
            JobIdConflict: an id belongs to a job of another task.
            StoreFull: Redis has no memory left.
        """
        if not jobs:
            return EnqueueReply([], attended=True)
        rest: list[Argument] = []
        for job in jobs:
            rest += job.arguments()
        reply = await self._run_list(scripts.ENQUEUE, scripts.ENQUEUE.arguments(rest))
        if _int(reply[1]) == 2:
            tasks = {job.id: job.task for job in jobs}
            job_id = _text(reply[3])
            raise JobIdConflict(job_id, tasks[job_id], _text(reply[2]))
        if _int(reply[1]) == 3:
            raise self._corrupt(f"the record of job {_text(reply[3])!r} is not one of ours")
        answers = [Enqueued(_text(reply[i + 1]), _int(reply[i]) == 1) for i in range(1, len(reply), 2)]
        return EnqueueReply(answers, attended=_int(reply[0]) == 1)

    async def claim(self, worker: str, kind: WorkerKind, token: str, limit: int, lease_ms: int) -> ClaimReply:
        """Take up to ``limit`` ready jobs. The same ``token`` again returns the same jobs."""
        reply = await self._run_list(
            scripts.CLAIM,
            scripts.CLAIM.arguments(
                worker=worker,
                kind=kind.value,
                token=token,
                limit=limit,
                lease_ms=lease_ms,
                alive_ms=WORKER_ALIVE_MS,
                keep_dead_ms=self._keep_dead_ms,
            ),
        )
        now_ms, next_due_ms, lease_count, ready_count, standby = (_int(value) for value in reply[:5])
        jobs: list[ClaimedJob] = []
        unreadable: list[tuple[bytes, bytes]] = []
        for i in range(5, len(reply), 3):
            job_id, raw = _bytes(reply[i]), _bytes(reply[i + 1])
            try:
                jobs.append(read_claimed(job_id.decode(), self.queue, raw, _bytes(reply[i + 2])))
            except ValueError:
                unreadable.append((job_id, raw))
        if unreadable:
            await self._reject(worker, token, unreadable)
        return ClaimReply(jobs, unreadable, now_ms, next_due_ms, lease_count, ready_count, standby == 1)

    async def settle(self, worker: str, settlements: Sequence[Settlement]) -> list[Settled]:
        """End attempts; each is answered on its own. Safe to send twice."""
        rest: list[Argument] = []
        for s in settlements:
            rest += (s.job_id, s.attempt, s.token, s.outcome, s.ms, s.note)
        arguments = scripts.SETTLE.arguments(rest, worker=worker, keep_dead_ms=self._keep_dead_ms)
        return [Settled(_int(code)) for code in await self._run_list(scripts.SETTLE, arguments)]

    def renew_arguments(
        self, worker: str, kind: WorkerKind, lease_ms: int, last_token: str, held: Sequence[Held]
    ) -> list[Argument]:
        """The arguments of one renewal: sent by the renewal thread over its own connection."""
        rest: list[Argument] = []
        for lease in held:
            rest += (lease.job_id, 0 if lease.is_lapsing else lease.attempt, lease.token)
        return scripts.RENEW.arguments(
            rest,
            worker=worker,
            kind=kind.value,
            lease_ms=lease_ms,
            alive_ms=WORKER_ALIVE_MS,
            last_token=last_token or "-",
        )

    async def renew(
        self, worker: str, kind: WorkerKind, lease_ms: int, last_token: str, held: Sequence[Held]
    ) -> list[Renewed]:
        """Keep leases; each is answered on its own."""
        arguments = self.renew_arguments(worker, kind, lease_ms, last_token, held)
        return [Renewed(_int(code)) for code in await self._run_list(scripts.RENEW, arguments)]

    async def reclaim(self, limit: int = 100, grace_ms: int = 3000) -> ReclaimReply:
        """Take jobs from workers whose lease has passed."""
        arguments = scripts.RECLAIM.arguments(limit=limit, grace_ms=grace_ms, keep_dead_ms=self._keep_dead_ms)
        reply = await self._run_list(scripts.RECLAIM, arguments)
        jobs = [
            Reclaimed(
                _text(reply[i]), _text(reply[i + 1]), _int(reply[i + 2]), _text(reply[i + 3]), _text(reply[i + 4])
            )
            for i in range(3, len(reply), 5)
        ]
        return ReclaimReply(_int(reply[0]), _int(reply[1]), _int(reply[2]), jobs)

    async def cancel(self, job_id: str) -> str:
        """``cancelled``, ``requested``, ``finished`` or ``absent``."""
        return _text(await self._run(scripts.CANCEL, scripts.CANCEL.arguments(id=job_id)))

    async def redrive(self, job_id: str, nonce: str) -> str:
        """``redriven``, ``live``, ``succeeded``, ``held`` or ``absent``."""
        return _text(await self._run(scripts.REDRIVE, scripts.REDRIVE.arguments(id=job_id, nonce=nonce)))

    async def watch(self, job_id: str, channel: str) -> tuple[str, JobInfo | None]:
        """``ended`` and the job, ``watching`` and the job, or ``absent``."""
        reply = await self._run_list(scripts.WATCH, scripts.WATCH.arguments(id=job_id, channel=channel))
        info = self._info(job_id, _bytes(reply[1])) if len(reply) > 1 else None
        return _text(reply[0]), info

    async def progress(self, job_id: str, attempt: int, token: str, note: bytes) -> bool:
        """Note a running attempt's progress; False when it does not own the job any more."""
        arguments = scripts.PROGRESS.arguments(id=job_id, attempt=attempt, token=token, note=note)
        return _int(await self._run(scripts.PROGRESS, arguments)) == 1

    async def declare(self, name: str, fingerprint: str, first_tick_ms: int) -> tuple[int, int]:
        """Make a schedule known; returns server time and its next tick, ms."""
        arguments = scripts.DECLARE.arguments(name=name, fingerprint=fingerprint, first_tick_ms=first_tick_ms)
        reply = await self._run_list(scripts.DECLARE, arguments)
        return _int(reply[0]), _int(reply[1])

    async def fire(self, name: str, fingerprint: str, tick_ms: int, next_tick_ms: int, job: NewJob | None) -> FireReply:
        """Enqueue the job of one tick (none for a skipped one) and move the schedule on."""
        arguments = scripts.FIRE.arguments(
            job.arguments() if job else (),
            name=name,
            fingerprint=fingerprint,
            tick_ms=tick_ms,
            next_tick_ms=next_tick_ms,
        )
        reply = await self._run_list(scripts.FIRE, arguments)
        return FireReply(_text(reply[0]), _int(reply[1]), _int(reply[2]), _text(reply[3]))

    async def read(self, job_id: str, *, with_payload: bool = False) -> JobInfo | None:
        """One look at a job; None when there is none. ``payload`` is filled only if asked for (or small)."""
        connection = self.connections.get(self.base)
        raw = await connection.execute("GET", self.base + b"j:" + job_id.encode())
        if not isinstance(raw, bytes):
            return None
        info = self._info(job_id, raw)
        if not with_payload or not payload_is_aside(raw):
            return info
        found = await connection.execute("GET", self.base + b"p:" + job_id.encode())
        return replace(info, payload=_bytes(found))

    async def leave(self, worker: str, kind: WorkerKind) -> None:
        """A worker ends: it does not count as listening any more."""
        connection = self.connections.get(self.base)
        await connection.execute("ZREM", self.base + b"workers", f"{kind.value} {worker}")

    async def workers(self) -> list[WorkerSeen]:
        """Workers that claimed or renewed in the last ten seconds."""
        connection = self.connections.get(self.base)
        now = await connection.execute("TIME")
        assert isinstance(now, list)
        now_ms = _int(now[0]) * 1000
        reply = await connection.execute("ZRANGEBYSCORE", self.base + b"workers", now_ms, "+inf", "WITHSCORES")
        assert isinstance(reply, list)
        seen = []
        for i in range(0, len(reply), 2):
            kind, _, name = _bytes(reply[i]).decode(errors="replace").partition(" ")
            seen.append(WorkerSeen(name, kind == "x", int(float(_bytes(reply[i + 1])))))
        return seen

    async def server_now_ms(self) -> int:
        """Redis' own clock, ms."""
        reply = await self.connections.get(self.base).execute("TIME")
        assert isinstance(reply, list)
        return _int(reply[0]) * 1000 + _int(reply[1]) // 1000

    async def _reject(self, worker: str, token: str, unreadable: Sequence[tuple[bytes, bytes]]) -> None:
        """Put what was claimed under ``token`` but is not ours to the rejects: as a job it would come back for ever."""
        rest: list[Argument] = []
        for job_id, raw in unreadable:
            rest += (job_id, raw.split(b" ", 2)[1], token, "reject", 0, b"claimed, but not readable")
        arguments = scripts.SETTLE.arguments(rest, worker=worker, keep_dead_ms=self._keep_dead_ms)
        await self._run(scripts.SETTLE, arguments)

    def _info(self, job_id: str, raw: bytes) -> JobInfo:
        try:
            return read_info(job_id, self.queue, raw)
        except UnreadableRecord as error:
            raise self._corrupt(f"the record of job {job_id!r}: {error}") from error

    async def _run(self, verb: Verb, arguments: Sequence[Argument]) -> Reply:
        return await self.connections.get(self.base).run_script(verb.script, (self.base,), arguments)

    async def _run_list(self, verb: Verb, arguments: Sequence[Argument]) -> list[Reply]:
        reply = await self._run(verb, arguments)
        if not isinstance(reply, list):
            raise self._corrupt(f"script {verb.script.name!r} answered {reply!r}")
        return reply

    def _corrupt(self, why: str) -> StoreCorrupt:
        return StoreCorrupt(self.connections.target.address, why)


def _bytes(value: Reply) -> bytes:
    return value if isinstance(value, bytes) else b""


def _text(value: Reply) -> str:
    return _bytes(value).decode(errors="replace")


def _int(value: Reply) -> int:
    return int(value) if isinstance(value, (int, bytes)) else 0
