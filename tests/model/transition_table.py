"""The rules of a queue, in plain Python: read this to learn what every verb does.

No Redis, and no code of ours but the words of a request. ``tests/model/machine.py`` asks this and the real store the
same questions, in any order, and they must never differ. The table (design §2), as the methods below have it::

    from                        verb                    to
    -                           enqueue                 queued, or scheduled if due later
    scheduled, retrying         promote (in a claim)    queued; expired if past its expires
    queued                      claim                   running, attempt + 1, new token; expired if past its expires
    running                     settle complete         succeeded
    running                     settle retry            retrying, failures + 1
    running                     settle bury             dead, failures + 1
    running                     settle snooze, park     scheduled
    running                     settle release          queued, at the head
    running                     settle crash, reclaim   queued at the head, crashes + 1; dead if that was one too many
    running, a suspect          reclaim                 queued at the head, unspent, twice; then as every other
    running                     settle cancel           cancelled
    scheduled, queued, retrying cancel                  cancelled
    scheduled, queued, retrying cancel by a worker      queued, at the head, asked to end: whoever claims it cancels it
    running                     cancel                  running, asked to end: not queued again, but cancelled
    running                     abandon                 running; a crash will be a release
    running                     blame                   running, as every other
    scheduled, queued, retrying dismiss                 cancelled, out of sight
    running                     dismiss                 running, asked to end: out of sight, whatever it comes to
    ended                       dismiss                 the same, out of sight; its id is free
    dead, cancelled, expired    redrive                 queued behind the others, failures and crashes 0
    ended                       enqueue of the same id  queued or scheduled anew, if the request says that it gives way
    any                         enqueue under its key   the same: an earlier request under that key has had this answer

Three rules hold all of it together. A running job belongs to one attempt, known by (attempt, token): nobody else's
settle or progress counts. A unique key belongs to one live job. A request that arrives twice is known, and changes
nothing.

Times are ms of one clock, which the caller gives (``now``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from arq_web.job import JobState
from arq_web.store.messages import Held, Idempotency, NewJob, Renewed, Replace, Settled, Settlement
from tests.model.choices import SLOTS
from tests.model.things import NOBODY, Claimed, Conflict, Job, Key, Refused, Schedule, Worker

KEEP_DEAD_MS = 300_000
SHORTEST_KEEP_MS = 60_000
"""No record goes earlier after its end: who sends a request again must find it."""
ALIVE_MS = 10_000
"""For how long a worker that was heard of counts as there."""
CLAIM_KEPT_MS = 60_000
"""For how long after its lease a worker's last claim is known."""
LOOK_KEPT_MS = 60_000
WATCH_MS = 60_000
ANSWER_KEPT_MS = 180_000
WAKE_MS = 60_000
WEEK_MS = 604_800_000
MOST_SPARED = 2


class Queue:
    """A queue by the book."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.workers: dict[str, Worker] = {}
        self.present: dict[str, int] = {}
        self.schedules: dict[str, Schedule] = {}
        self.keys: dict[str, Key] = {}
        self.told: dict[str, tuple[str, int]] = {}
        """What a request was told that acts once, by its nonce and id; and until when that is known."""
        self.counted: Counter[str] = Counter()
        self.last_look = self.grace_until = self.look_known_until = self.awake_until = 0
        self._lined_up = 0

    # -- the verbs ------------------------------------------------------------------------

    def enqueue(
        self, now: int, requests: Sequence[NewJob], max_queued: int = 0, once: Idempotency | None = None
    ) -> tuple[list[tuple[str, bool, bool]], bool]:
        """All or nothing. Each answer: an id, whether this request made it, whether one under its key has."""
        self.pass_to(now)
        if once and (known := self.keys.get(once.key)):
            return [self._answer_again(known, once, requests[0])], bool(self.present)
        answers: list[tuple[str, bool, bool]] = []
        planned: list[Job] = []
        for request in requests:
            standing = self._standing_in_the_way(now, request, planned)
            if _is_conflict(standing, request):
                raise Conflict(request.id)
            if standing is None:
                planned.append(self._new_job(now, request))
            is_sent_again = standing not in planned and _is_same_request(standing, request)
            answers.append((standing.id if standing else request.id, standing is None or is_sent_again, False))
        queued = sum(job.state is JobState.QUEUED for job in planned)
        waiting = len(self.ready()) + sum(job.due <= now for job in self.waiting())
        if max_queued and queued and waiting + queued > max_queued:
            raise Refused("full", waiting)
        if once:
            self.keys[once.key] = Key(once.fingerprint, answers[0][0], requests[0].nonce, now + once.keep_ms)
        for job in planned:
            self._enter(now, job)
        return answers, bool(self.present)

    def claim(self, now: int, worker: str, kind: str, token: str, limit: int, lease_ms: int) -> Claimed:
        """Promote what is due, then take ready jobs in their order; the same token again brings the same jobs."""
        self.pass_to(now)
        self._show_up(now, kind, worker)
        me = self.workers.setdefault(worker, Worker())
        is_standby = kind == "s" and any(name.startswith("x") for name in self.present)
        taken: list[Job] = []
        if me.last_token == token:
            brought = [self.jobs[name] for name in me.brought if name in self.jobs]
            taken = [job for job in brought if job.state is JobState.RUNNING and job.token == token]
        elif _number(token) > _number(me.last_token):
            self._promote(now)
            taken = self._take(now, worker, token, 0 if is_standby else limit)
        for job in taken:
            job.lease = now + lease_ms
        if taken:
            me.holds |= {job.id for job in taken}
            me.holds_known_until = now + 8 * lease_ms
        if _number(token) >= _number(me.last_token):  # an older copy is not worth remembering
            me.last_token, me.brought, me.last_claimed, me.claim_lease = token, [j.id for j in taken], now, lease_ms
            me.claim_known_until = now + lease_ms + CLAIM_KEPT_MS
        if self.ready():
            self._wake(now)  # others may have free slots
        return Claimed(
            [(job.id, job.attempt, job.token) for job in taken],
            min((job.due for job in self.waiting()), default=0),
            len(self.leased()),
            len(self.ready()),
            is_standby,
        )

    def settle(self, now: int, worker: str, settlements: Sequence[Settlement]) -> list[Settled]:
        """End attempts, each by its own outcome; all are checked before any is written."""
        self.pass_to(now)
        answers: list[Settled] = []
        owned: dict[str, tuple[int, Settlement]] = {}
        for index, entry in enumerate(settlements):
            job = self.jobs.get(entry.job_id)
            if job is None or not job.is_owned_by(entry.attempt, entry.token):
                answers.append(Settled.LOST)
            elif job.state is not JobState.RUNNING or job.id in owned:
                answers.append(Settled.CANCELLED if job.state is JobState.CANCELLED else Settled.ALREADY)
            else:
                answers.append(Settled.RECORDED)
                owned[job.id] = index, entry
        for index, entry in owned.values():
            job = self.jobs[entry.job_id]
            self._let_go(worker, job)
            self._outcomes[entry.outcome](now, job, entry)
            if job.state is JobState.CANCELLED:
                answers[index] = Settled.CANCELLED
        return answers

    def renew(
        self, now: int, worker: str, kind: str, lease_ms: int, last_token: str, held: Sequence[Held], asked: int
    ) -> list[Renewed]:
        """Keep the leases of what the worker lists; hand back, unspent, what it holds without knowing."""
        self.pass_to(now)
        self._show_up(now, kind, worker)
        me = self.workers.setdefault(worker, Worker())
        listed: set[str] = set()
        answers: list[Renewed] = []
        for lease in held:
            job = self.jobs.get(lease.job_id)
            if lease.is_lapsing:
                answers.append(Renewed.KEPT)
            elif job and job.state is JobState.RUNNING and job.is_owned_by(lease.attempt, lease.token):
                answers.append(Renewed.CANCEL_REQUESTED if job.is_cancel_requested else Renewed.KEPT)
                job.lease = now + lease_ms
            else:
                answers.append(Renewed.LOST)
                continue
            listed.add(lease.job_id)
        # Jobs of a claim whose answer is still on its way are not on the list, and yet no orphans.
        has_read_all = me.last_token != "" and me.last_token == last_token
        is_unread = not me.last_token or now - me.last_claimed >= me.claim_lease - lease_ms // 4
        is_fresh = abs(now - asked) <= lease_ms // 8
        if has_read_all or (is_unread and is_fresh):
            for name in me.holds - listed:
                job = self.jobs[name]
                job.token = NOBODY
                self._let_go(worker, job)
                self._release(now, job)
        if me.holds:
            me.holds_known_until = now + 8 * lease_ms
        return answers

    def reclaim(
        self, now: int, limit: int, grace_ms: int, dead: Iterable[str] = ()
    ) -> tuple[int, int, list[tuple[str, JobState, int, str]]]:
        """Take what the silent have left, and all that the dead held. Answers (grace until, earliest lease, jobs)."""
        self.pass_to(now)
        if not self.last_look or now - self.last_look > grace_ms:
            self.grace_until = now + grace_ms  # nobody looked for a while: owners renew first
        self.last_look, self.look_known_until = now, now + LOOK_KEPT_MS
        lapsed = [job for job in self.leased() if job.lease <= now]
        taken = lapsed[:limit] if now >= self.grace_until else []
        for worker in dead:
            self.present = {name: until for name, until in self.present.items() if name.partition(" ")[2] != worker}
            known = self.workers.get(worker, Worker())
            taken += [job for job in map(self.jobs.__getitem__, sorted(known.holds)) if job not in taken]
        for job in taken:
            job.token = NOBODY  # also before another attempt begins: a late settle changes nothing
            self._let_go(job.worker, job)
            self._orphan(now, job)
        earliest = min((job.lease for job in self.leased()), default=0)
        return self.grace_until, earliest, [(job.id, job.state, job.crashes, job.worker) for job in taken]

    def cancel(self, now: int, nonce: str, job_id: str, *, by_worker: bool = False) -> str:
        """End what waits, or let a worker end it; ask for the end of what runs."""
        self.pass_to(now)
        return self._once(now, nonce, job_id, lambda: self._cancel(now, self.jobs.get(job_id), by_worker=by_worker))

    def _cancel(self, now: int, job: Job | None, *, by_worker: bool) -> str:
        if job is None:
            return "absent"
        if not job.is_live:
            return "cancelled" if job.state is JobState.CANCELLED else "finished"
        if job.state is not JobState.RUNNING and not by_worker:
            self._finish(now, job, JobState.CANCELLED)
            return "cancelled"
        if job.state is not JobState.RUNNING and not job.is_cancel_requested:
            job.due = 0
            self._back_to_head(now, job)
        job.is_cancel_requested = True
        return "requested"

    def redrive(self, now: int, job_id: str, nonce: str) -> str:
        """Begin again what ended without success. Attempts go on counting: the fence needs them."""
        self.pass_to(now)
        job = self.jobs.get(job_id)
        if job is None:
            return "absent"
        if job.nonce == nonce:
            return "redriven"
        if job.state is JobState.SUCCEEDED:
            return "succeeded"
        if job.is_live:
            return "live"
        if self.holder(job.request.unique):
            return "held"
        job.failures = job.crashes = job.expires = job.ends = job.gone = 0
        job.token, job.nonce, job.is_dismissed = NOBODY, nonce, False
        self.counted["redriven"] += 1
        self._line_up(now, job)
        self._wake(now)
        return "redriven"

    def watch(self, now: int, job_id: str, channel: str) -> str:
        """Promise to publish the end on ``channel``, for a minute."""
        self.pass_to(now)
        job = self.jobs.get(job_id)
        if job is None:
            return "absent"
        if not job.is_live:
            return "ended"
        job.watchers.add(channel)
        job.watched_until = now + WATCH_MS
        return "watching"

    def progress(self, now: int, job_id: str, attempt: int, token: str, note: bytes) -> bool:
        """Only the attempt that owns the job may say how far it is."""
        self.pass_to(now)
        job = self.jobs.get(job_id)
        if job is None or job.state is not JobState.RUNNING or not job.is_owned_by(attempt, token):
            return False
        job.note = note
        return True

    def abandon(self, now: int, job_id: str, attempt: int, token: str) -> bool:
        """A stopping worker cannot end this attempt: that its lease lapses then is no crash."""
        self.pass_to(now)
        job = self.jobs.get(job_id)
        if job is None or job.state is not JobState.RUNNING or not job.is_owned_by(attempt, token):
            return False
        job.is_abandoned = True
        return True

    def blame(self, now: int, job_id: str, attempt: int, token: str) -> bool:
        """A suspect runs in its worker: the death of that is held against it."""
        self.pass_to(now)
        job = self.jobs.get(job_id)
        if job is None or job.state is not JobState.RUNNING or not job.is_owned_by(attempt, token):
            return False
        job.is_alone = False
        return True

    def dismiss(self, now: int, nonce: str, job_id: str) -> str:
        """Nobody is to see it, or what it comes to. Its record stays a minute, for requests that are sent again."""
        self.pass_to(now)
        return self._once(now, nonce, job_id, lambda: self._dismiss(now, self.jobs.get(job_id)))

    def _dismiss(self, now: int, job: Job | None) -> str:
        if job is None:
            return "absent"
        if job.is_dismissed:
            return "requested" if job.is_live else "dismissed"
        job.is_dismissed, job.is_result_kept = True, False
        if job.state is JobState.RUNNING:
            job.is_cancel_requested = True
            return "requested"
        if job.is_live:
            self._finish(now, job, JobState.CANCELLED)
            return "dismissed"
        job.note, job.ends = b"", now + SHORTEST_KEEP_MS
        job.gone = min(job.gone or now, now)
        return "dismissed"

    def declare(self, now: int, name: str, fingerprint: str, first_tick: int) -> int:
        """Make a schedule known: of two specs the last one declared counts. Answers its next tick."""
        self.pass_to(now)
        schedule = self.schedules.get(name)
        if schedule is None or schedule.fingerprint != fingerprint:
            schedule = self.schedules[name] = Schedule(fingerprint, first_tick)
        schedule.ends = max(schedule.tick, now) + WEEK_MS
        return schedule.tick

    def fire(
        self, now: int, name: str, fingerprint: str, tick: int, next_tick: int, job: NewJob | None
    ) -> tuple[str, str]:
        """One job per tick, whoever asks, however often; none for a tick that is skipped.

        Answers (what became of it, the job's id).
        """
        self.pass_to(now)
        schedule = self.schedules.get(name)
        if schedule is None:
            return "absent", ""
        if schedule.fingerprint != fingerprint:
            return "foreign", ""
        standing = self._standing_in_the_way(now, job, []) if job else None
        if schedule.fired == tick:
            if job and schedule.is_skipped:
                return "moved", ""
            if job and standing and standing.id == job.id and not _is_same_request(standing, job):
                return "moved", job.id  # by another process, or the id has gone to another job since
            if job is None and not schedule.is_skipped:
                return "moved", ""
            return "fired", standing.id if standing else ""
        if schedule.tick != tick:
            return "moved", ""
        if now < tick:
            return "early", ""
        if job and standing and _is_conflict(standing, job):
            return "conflict", standing.request.task
        if job and standing is None:
            self._enter(now, self._new_job(now, job))
        schedule.tick, schedule.fired, schedule.ends = next_tick, tick, max(next_tick, now) + WEEK_MS
        schedule.is_skipped = job is None
        return "fired", standing.id if standing else job.id if job else ""

    def leave(self, kind: str, worker: str) -> None:
        """A worker says goodbye; what it holds it keeps."""
        self.present.pop(f"{kind}{SLOTS[worker]} {worker}", None)

    def take_wake_marker(self, now: int) -> bool:
        """What a worker that waits does. The marker is a hint: it says that a look is worth it."""
        self.pass_to(now)
        was_awake, self.awake_until = self.awake_until > now, 0
        return was_awake

    # -- looking --------------------------------------------------------------------------

    def ready(self) -> list[Job]:
        """Queued jobs in the order in which they will be claimed: priority, then place."""
        queued = [job for job in self.jobs.values() if job.state is JobState.QUEUED]
        return sorted(queued, key=lambda job: (-job.request.priority, job.place, job.id))

    def waiting(self) -> list[Job]:
        """Jobs that are due later, the earliest first."""
        states = (JobState.SCHEDULED, JobState.RETRYING)
        return sorted((j for j in self.jobs.values() if j.state in states), key=lambda job: (job.due, job.id))

    def leased(self) -> list[Job]:
        """Running jobs, the earliest lease first."""
        running = [job for job in self.jobs.values() if job.state is JobState.RUNNING]
        return sorted(running, key=lambda job: (job.lease, job.id))

    def ended(self) -> list[Job]:
        """Jobs whose records are still there."""
        return sorted((job for job in self.jobs.values() if not job.is_live), key=lambda job: job.id)

    def holder(self, unique: str) -> Job | None:
        """The live job that holds a unique key."""
        live = (job for job in self.jobs.values() if job.is_live and job.request.unique == unique != NOBODY)
        return next(live, None)

    def pass_to(self, now: int) -> None:
        """What has a time to live goes by itself."""
        self.jobs = {name: job for name, job in self.jobs.items() if not job.ends or job.ends > now}
        self.present = {name: until for name, until in self.present.items() if until > now}
        self.schedules = {name: each for name, each in self.schedules.items() if each.ends > now}
        self.keys = {name: each for name, each in self.keys.items() if each.ends > now}
        self.told = {nonce: told for nonce, told in self.told.items() if told[1] > now}
        if self.look_known_until <= now:
            self.last_look = 0
        if self.awake_until <= now:
            self.awake_until = 0
        for worker in self.workers.values():
            if worker.claim_known_until <= now:
                worker.last_token, worker.brought = "", []
            if worker.holds_known_until <= now:
                worker.holds = set()
        for job in self.jobs.values():
            if job.watched_until <= now:
                job.watchers = set()

    # -- how a job comes to be, and where it stands ---------------------------------------

    def _answer_again(self, known: Key, once: Idempotency, request: NewJob) -> tuple[str, bool, bool]:
        """What a key stands for. The request that came first, sent again, is told what it was told."""
        if known.fingerprint != once.fingerprint:
            raise Refused("reused", known.job_id)
        job = self.jobs.get(known.job_id)
        if job is None:
            raise Refused("gone", known.job_id)
        is_first = known.nonce == request.nonce
        return job.id, is_first and (job.id, job.nonce) == (request.id, request.nonce), not is_first

    def _standing_in_the_way(self, now: int, request: NewJob, planned: Sequence[Job]) -> Job | None:
        """The job that answers for a request instead of a new one. One of the same request comes first."""
        twin = next((job for job in planned if job.id == request.id), None) or self.jobs.get(request.id)
        if twin and (twin in planned or _is_same_request(twin, request) or not _gives_way(now, twin, request)):
            return twin
        sharing = (job for job in planned if job.request.unique == request.unique != NOBODY)
        return next(sharing, None) or self.holder(request.unique)

    def _new_job(self, now: int, request: NewJob) -> Job:
        due, expires = _moment(now, request.due), _moment(now, request.expires)
        state = JobState.SCHEDULED if due > now else JobState.QUEUED
        return Job(request.id, request, now, state, now, request.nonce, expires, due if due > now else 0)

    def _enter(self, now: int, job: Job) -> None:
        self.jobs[job.id] = job
        self.counted["enqueued"] += 1
        if job.state is JobState.QUEUED:
            self._line_up(now, job)
            self._wake(now)
        self._wake_if_earliest(now, job)

    def _line_up(self, now: int, job: Job) -> None:
        """Behind all others of its priority."""
        self._lined_up += 1
        job.state, job.since, job.due, job.place = JobState.QUEUED, now, 0, (now, self._lined_up)

    def _back_to_head(self, now: int, job: Job) -> None:
        """Where it was when it was created, so before all that came later."""
        job.state, job.since, job.place = JobState.QUEUED, now, (job.created, 0)
        job.is_abandoned = job.is_alone = False
        self._wake(now)

    def _wake_if_earliest(self, now: int, job: Job) -> None:
        """Workers wait until the earliest due time that they know."""
        if self.waiting() and self.waiting()[0] is job:
            self._wake(now)

    def _wake(self, now: int) -> None:
        if not self.awake_until:
            self.awake_until = now + WAKE_MS

    def _promote(self, now: int) -> None:
        for job in self.waiting():
            if job.due <= now and not self._is_expired(now, job):
                self._line_up(now, job)

    def _take(self, now: int, worker: str, token: str, limit: int) -> list[Job]:
        taken: list[Job] = []
        for job in self.ready():
            if len(taken) == limit:
                break
            if not self._is_expired(now, job):
                job.state, job.attempt, job.token, job.worker = JobState.RUNNING, job.attempt + 1, token, worker
                job.is_alone = job.crashes > 0 and job.crashes >= job.request.max_crashes - 1
                job.since = job.started = now
                taken.append(job)
        return taken

    def _is_expired(self, now: int, job: Job) -> bool:
        """True, and then the job has ended, if its latest time to start has passed."""
        if not job.expires or job.expires > now:
            return False
        self._finish(now, job, JobState.EXPIRED, job.note)
        return True

    # -- how an attempt ends ---------------------------------------------------------------

    @property
    def _outcomes(self) -> dict[str, Callable[[int, Job, Settlement], None]]:
        return {
            "complete": self._complete,
            "retry": self._retry,
            "snooze": self._snooze,
            "park": self._snooze,
            "bury": self._bury,
            "cancel": lambda now, job, entry: self._finish(now, job, JobState.CANCELLED, entry.note, entry.ms or None),
            "crash": lambda now, job, entry: self._crash(now, job),
            "release": lambda now, job, entry: self._release(now, job),
        }

    def _complete(self, now: int, job: Job, entry: Settlement) -> None:
        job.is_result_kept = entry.ms > 0
        self._finish(now, job, JobState.SUCCEEDED, entry.note if entry.ms else b"", entry.ms)

    def _retry(self, now: int, job: Job, entry: Settlement) -> None:
        job.failures += 1
        self._later(now, job, entry, JobState.RETRYING)

    def _snooze(self, now: int, job: Job, entry: Settlement) -> None:
        self._later(now, job, entry, JobState.SCHEDULED)

    def _later(self, now: int, job: Job, entry: Settlement, state: JobState) -> None:
        if job.is_cancel_requested:
            return self._finish(now, job, JobState.CANCELLED)
        job.state, job.since, job.due, job.note = state, now, now + entry.ms, entry.note
        job.is_abandoned = job.is_alone = False
        self.counted[entry.outcome] += 1
        self._wake_if_earliest(now, job)
        return None

    def _bury(self, now: int, job: Job, entry: Settlement) -> None:
        job.failures += 1
        self.counted["bury"] += 1
        self._finish(now, job, JobState.DEAD, entry.note if entry.ms >= 0 else b"", entry.ms or KEEP_DEAD_MS)

    def _release(self, now: int, job: Job) -> None:
        """Unspent. A cancellation that was asked for is not forgotten."""
        if job.is_cancel_requested:
            return self._finish(now, job, JobState.CANCELLED)
        self.counted["release"] += 1
        return self._back_to_head(now, job)

    def _crash(self, now: int, job: Job) -> None:
        """Nobody settled. It costs a crash, never a failure; and nothing if that was foreseen."""
        if job.is_abandoned:
            return self._release(now, job)
        job.crashes += 1
        self.counted["crash"] += 1
        if job.is_cancel_requested:
            return self._finish(now, job, JobState.CANCELLED)
        if job.crashes < job.request.max_crashes:
            return self._back_to_head(now, job)
        self.counted["lost"] += 1
        return self._finish(now, job, JobState.DEAD, _lost_worker(job.crashes), KEEP_DEAD_MS)

    def _orphan(self, now: int, job: Job) -> None:
        """Its worker is gone. One that ran alone is spared, twice: its own death would be that of its child."""
        if job.is_alone and not job.is_abandoned and not job.is_cancel_requested and job.spared < MOST_SPARED:
            job.spared += 1
            return self._release(now, job)
        return self._crash(now, job)

    def _finish(self, now: int, job: Job, state: JobState, note: bytes = b"", keep_ms: int | None = None) -> None:
        """The one way to an end: the record gets its time to live, and the unique key is free."""
        keep_ms = job.keep_ms if keep_ms is None else keep_ms
        if job.is_dismissed:
            keep_ms, note, job.is_result_kept = 0, b"", False
        job.state, job.since, job.due, job.note = state, now, 0, note
        job.is_cancel_requested, job.is_abandoned, job.is_alone, job.spared = False, False, False, 0
        job.watchers = set()
        job.ends = now + max(keep_ms, SHORTEST_KEEP_MS)
        job.gone = now + max(keep_ms, 0) if keep_ms < SHORTEST_KEEP_MS else 0
        if word := _COUNTED_AS.get(state):
            self.counted[word] += 1

    # -- workers ---------------------------------------------------------------------------

    def _once(self, now: int, nonce: str, job_id: str, act: Callable[[], str]) -> str:
        """A request that is sent again is told what it was told."""
        key = f"{nonce}:{job_id}"
        if key not in self.told:
            self.told[key] = act(), now + ANSWER_KEPT_MS
        return self.told[key][0]

    def _show_up(self, now: int, kind: str, worker: str) -> None:
        self.present[f"{kind}{SLOTS[worker]} {worker}"] = now + ALIVE_MS

    def _let_go(self, worker: str, job: Job) -> None:
        self.workers.setdefault(worker, Worker()).holds.discard(job.id)


_COUNTED_AS = {JobState.SUCCEEDED: "complete", JobState.CANCELLED: "cancel", JobState.EXPIRED: "expired"}


def _is_same_request(job: Job | None, request: NewJob) -> bool:
    return job is not None and (job.id, job.nonce, job.request.task) == (request.id, request.nonce, request.task)


def _gives_way(now: int, job: Job, request: NewJob) -> bool:
    is_gone = 0 < job.gone <= now
    return not job.is_live and (request.replace is Replace.FINISHED or (request.replace is Replace.GONE and is_gone))


def _is_conflict(job: Job | None, request: NewJob) -> bool:
    return job is not None and job.id == request.id and job.request.task != request.task


def _number(token: str) -> int:
    return int(token.partition(".")[0] or 0)


def _moment(now: int, word: str) -> int:
    """``0`` none, ``d<ms>`` from now, ``a<ms>`` at."""
    return {"0": 0, "d": now, "a": 0}[word[0]] + int(word[1:] or 0)


def _lost_worker(crashes: int) -> bytes:
    message = f"the process that ran it died {crashes} times"
    return b'{"reason":"lost_worker","type":"LostWorker","message":"%s"}' % message.encode()
