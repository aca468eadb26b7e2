"""The verbs of a queue, each one script: what Redis answers becomes words here and nowhere else."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace

from arq_web.errors import (
    ArqWebError,
    IdempotencyKeyReused,
    IdempotentJobGone,
    JobIdConflict,
    QueueFull,
    StoreCorrupt,
)
from arq_web.job import JobInfo
from arq_web.store import scripts
from arq_web.store.connection import Connections, Reply
from arq_web.store.gathering import NO_KEY, Gatherer, enqueue_arguments
from arq_web.store.keys import base_key
from arq_web.store.messages import (
    ClaimReply,
    Enqueued,
    EnqueueReply,
    FireReply,
    Held,
    Idempotency,
    NewJob,
    Reclaimed,
    ReclaimReply,
    Renewed,
    Replace,
    Settled,
    Settlement,
    SettleOutcome,
    WorkerKind,
    WorkerSeen,
    in_parts,
    worker_seen,
)
from arq_web.store.record import ClaimedJob, UnreadableRecord, payload_is_aside, read_claimed, read_info
from arq_web.store.scripts import Argument, Verb

__all__ = [
    "WORKER_ALIVE_MS",
    "ClaimReply",
    "EnqueueReply",
    "Enqueued",
    "FireReply",
    "Held",
    "Idempotency",
    "NewJob",
    "ReclaimReply",
    "Reclaimed",
    "Renewed",
    "Replace",
    "SettleOutcome",
    "Settled",
    "Settlement",
    "Store",
    "WorkerKind",
    "WorkerSeen",
]

WORKER_ALIVE_MS = 10_000
"""A worker that neither claimed nor renewed for so long counts as gone (for `check`, standby and warnings)."""


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
        self._gatherer = Gatherer(lambda: connections.get(self.base), self.base)

    async def enqueue(
        self, jobs: Sequence[NewJob], *, max_queued: int = 0, once: Idempotency | None = None
    ) -> EnqueueReply:
        """Create all of ``jobs``, or none; more than a thousand (or 4 MiB of payloads) go in such parts.

        Args:
            jobs: what to create.
            max_queued: how many may wait for a worker, these included; 0 for any number. Of a request that made
                its job already, or finds one that exists, nothing is refused.
            once: the same request may come again, and is to make no other job. For one job only.

        Raises:
            JobIdConflict: an id belongs to a job of another task; nothing of its part was written.
            QueueFull: so many wait already; nothing of its part was written.
            IdempotencyKeyReused: the key of ``once`` stands for a request with other values.
            IdempotentJobGone: its job was made, and its record's time has passed.
            StoreFull: Redis has no memory left.
        """
        if once is not None and len(jobs) != 1:
            raise ValueError(f"an idempotency key stands for one job, not for {len(jobs)}")
        answers: list[Enqueued] = []
        attended = True
        for part in in_parts(jobs):
            reply = await self._enqueue_part(part, max_queued, once)
            for i in range(1, len(reply), 2):
                outcome = _int(reply[i])
                answers.append(Enqueued(_text(reply[i + 1]), outcome == _CREATED, outcome == _REPLAYED))
            attended = _int(reply[0]) == 1
        return EnqueueReply(answers, attended)

    async def claim(
        self, worker: str, kind: WorkerKind, token: str, limit: int, lease_ms: int, *, slots: int = 1
    ) -> ClaimReply:
        """Take up to ``limit`` ready jobs. The same ``token`` again returns the same jobs.

        ``slots``, here and below: how many jobs the worker can run at the same time, for those who ask how many can.
        """
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
                slots=slots,
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
        return [_SETTLED[_int(code)] for code in await self._run_list(scripts.SETTLE, arguments)]

    def renew_arguments(
        self,
        worker: str,
        kind: WorkerKind,
        lease_ms: int,
        last_token: str,
        held: Sequence[Held],
        *,
        asked_ms: int = 0,
        slots: int = 1,
    ) -> list[Argument]:
        """The arguments of one renewal: sent by the renewal thread over its own connection.

        ``asked_ms`` is the server's time as this process knows it; 0 when it does not. Then only what no claim can be
        about is handed back.
        """
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
            asked_ms=asked_ms,
            slots=slots,
        )

    async def renew(
        self,
        worker: str,
        kind: WorkerKind,
        lease_ms: int,
        last_token: str,
        held: Sequence[Held],
        *,
        asked_ms: int = 0,
        slots: int = 1,
    ) -> list[Renewed]:
        """Keep leases; each is answered on its own."""
        arguments = self.renew_arguments(worker, kind, lease_ms, last_token, held, asked_ms=asked_ms, slots=slots)
        return [Renewed(_int(code)) for code in await self._run_list(scripts.RENEW, arguments)]

    async def reclaim(self, limit: int = 100, grace_ms: int = 3000, *, dead: Sequence[str] = ()) -> ReclaimReply:
        """Take jobs from workers whose lease has passed (at most ``limit``), and all jobs of the ``dead`` workers."""
        arguments = scripts.RECLAIM.arguments(dead, limit=limit, grace_ms=grace_ms, keep_dead_ms=self._keep_dead_ms)
        reply = await self._run_list(scripts.RECLAIM, arguments)
        jobs = [
            Reclaimed(
                _text(reply[i]), _text(reply[i + 1]), _int(reply[i + 2]), _text(reply[i + 3]), _text(reply[i + 4])
            )
            for i in range(3, len(reply), 5)
        ]
        return ReclaimReply(_int(reply[0]), _int(reply[1]), _int(reply[2]), jobs)

    async def cancel(self, job_id: str, *, by_worker: bool = False, nonce: str | None = None) -> str:
        """``cancelled``, ``requested``, ``finished`` or ``absent``.

        ``by_worker``: a job that waits is not ended here but given to a worker, marked, which ends it before it starts.
        ``nonce``, here and below: of this request, which acts once; None: a new request.
        """
        rest = ("by_worker",) if by_worker else ()
        arguments = scripts.CANCEL.arguments(rest, id=job_id, nonce=nonce or secrets.token_urlsafe(8))
        return _text(await self._run(scripts.CANCEL, arguments))

    async def dismiss(self, job_id: str, *, nonce: str | None = None) -> str:
        """``dismissed``, ``requested`` (it runs yet, and is asked to end) or ``absent``."""
        arguments = scripts.DISMISS.arguments(id=job_id, nonce=nonce or secrets.token_urlsafe(8))
        return _text(await self._run(scripts.DISMISS, arguments))

    async def redrive(self, job_id: str, nonce: str) -> str:
        """``redriven``, ``live``, ``succeeded``, ``held`` or ``absent``."""
        return _text(await self._run(scripts.REDRIVE, scripts.REDRIVE.arguments(id=job_id, nonce=nonce)))

    async def watch(self, job_id: str, channel: str, *, follow: bool = False) -> tuple[str, JobInfo | None]:
        """``ended`` and the job, ``watching`` and the job, or ``absent``. ``follow``: each change is to be told too."""
        arguments = scripts.WATCH.arguments(id=job_id, channel=channel, follow=int(follow))
        reply = await self._run_list(scripts.WATCH, arguments)
        info = self._info(job_id, _bytes(reply[1])) if len(reply) > 1 else None
        return _text(reply[0]), info

    async def progress(self, job_id: str, attempt: int, token: str, note: bytes) -> bool:
        """Note a running attempt's progress; False when it does not own the job any more."""
        arguments = scripts.PROGRESS.arguments(id=job_id, attempt=attempt, token=token, note=note)
        return _int(await self._run(scripts.PROGRESS, arguments)) == 1

    async def abandon(self, job_id: str, attempt: int, token: str) -> bool:
        """The process ends before this attempt: its lapsed lease is to cost nothing. False when it lost the job."""
        arguments = scripts.ABANDON.arguments(id=job_id, attempt=attempt, token=token)
        return _int(await self._run(scripts.ABANDON, arguments)) == 1

    async def blame(self, job_id: str, attempt: int, token: str) -> bool:
        """A suspect runs in its worker: should that die, it is held against the job. False when it lost the job."""
        arguments = scripts.BLAME.arguments(id=job_id, attempt=attempt, token=token)
        return _int(await self._run(scripts.BLAME, arguments)) == 1

    async def declare(self, name: str, fingerprint: str, first_tick_ms: int) -> tuple[int, int]:
        """Make a schedule known; returns server time and its next tick, ms."""
        arguments = scripts.DECLARE.arguments(name=name, fingerprint=fingerprint, first_tick_ms=first_tick_ms)
        reply = await self._run_list(scripts.DECLARE, arguments)
        return _int(reply[0]), _int(reply[1])

    async def fire(
        self,
        name: str,
        fingerprint: str,
        tick_ms: int,
        next_tick_ms: int,
        job: NewJob | None,
        *,
        asker: str = "-",
    ) -> FireReply:
        """Enqueue the job of one tick (none for a skipped one) and move the schedule on. ``asker``: who skips it."""
        arguments = scripts.FIRE.arguments(
            job.arguments() if job else (),
            name=name,
            fingerprint=fingerprint,
            tick_ms=tick_ms,
            next_tick_ms=next_tick_ms,
            asker=asker,
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

    async def records(self, job_ids: Sequence[str]) -> list[bytes | None]:
        """The records themselves, by one command; None where there is none (or something else is in its place)."""
        keys = [self.base + b"j:" + job_id.encode() for job_id in job_ids]
        reply = await self.connections.get(self.base).execute("MGET", *keys)
        assert isinstance(reply, list)
        return [raw if isinstance(raw, bytes) else None for raw in reply]

    async def leave(self, worker: str, kind: WorkerKind, *, slots: int = 1) -> None:
        """A worker ends: it does not count as listening any more."""
        connection = self.connections.get(self.base)
        await connection.execute("ZREM", self.base + b"workers", f"{kind.value}{slots} {worker}")

    async def workers(self) -> list[WorkerSeen]:
        """Workers that claimed or renewed in the last ten seconds."""
        connection = self.connections.get(self.base)
        now = await connection.execute("TIME")
        assert isinstance(now, list)
        now_ms = _int(now[0]) * 1000
        reply = await connection.execute("ZRANGEBYSCORE", self.base + b"workers", now_ms, "+inf", "WITHSCORES")
        assert isinstance(reply, list)
        return [worker_seen(_bytes(reply[i]), int(float(_bytes(reply[i + 1])))) for i in range(0, len(reply), 2)]

    async def server_now_ms(self) -> int:
        """Redis' own clock, ms."""
        reply = await self.connections.get(self.base).execute("TIME")
        assert isinstance(reply, list)
        return _int(reply[0]) * 1000 + _int(reply[1]) // 1000

    async def _enqueue_part(self, jobs: Sequence[NewJob], max_queued: int, once: Idempotency | None) -> list[Reply]:
        if len(jobs) == 1 and once is None:
            reply = self._list(scripts.ENQUEUE, await self._gatherer.enqueue(jobs[0], max_queued))
        else:
            arguments = enqueue_arguments(jobs, max_queued, once.word() if once else NO_KEY)
            reply = await self._run_list(scripts.ENQUEUE, arguments)
        if _int(reply[1]) not in _ENQUEUED:
            raise self._refused(reply, jobs, max_queued)
        return reply

    def _refused(self, reply: Sequence[Reply], jobs: Sequence[NewJob], max_queued: int) -> ArqWebError:
        """Why an enqueue was refused as a whole."""
        why, job_id = reply[2], _text(reply[3])
        match _int(reply[1]):
            case 2:
                return JobIdConflict(job_id, next(job.task for job in jobs if job.id == job_id), _text(why))
            case 5:
                return IdempotencyKeyReused(_text(why))
            case 6:
                return IdempotentJobGone(_text(why))
            case 7:
                return QueueFull(self.queue, _int(why), max_queued)
            case _:
                return self._corrupt(f"the record of job {job_id!r} is not one of ours")

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
            raise self.corrupt_record(job_id, error) from error

    def corrupt_record(self, job_id: str, error: UnreadableRecord) -> StoreCorrupt:
        """What is raised for a record that cannot be read."""
        return self._corrupt(f"the record of job {job_id!r}: {error}")

    async def _run(self, verb: Verb, arguments: Sequence[Argument]) -> Reply:
        return await self.connections.get(self.base).run_script(verb.script, (self.base,), arguments)

    async def _run_list(self, verb: Verb, arguments: Sequence[Argument]) -> list[Reply]:
        return self._list(verb, await self._run(verb, arguments))

    def _list(self, verb: Verb, reply: Reply) -> list[Reply]:
        if not isinstance(reply, list):
            raise self._corrupt(f"script {verb.script.name!r} answered {reply!r}")
        return reply

    def _corrupt(self, why: str) -> StoreCorrupt:
        return StoreCorrupt(self.connections.target.address, why)


_SETTLED = {answer.value: answer for answer in Settled}
_EXISTS, _CREATED, _REPLAYED = 0, 1, 4
_ENQUEUED = (_EXISTS, _CREATED, _REPLAYED)


def _bytes(value: Reply) -> bytes:
    return value if isinstance(value, bytes) else b""


def _text(value: Reply) -> str:
    return _bytes(value).decode(errors="replace")


def _int(value: Reply) -> int:
    return int(value) if isinstance(value, (int, bytes)) else 0
