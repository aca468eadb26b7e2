"""A walk over the verbs of the store, at random, and of the model beside it: after every step both must be the same.

Every verb is a ``Message``: what is asked of the store, and of the model. Each message ever sent is kept, and may
arrive again at any later time, as a request that was sent twice, or a copy that was long on its way.

**Time.** The walk has a clock of its own: the server's, plus all that was let pass by moving the data
(``tests/support/time_travel.py``), less what this machine needed between two messages. All lengths of time in the walk
are whole ``UNIT_MS``, and each message has a moment within the unit that no other message has. So a due time, or the
end of a lease, is never so close to a message that a few milliseconds more or less could decide what happens, both
sides agree about what came first, and the same walk is the same on a slow machine.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import count
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec.structs import replace

from arq_web.errors import IdempotencyKeyReused, IdempotentJobGone, JobIdConflict, QueueFull
from arq_web.store.messages import Held, Idempotency, NewJob, Replace, Settlement, SettleOutcome, WorkerKind
from arq_web.store.store import Store
from tests.model.choices import (
    APART_MS,
    IDS,
    LEASE_MS,
    SLOTS,
    TICK_MS,
    UNIT_MS,
    VERBS,
    VERBS_OF_A_JOB,
    WORKERS,
    at,
    keyed,
    limits,
    outcomes,
    recent,
    requests,
    units,
    workers,
)
from tests.model.picture import About, of_model, of_store
from tests.model.things import Conflict, Refused
from tests.model.transition_table import KEEP_DEAD_MS, Queue
from tests.model.world import Attempt, Message, World
from tests.support.leaks import delete_keys, leaked_keys
from tests.support.store_helpers import is_woken
from tests.support.time_travel import let_time_pass

SLACK_MS = 30
"""Redis 6 cannot say when a key ends, only how long that is; a moment may pass between two such looks."""


def take_walks(world: World, *, walks: int, steps: int, is_same_each_time: bool) -> None:
    """Take that many walks of at most that many steps; the shortest walk on which both differ is the failure."""
    walk = type("Walk", (Walk,), {"world": world})
    how = settings(
        max_examples=walks,
        stateful_step_count=steps,
        derandomize=is_same_each_time,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
    )
    run_state_machine_as_test(walk, settings=how)


class Walk(RuleBasedStateMachine):
    """Hypothesis chooses the steps; the rules below say what steps there are."""

    world: ClassVar[World]

    def __init__(self) -> None:
        super().__init__()
        queue = f"q{next(self.world.walks)}"
        self.store = Store(self.world.connections, self.world.namespace, queue, keep_dead_ms=KEEP_DEAD_MS)
        self.model = Queue()
        self.sent: list[Message] = []
        self.attempts: list[Attempt] = []
        self.tokens: dict[str, list[str]] = {worker: [] for worker in WORKERS}
        self.numbers = count(1)
        self.moved_ms = self.now_ms = self.slowest_ms = 0

    @initialize(jobs=st.lists(requests, min_size=3, max_size=5), worker=workers)
    def begin(self, jobs: list[NewJob], worker: str) -> None:
        """At the beginning of a unit, with something to do, so that no walk leads through an empty queue."""
        now_ms = self.world.run(self.store.server_now_ms)
        self.now_ms = now_ms - now_ms % UNIT_MS + UNIT_MS
        self.moved_ms = self.now_ms - now_ms
        self.enqueue_all(jobs)
        self.claim_jobs(worker, "x", 2, 1)

    # -- the steps ------------------------------------------------------------------------

    @rule(jobs=st.lists(requests, min_size=2, max_size=4), max_queued=limits)
    def enqueue(self, jobs: list[NewJob], max_queued: int) -> None:
        self.enqueue_all(jobs, max_queued=max_queued)

    @rule(job=requests, once=keyed, max_queued=limits)
    def enqueue_under_a_key(self, job: NewJob, once: Idempotency, max_queued: int) -> None:
        self.enqueue_all([job], max_queued=max_queued, once=once)

    def enqueue_all(self, jobs: list[NewJob], *, max_queued: int = 0, once: Idempotency | None = None) -> None:
        jobs = [replace(at(job, self.next_ms), nonce=self.new_nonce()) for job in jobs]

        async def ask(store: Store, moved_ms: int) -> object:
            try:
                reply = await store.enqueue([at(job, -moved_ms) for job in jobs], max_queued=max_queued, once=once)
            except JobIdConflict as conflict:
                return "conflict", conflict.job_id
            except QueueFull as full:
                return "full", full.waiting
            except IdempotencyKeyReused as reused:
                return "reused", reused.job_id
            except IdempotentJobGone as gone:
                return "gone", gone.job_id
            return [(each.id, each.created, each.replayed) for each in reply.jobs], reply.attended

        def expect(model: Queue, now: int, about: About) -> object:
            try:
                return model.enqueue(now, jobs, max_queued, once)
            except Conflict as conflict:
                return "conflict", str(conflict)
            except Refused as refused:
                return refused.args

        self.send(Message(f"enqueue {jobs} at most {max_queued} under {once}", ask, expect))

    @precondition(lambda self: self.model.ended())
    @rule(job=requests, which=recent, which_replace=st.sampled_from([Replace.GONE, Replace.GONE, Replace.FINISHED]))
    def an_id_comes_again(self, job: NewJob, which: int, which_replace: Replace) -> None:
        ended = self.model.ended()
        self.enqueue_all([replace(job, id=ended[which % len(ended)].id, replace=which_replace)])

    @precondition(lambda self: self.model.ready() or self.model.waiting())
    @rule(worker=workers, kind=st.sampled_from("xxes"), limit=st.integers(0, 3), leases=st.sampled_from([1, 1, 2]))
    def claim(self, worker: str, kind: str, limit: int, leases: int) -> None:
        self.claim_jobs(worker, kind, limit, leases)

    @precondition(lambda self: self.model.ready())
    @rule(worker=workers, limit=st.integers(1, 3))
    def claim_what_is_ready(self, worker: str, limit: int) -> None:
        self.claim_jobs(worker, "x", limit, 1)

    def claim_jobs(self, worker: str, kind: str, limit: int, leases: int) -> None:
        token = f"{next(self.numbers)}.{worker[:2]}"
        self.tokens[worker].append(token)

        async def ask(store: Store, moved_ms: int) -> object:
            reply = await store.claim(worker, WorkerKind(kind), token, limit, leases * LEASE_MS, slots=SLOTS[worker])
            told = [Attempt(worker, job.id, job.attempt, job.token) for job in reply.jobs]
            self.attempts += [attempt for attempt in told if attempt not in self.attempts]
            jobs = [(job.id, job.attempt, job.token) for job in reply.jobs]
            return jobs, reply.next_due_ms, reply.lease_count, reply.ready_count, reply.standby

        def expect(model: Queue, now: int, about: About) -> object:
            claimed = model.claim(now, worker, kind, token, limit, leases * LEASE_MS)
            next_due = about(claimed.next_due)
            return claimed.jobs, next_due, claimed.lease_count, claimed.ready_count, claimed.is_standby

        self.send(Message(f"claim {worker} {kind} {token} limit={limit} {leases} leases", ask, expect))

    @precondition(lambda self: self.attempts)
    @rule(which=recent, outcome=outcomes, units=units)
    def settle(self, which: int, outcome: SettleOutcome, units: int) -> None:
        attempt = self.attempt(which)
        self.settle_all(attempt.worker, [self.settlement(attempt, outcome, units * UNIT_MS)])

    @precondition(lambda self: self.model.leased())
    @rule(which=st.integers(0, 3), outcome=outcomes, units=units)
    def settle_what_runs(self, which: int, outcome: SettleOutcome, units: int) -> None:
        running = self.model.leased()
        job = running[which % len(running)]
        attempt = Attempt(job.worker, job.id, job.attempt, job.token)
        self.settle_all(attempt.worker, [self.settlement(attempt, outcome, units * UNIT_MS)])

    @precondition(lambda self: self.model.leased())
    @rule(units=st.sampled_from([1, 24, 80]))
    def a_running_job_dies(self, units: int) -> None:
        job = self.model.leased()[0]
        attempt = Attempt(job.worker, job.id, job.attempt, job.token)
        self.settle_all(attempt.worker, [self.settlement(attempt, "bury", units * UNIT_MS)])

    @precondition(lambda self: self.attempts)
    @rule(which=st.lists(recent, min_size=2, max_size=4), each=st.tuples(*[outcomes] * 4))
    def settle_several(self, which: list[int], each: tuple[SettleOutcome, ...]) -> None:
        attempts = [self.attempt(one) for one in which]
        mine = [attempt for attempt in attempts if attempt.worker == attempts[0].worker]
        self.settle_all(mine[0].worker, [self.settlement(a, o, UNIT_MS) for a, o in zip(mine, each, strict=False)])

    def settle_all(self, worker: str, entries: Sequence[Settlement]) -> None:
        self.send(
            Message(
                f"settle {worker} {entries}",
                lambda store, moved_ms: store.settle(worker, entries),
                lambda model, now, about: model.settle(now, worker, entries),
            )
        )

    @precondition(lambda self: self.attempts)
    @rule(
        worker=workers,
        which=st.lists(recent, max_size=4, unique=True),
        is_lapsing=st.sampled_from([False, False, False, True]),
        unread=st.sampled_from([0, 0, 1]),
        late_units=st.sampled_from([0, 0, 2]),
    )
    def renew(self, worker: str, which: list[int], is_lapsing: bool, unread: int, late_units: int) -> None:
        known = [self.attempt(each) for each in which]
        held = [Held(a.job_id, a.number, a.token, is_lapsing) for a in known if a.worker == worker]
        last_token = (["-", *self.tokens[worker]])[-1 - min(unread, len(self.tokens[worker]))]
        self.renew_all(worker, held, last_token, late_units)

    @precondition(lambda self: self.model.leased())
    @rule(which=recent, forgets=st.booleans(), unread=st.sampled_from([0, 1]))
    def renew_what_runs(self, which: int, forgets: bool, unread: int) -> None:
        running = self.model.leased()
        worker = running[which % len(running)].worker
        held = [Held(job.id, job.attempt, job.token) for job in running if job.worker == worker]
        self.renew_all(worker, held[1:] if forgets else held, self.tokens[worker][-1 - unread :][0], 0)

    def renew_all(self, worker: str, held: list[Held], last_token: str, late_units: int) -> None:
        asked = self.next_ms - late_units * UNIT_MS
        self.send(
            Message(
                f"renew {worker} {held} last={last_token} late={late_units}",
                lambda store, moved_ms: store.renew(
                    worker,
                    WorkerKind.EXTERNAL,
                    LEASE_MS,
                    last_token,
                    held,
                    asked_ms=asked - moved_ms,
                    slots=SLOTS[worker],
                ),
                lambda model, now, about: model.renew(now, worker, "x", LEASE_MS, last_token, held, asked),
            )
        )

    @rule(limit=st.sampled_from([100, 1]), grace_units=st.sampled_from([0, 2]), dead=st.sets(workers, max_size=1))
    def reclaim(self, limit: int, grace_units: int, dead: set[str]) -> None:
        grace_ms = grace_units * UNIT_MS

        async def ask(store: Store, moved_ms: int) -> object:
            reply = await store.reclaim(limit, grace_ms, dead=list(dead))
            jobs = sorted((job.id, job.state, job.crashes, job.worker) for job in reply.jobs)
            return reply.grace_until_ms, reply.earliest_lease_ms, jobs

        def expect(model: Queue, now: int, about: About) -> object:
            grace_until, earliest, jobs = model.reclaim(now, limit, grace_ms, dead)
            letters = {"queued": "q", "dead": "d", "cancelled": "x"}
            told = sorted((name, letters[state], crashes, worker) for name, state, crashes, worker in jobs)
            return about(grace_until), about(earliest), told

        self.send(Message(f"reclaim limit={limit} grace={grace_ms} dead={dead}", ask, expect))

    @precondition(lambda self: self.attempts)
    @rule(verb=st.sampled_from(VERBS_OF_A_JOB), which=recent)
    def somebody_asks_for_a_job(self, verb: str, which: int) -> None:
        ended = [job.id for job in self.model.ended()]
        names = ended if ended and verb == "redrive" and which else [*sorted(self.model.jobs), "nobody"]
        job_id = names[which % len(names)]
        match verb:
            case "cancel" | "abort":
                self.cancel(job_id, by_worker=verb == "abort")
            case "redrive":
                self.redrive(job_id)
            case "watch":
                self.watch(job_id, f"channel {which % 2}")
            case "progress":
                self.progress(self.attempt(which))
            case "blame":
                self.blame(self.attempt(which))
            case "dismiss":
                self.dismiss(job_id)
            case _:
                self.abandon(self.attempt(which))

    @precondition(lambda self: self.model.leased())
    @rule(which=recent)
    def a_running_job_is_dismissed(self, which: int) -> None:
        running = self.model.leased()
        self.dismiss(running[which % len(running)].id)

    @precondition(lambda self: self.model.waiting() or self.model.ready())
    @rule(which=recent, by_worker=st.sampled_from([True, True, False]))
    def a_job_is_cancelled_before_it_starts(self, which: int, by_worker: bool) -> None:
        names = [job.id for job in (*self.model.waiting(), *self.model.ready())]
        self.cancel(names[which % len(names)], by_worker=by_worker)

    @rule(
        verb=st.sampled_from(["declare", "fire", "fire", "leave", "take_wake_marker"]),
        fingerprint=st.sampled_from(["hourly", "hourly", "daily"]),
        job=requests,
        worker=workers,
        units=st.sampled_from([0, 1, 12]),
    )
    def meanwhile(self, verb: str, fingerprint: str, job: NewJob, worker: str, units: int) -> None:
        match verb:
            case "declare":
                self.declare(fingerprint, units)
            case "fire":
                self.fire(fingerprint, None if units == 12 else job)
            case "leave":
                self.leave(worker, "s" if units == 12 else "x")
            case _:
                self.take_wake_marker()

    def cancel(self, job_id: str, *, by_worker: bool) -> None:
        nonce = self.new_nonce()
        self.send(
            Message(
                f"cancel {job_id}{' by a worker' if by_worker else ''} {nonce}",
                lambda store, moved_ms: store.cancel(job_id, by_worker=by_worker, nonce=nonce),
                lambda model, now, about: model.cancel(now, nonce, job_id, by_worker=by_worker),
            )
        )

    def redrive(self, job_id: str) -> None:
        nonce = self.new_nonce()
        self.send(
            Message(
                f"redrive {job_id} {nonce}",
                lambda store, moved_ms: store.redrive(job_id, nonce),
                lambda model, now, about: model.redrive(now, job_id, nonce),
            )
        )

    def watch(self, job_id: str, channel: str) -> None:
        async def ask(store: Store, moved_ms: int) -> object:
            answer, info = await store.watch(job_id, channel)
            assert info == await store.read(job_id)
            return answer

        self.send(
            Message(f"watch {job_id} {channel}", ask, lambda model, now, about: model.watch(now, job_id, channel))
        )

    def progress(self, attempt: Attempt) -> None:
        words = b'{"progress":[0.%d,"so far"]}' % next(self.numbers)
        self.send(
            Message(
                f"progress {attempt}",
                lambda store, moved_ms: store.progress(attempt.job_id, attempt.number, attempt.token, words),
                lambda model, now, about: model.progress(now, attempt.job_id, attempt.number, attempt.token, words),
            )
        )

    def abandon(self, attempt: Attempt) -> None:
        self.send(
            Message(
                f"abandon {attempt}",
                lambda store, moved_ms: store.abandon(attempt.job_id, attempt.number, attempt.token),
                lambda model, now, about: model.abandon(now, attempt.job_id, attempt.number, attempt.token),
            )
        )

    def blame(self, attempt: Attempt) -> None:
        self.send(
            Message(
                f"blame {attempt}",
                lambda store, moved_ms: store.blame(attempt.job_id, attempt.number, attempt.token),
                lambda model, now, about: model.blame(now, attempt.job_id, attempt.number, attempt.token),
            )
        )

    def dismiss(self, job_id: str) -> None:
        nonce = self.new_nonce()
        self.send(
            Message(
                f"dismiss {job_id} {nonce}",
                lambda store, moved_ms: store.dismiss(job_id, nonce=nonce),
                lambda model, now, about: model.dismiss(now, nonce, job_id),
            )
        )

    def declare(self, fingerprint: str, units: int) -> None:
        first = self.next_ms + units * UNIT_MS

        async def ask(store: Store, moved_ms: int) -> object:
            return (await store.declare("cron", fingerprint, first - moved_ms))[1]

        def expect(model: Queue, now: int, about: About) -> object:
            return about(model.declare(now, "cron", fingerprint, first))

        self.send(Message(f"declare {fingerprint} {first}", ask, expect))

    def fire(self, fingerprint: str, job: NewJob | None) -> None:
        known = self.model.schedules.get("cron")
        tick = known.tick if known else self.next_ms
        following = tick + TICK_MS
        new = replace(at(job, self.next_ms), nonce=self.new_nonce()) if job else None

        async def ask(store: Store, moved_ms: int) -> object:
            asked = at(new, -moved_ms) if new else None
            reply = await store.fire("cron", fingerprint, tick - moved_ms, following - moved_ms, asked)
            return reply.outcome, reply.job_id

        self.send(
            Message(
                f"fire {fingerprint} {tick} {new}",
                ask,
                lambda model, now, about: model.fire(now, "cron", fingerprint, tick, following, new),
            )
        )

    def leave(self, worker: str, kind: str) -> None:
        self.send(
            Message(
                f"leave {kind} {worker}",
                lambda store, moved_ms: store.leave(worker, WorkerKind(kind), slots=SLOTS[worker]),
                lambda model, now, about: model.leave(kind, worker),
            )
        )

    def take_wake_marker(self) -> None:
        async def ask(store: Store, moved_ms: int) -> object:
            return await is_woken(store)

        self.send(Message("take_wake_marker", ask, lambda model, now, about: model.take_wake_marker(now)))

    @rule()
    def the_last_message_arrives_twice(self) -> None:
        """Its answer was lost."""
        self.send(self.sent[-1], is_copy=True)

    @rule(verb=st.sampled_from(VERBS), which=st.integers(0, 5))
    def a_copy_arrives(self, verb: str, which: int) -> None:
        """It was long on its way; its sender has the answer to another copy."""
        same = [message for message in self.sent if message.verb == verb] or self.sent
        self.send(same[-1 - which % len(same)], is_copy=True)

    @precondition(lambda self: self.model.ready() and self.late_claims())
    @rule(which=recent)
    def a_late_claim_arrives(self, which: int) -> None:
        """Its worker has claimed again since: whatever this took would run nowhere."""
        late = self.late_claims()
        self.send(late[-1 - which % len(late)], is_copy=True)

    @rule(units=st.sampled_from([1, 1, 2, 4, 8, 12, 24, 80, 800]))
    def time_passes(self, units: int) -> None:
        self.pass_ms(units * UNIT_MS)
        self.now_ms += units * UNIT_MS

    @invariant()
    def both_are_the_same(self) -> None:
        if not self.moved_ms:
            return
        self.model.pass_to(self.now_ms)
        actual, took_ms = self.world.run(lambda: of_store(self.store, IDS))
        expected = of_model(self.model, self.store.queue, self.about(took_ms))
        different = {
            name: (actual.get(name), expected.get(name))
            for name in {*actual, *expected}
            if actual.get(name) != expected.get(name)
        }
        assert not different, f"(store, model): {different}"

    def teardown(self) -> None:
        self.world.job_count += self.model.counted["enqueued"]
        leaks = leaked_keys(self.world.client, self.world.namespace)
        delete_keys(self.world.client, self.world.namespace)
        assert leaks == []

    # -- how a step is taken --------------------------------------------------------------

    def send(self, message: Message, *, is_copy: bool = False) -> None:
        """Ask both, at one moment, and compare what they say."""
        if self.now_ms % UNIT_MS > UNIT_MS - 1000:
            return  # no moments are left in the unit
        self.pass_ms(self.now_ms + APART_MS - self.clock())
        before_ms, answer, after_ms = self.world.run(lambda: self.exchange(message))
        self.slowest_ms = max(self.slowest_ms, after_ms - before_ms)
        expected = message.expect(self.model, before_ms + self.moved_ms, self.about(0))
        self.now_ms = after_ms + self.moved_ms
        if message.verb != "take_wake_marker" and not is_copy:
            self.sent.append(message)
        self.world.sent[message.verb + (" again" if is_copy else "")] += 1
        note(f"{self.now_ms - self.moved_ms} {'again ' if is_copy else ''}{message.text} -> {answer}")
        assert answer == expected, f"{message.text}: the store says {answer}, the model {expected}"

    async def exchange(self, message: Message) -> tuple[int, object, int]:
        """The answer, and the server's time before and after: all in one write."""
        asked = asyncio.ensure_future(self.store.server_now_ms())
        answer = asyncio.ensure_future(message.ask(self.store, self.moved_ms))
        before_ms, said = await asked, await answer
        return before_ms, said, await self.store.server_now_ms()

    def about(self, more_ms: int) -> About:
        """Turns a moment of the model into the server's, which may be later by as long as a message was on its way."""
        moved_ms, tolerance_ms = self.moved_ms, self.slowest_ms + more_ms + SLACK_MS
        return lambda ms: pytest.approx(ms - moved_ms, abs=tolerance_ms, rel=0) if ms else 0

    def pass_ms(self, ms: int) -> None:
        self.world.run(lambda: let_time_pass(self.store, ms))
        self.moved_ms += ms

    def clock(self) -> int:
        """The walk's own time, ms."""
        return self.world.run(self.store.server_now_ms) + self.moved_ms

    @property
    def next_ms(self) -> int:
        """A moment that no message has, shortly before the next one."""
        return self.now_ms + APART_MS // 2

    def late_claims(self) -> list[Message]:
        newest = {tokens[-1] for tokens in self.tokens.values() if tokens}
        return [each for each in self.sent if each.verb == "claim" and each.text.split()[3] not in newest]

    def new_nonce(self) -> str:
        return f"n{next(self.numbers)}"

    def attempt(self, which: int) -> Attempt:
        return self.attempts[-1 - which % len(self.attempts)]

    def settlement(self, attempt: Attempt, outcome: SettleOutcome, ms: int) -> Settlement:
        ms = ms if outcome in ("bury", "cancel") else abs(ms)  # below 0 has a meaning there alone: not kept
        words = b'{"r":1}' if outcome == "complete" else b'{"type":"Boom","message":"no"}'
        return Settlement(attempt.job_id, attempt.number, attempt.token, outcome, ms, words)
