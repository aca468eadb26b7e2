"""One request for everything that a script can do: what must be there first, the request, and what happens next.

For the tests that send each of them twice, or lose its answer. Ids, nonces and tokens are fixed, so that the same case
in two queues ends in the same state.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from msgspec.structs import replace

from arq_web.errors import EnqueueError
from arq_web.store import scripts
from arq_web.store.measuring import measure_as_leader
from arq_web.store.relaying import RelayedRow, RelayStore
from arq_web.store.store import (
    Held,
    Idempotency,
    NewJob,
    Replace,
    Settled,
    Settlement,
    SettleOutcome,
    Store,
    WorkerKind,
)
from tests.support.store_helpers import (
    HOUR_MS,
    LARGE,
    LEASE_MS,
    OTHER_WORKER,
    SETTLE_OUTCOMES,
    TASK,
    WORKER,
    claim,
    command,
    end_grace,
    expire_lease,
    make_due,
    new_token,
)

Step = Callable[[Store], Awaitable[object]]
CHANNEL = "somebody"
FOR_EVER_MS = 99_999_999_999_999


@dataclass(frozen=True, slots=True)
class Sending:
    """``prepare`` makes the state, ``send`` is the request (its answer without what time it is), ``then`` comes next.

    ``then`` is None where a copy that comes after the next transition is, by its nature, a new request.
    """

    verb: str
    case: str
    prepare: Step
    send: Step
    then: Step | None

    @property
    def name(self) -> str:
        return f"{self.verb} {self.case}"


def job(name: str, nonce: str = "-", **options: object) -> NewJob:
    """A job whose request is always the same."""
    plain = NewJob(id=name, task=TASK, payload=b"{}", nonce=f"{nonce}{name}")
    return replace(plain, **options)


def steps(*each: Step) -> Step:
    """One after the other."""

    async def run(store: Store) -> object:
        answers = [await step(store) for step in each]
        return answers[-1] if answers else None

    return run


# -- the requests -------------------------------------------------------------------------


def enqueue(*jobs: NewJob, max_queued: int = 0, once: Idempotency | None = None) -> Step:
    async def send(store: Store) -> object:
        try:
            reply = await store.enqueue(jobs, max_queued=max_queued, once=once)
        except EnqueueError as refused:
            return str(refused).replace(repr(store.queue), "this one")
        answers = [(each.id, each.created) for each in reply.jobs]
        return (answers, reply.jobs[0].replayed) if once else answers

    return send


def claims(token: str, limit: int = 1, worker: str = WORKER) -> Step:
    async def send(store: Store) -> object:
        reply = await claim(store, limit, token=token, worker=worker)
        jobs = [(each.id, each.attempt, each.token, each.failures, each.crashes, each.payload) for each in reply.jobs]
        return jobs, reply.ready_count, reply.lease_count, reply.standby

    return send


def settles(outcome: SettleOutcome, *, ms: int = HOUR_MS, attempt: int = 1) -> Step:
    """Both ways to say "recorded" are one answer: the second is that of a request that was sent twice."""

    async def send(store: Store) -> object:
        answers = await store.settle(WORKER, [Settlement("a", attempt, f"{attempt}.a", outcome, ms, b'{"type":"E"}')])
        return [Settled.RECORDED if answer is Settled.ALREADY else answer for answer in answers]

    return send


async def reject(store: Store) -> object:
    """As the store does with what it cannot read; there is no public verb for it."""
    arguments = scripts.SETTLE.arguments(
        ["a", 1, "1.a", "reject", 0, b"unreadable"], worker=WORKER, keep_dead_ms=HOUR_MS
    )
    await store.connections.get(store.base).run_script(scripts.SETTLE.script, (store.base,), arguments)
    return None


def renews(*held: Held) -> Step:
    async def send(store: Store) -> object:
        return await store.renew(WORKER, WorkerKind.EXTERNAL, LEASE_MS, "1.a", held)

    return send


def reclaims(*dead: str) -> Step:
    """Which jobs were taken is told once: who asks again has nothing to take, and answers nothing with it."""

    async def send(store: Store) -> object:
        await store.reclaim(dead=dead)
        return None

    return send


def fires(tick_ms: int, next_tick_ms: int, new: NewJob | None) -> Step:
    async def send(store: Store) -> object:
        reply = await store.fire("daily", "print", tick_ms, next_tick_ms, new)
        return reply.outcome, reply.tick_ms, reply.job_id

    return send


def declares(fingerprint: str) -> Step:
    async def send(store: Store) -> object:
        return (await store.declare("daily", fingerprint, 1000))[1]

    return send


def watches(name: str) -> Step:
    async def send(store: Store) -> object:
        word, info = await store.watch(name, CHANNEL)
        return word, info.state if info else None

    return send


def cancels(name: str, *, by_worker: bool = False) -> Step:
    nonce = new_token()
    return lambda store: store.cancel(name, by_worker=by_worker, nonce=nonce)


def dismisses(name: str) -> Step:
    nonce = new_token()
    return lambda store: store.dismiss(name, nonce=nonce)


def relays(*jobs: NewJob) -> Step:
    async def send(store: Store) -> object:
        outbox = RelayStore(store.connections, store.namespace, store.queue)
        return await outbox.relay([RelayedRow(f"of-{each.id}", each) for each in jobs], valid_until_ms=FOR_EVER_MS)

    return send


def forgets_rows(*receipts: str) -> Step:
    return lambda store: RelayStore(store.connections, store.namespace, store.queue).forget(receipts)


def redrives(name: str, nonce: str) -> Step:
    return lambda store: store.redrive(name, nonce)


def progresses() -> Step:
    return lambda store: store.progress("a", 1, "1.a", b'{"progress":[0.5,""]}')


def abandons() -> Step:
    return lambda store: store.abandon("a", 1, "1.a")


def blames() -> Step:
    return lambda store: store.blame("a", 2, "2.a")


def measures(leader: str) -> Step:
    """What is told of times differs from one moment to the next."""

    async def send(store: Store) -> object:
        measured = await measure_as_leader(store, leader, HOUR_MS)
        return measured and (measured.ready, measured.scheduled, measured.running, measured.dead, measured.rejected)

    return send


def hastens(ms: int, nonce: str) -> Step:
    async def send(store: Store) -> object:
        arguments = scripts.HASTEN.arguments((), ms=ms, nonce=nonce)
        return await store.connections.get(store.base).run_script(scripts.HASTEN.script, (store.base,), arguments)

    return send


def lapses(name: str) -> Step:
    return lambda store: expire_lease(store, name)


def falls_due(name: str) -> Step:
    return lambda store: make_due(store, name)


def forgets(name: str) -> Step:
    """The time of its record has passed."""
    return lambda store: command(store, "DEL", store.base + b"j:" + name.encode())


async def takes_marker(store: Store) -> object:
    return await command(store, "DEL", store.base + b"wake")


# -- the cases ----------------------------------------------------------------------------

A_RUNS = steps(enqueue(job("a", unique="key", payload=LARGE)), claims("1.a"), takes_marker)
A_IS_SUSPECT = steps(enqueue(job("a", max_crashes=2)), claims("1.a"), reclaims(WORKER), claims("2.a"), takes_marker)
A_AND_B_RUN = steps(enqueue(job("a"), job("b")), claims("1.a", 2), takes_marker)
A_IS_DEAD = steps(enqueue(job("a")), claims("1.a"), settles("bury"))
A_IS_GONE = steps(enqueue(job("a", payload=LARGE)), claims("1.a"), settles("complete", ms=0))
A_IS_CANCELLED = steps(enqueue(job("a")), cancels("a"), takes_marker)
A_HAS_SUCCEEDED = steps(A_RUNS, settles("complete"))
A_IS_MARKED = steps(enqueue(job("a", due="d60000")), cancels("a", by_worker=True), takes_marker)
LAPSED = steps(lapses("a"), end_grace)
OTHER_CLAIMS = claims("1.other", 2, OTHER_WORKER)
HELD_A = Held("a", 1, "1.a")
NOTHING = steps()
ONCE = Idempotency("key", "values", HOUR_MS)
OTHER_VALUES = Idempotency("key", "other-values", HOUR_MS)
A_ONCE = enqueue(job("a"), once=ONCE)
A_IS_FORGOTTEN = steps(A_ONCE, claims("1.a"), settles("complete"), forgets("a"), takes_marker)

_AFTER_SETTLE: dict[str, Step] = {
    "complete": steps(enqueue(job("a", "new", replace=Replace.FINISHED)), OTHER_CLAIMS),
    "retry": steps(falls_due("a"), OTHER_CLAIMS),
    "snooze": steps(falls_due("a"), OTHER_CLAIMS),
    "park": steps(falls_due("a"), OTHER_CLAIMS),
    "bury": redrives("a", "again"),
    "cancel": steps(redrives("a", "again"), OTHER_CLAIMS),
    "crash": OTHER_CLAIMS,
    "release": OTHER_CLAIMS,
}

SENDINGS = [
    Sending("enqueue", "a new job", NOTHING, enqueue(job("a")), steps(claims("1.a"), settles("complete"))),
    Sending(
        "enqueue",
        "a large one for later",
        NOTHING,
        enqueue(job("a", payload=LARGE, due="a9000000000000")),
        cancels("a"),
    ),
    Sending(
        "enqueue",
        "several with a unique key",
        NOTHING,
        enqueue(job("a", unique="key"), job("b", unique="key"), job("c")),
        steps(claims("1.a"), settles("complete"), enqueue(job("d", unique="key"))),
    ),
    Sending("enqueue", "a job that is there", enqueue(job("a", "first")), enqueue(job("a")), cancels("a")),
    Sending(
        "enqueue",
        "one that replaces a dead job",
        A_IS_DEAD,
        enqueue(job("a", "new", replace=Replace.FINISHED)),
        cancels("a"),
    ),
    Sending(
        "enqueue",
        "one that replaces a job that is gone",
        A_IS_GONE,
        enqueue(job("a", "new", replace=Replace.GONE)),
        steps(OTHER_CLAIMS, cancels("a")),
    ),
    # When that time has passed, the same request makes its job: nothing of it was stored by which it could be known.
    Sending(
        "enqueue",
        "a job that is not gone yet",
        steps(enqueue(job("a")), claims("1.a"), settles("complete", ms=50_000)),
        enqueue(job("a", "new", replace=Replace.GONE)),
        None,
    ),
    Sending("enqueue", "a conflict", enqueue(job("a", task="other:task")), enqueue(job("b"), job("a")), cancels("a")),
    # When the holder has ended, the same request makes its job: nothing of it was stored by which it could be known.
    Sending("enqueue", "a unique key that is held", enqueue(job("b", unique="k")), enqueue(job("a", unique="k")), None),
    Sending("enqueue", "one under a key that has one", A_ONCE, enqueue(job("b"), once=ONCE), cancels("a")),
    Sending("enqueue", "one under a key for other values", A_ONCE, enqueue(job("b"), once=OTHER_VALUES), cancels("a")),
    Sending("enqueue", "one under a key whose job is gone", A_IS_FORGOTTEN, enqueue(job("b"), once=ONCE), NOTHING),
    Sending(
        "enqueue",
        "one under a key where its unique key is held",
        enqueue(job("b", unique="k")),
        enqueue(job("a", unique="k"), once=ONCE),
        cancels("b"),
    ),
    Sending("enqueue", "the last that may wait", enqueue(job("b")), enqueue(job("a"), max_queued=2), cancels("a")),
    # When there is room again, the same request makes its job: nothing of it was stored by which it could be known.
    Sending("enqueue", "one more than may wait", enqueue(job("b")), enqueue(job("a"), max_queued=1), None),
    Sending("enqueue", "one under a key", NOTHING, A_ONCE, steps(claims("1.a"), settles("complete"))),
    Sending(
        "claim",
        "a job",
        enqueue(job("a", payload=LARGE), job("b")),
        claims("1.a"),
        steps(settles("complete"), claims("2.b"), enqueue(job("c"))),
    ),
    Sending("claim", "nothing", NOTHING, claims("1.a"), enqueue(job("a"))),
    Sending(
        "claim",
        "due and expired jobs",
        steps(enqueue(job("a", due="d60000"), job("b", expires="a1000")), falls_due("a")),
        claims("1.a", 5),
        steps(claims("2.b"), settles("retry")),
    ),
    Sending("claim", "a job that is to be ended", A_IS_MARKED, claims("1.a"), steps(settles("cancel"), claims("2.b"))),
    *(Sending("settle", outcome, A_RUNS, settles(outcome), _AFTER_SETTLE[outcome]) for outcome in SETTLE_OUTCOMES),
    *(
        Sending(
            "settle",
            f"{outcome}, cancelled meanwhile",
            steps(A_RUNS, cancels("a")),
            settles(outcome),
            redrives("a", "x"),
        )
        for outcome in SETTLE_OUTCOMES
        if outcome not in ("complete", "bury")
    ),
    Sending("settle", "complete, nothing kept", A_RUNS, settles("complete", ms=0), _AFTER_SETTLE["complete"]),
    Sending(
        "settle",
        "complete, kept for less than a minute",
        A_RUNS,
        settles("complete", ms=5_000),
        _AFTER_SETTLE["complete"],
    ),
    Sending("settle", "bury, kept as long as all", A_RUNS, settles("bury", ms=0), _AFTER_SETTLE["bury"]),
    Sending("settle", "bury, kept for less than a minute", A_RUNS, settles("bury", ms=5_000), _AFTER_SETTLE["bury"]),
    Sending(
        "settle",
        "bury, nothing kept",
        A_RUNS,
        settles("bury", ms=-1),
        steps(enqueue(job("a", "new", replace=Replace.GONE)), OTHER_CLAIMS),
    ),
    Sending(
        "settle",
        "cancel of a job that never started",
        steps(A_IS_MARKED, claims("1.a")),
        settles("cancel"),
        redrives("a", "x"),
    ),
    Sending("settle", "reject", A_RUNS, reject, enqueue(job("a", "new"))),
    Sending("renew", "a lease", A_RUNS, renews(HELD_A), settles("complete")),
    Sending("renew", "one to be cancelled", steps(A_RUNS, cancels("a")), renews(HELD_A), settles("cancel")),
    Sending("renew", "and hand an orphan back", A_AND_B_RUN, renews(HELD_A), OTHER_CLAIMS),
    Sending("renew", "before the next claim", steps(A_RUNS, enqueue(job("b"))), renews(HELD_A), claims("2.b")),
    Sending("reclaim", "a lapsed job", steps(A_RUNS, LAPSED), reclaims(), OTHER_CLAIMS),
    Sending("reclaim", "a dead worker's jobs", A_AND_B_RUN, reclaims(WORKER), OTHER_CLAIMS),
    Sending("cancel", "a job that waits", enqueue(job("a", due="d60000")), cancels("a"), redrives("a", "again")),
    Sending("cancel", "a job that runs", A_RUNS, cancels("a"), settles("cancel")),
    Sending(
        "cancel",
        "a job that waits, by a worker",
        enqueue(job("a", due="d60000")),
        cancels("a", by_worker=True),
        steps(claims("1.a"), settles("cancel")),
    ),
    Sending("cancel", "one that was marked", A_IS_MARKED, cancels("a"), redrives("a", "again")),
    Sending("cancel", "a job that runs, by a worker", A_RUNS, cancels("a", by_worker=True), settles("release")),
    Sending(
        "dismiss",
        "a job that waits",
        enqueue(job("a", due="d60000", payload=LARGE)),
        dismisses("a"),
        enqueue(job("a", "new", replace=Replace.GONE)),
    ),
    Sending("dismiss", "a job that runs", A_RUNS, dismisses("a"), settles("cancel")),
    # What did nothing at first does nothing later either.
    Sending("cancel", "a job that is not there", NOTHING, cancels("a"), enqueue(job("a"))),
    Sending(
        "cancel", "a job that has ended", A_HAS_SUCCEEDED, cancels("a"), enqueue(job("a", replace=Replace.FINISHED))
    ),
    Sending("cancel", "a job that was cancelled", A_IS_CANCELLED, cancels("a"), redrives("a", "again")),
    Sending(
        "cancel",
        "a job that was asked to end",
        steps(A_RUNS, cancels("a")),
        cancels("a"),
        steps(settles("cancel"), redrives("a", "again")),
    ),
    Sending("dismiss", "a job that is not there", NOTHING, dismisses("a"), enqueue(job("a"))),
    Sending(
        "dismiss",
        "a job that was dismissed",
        steps(A_IS_CANCELLED, dismisses("a")),
        dismisses("a"),
        enqueue(job("a", "new", replace=Replace.GONE)),
    ),
    Sending("dismiss", "a job that is dead", A_IS_DEAD, dismisses("a"), enqueue(job("a", "new", replace=Replace.GONE))),
    Sending("relay", "a row", NOTHING, relays(job("a")), steps(claims("1.a"), settles("complete"))),
    Sending("relay", "a held key", enqueue(job("b", unique="k")), relays(job("a", unique="k")), claims("1.a")),
    Sending("forget", "a receipt", relays(job("a")), forgets_rows("of-a"), claims("1.a")),
    Sending("redrive", "a dead job", A_IS_DEAD, redrives("a", "again"), steps(OTHER_CLAIMS, cancels("a"))),
    Sending("watch", "a job that waits", enqueue(job("a")), watches("a"), cancels("a")),
    # After a redrive it would be a promise to tell of the new end; for a minute.
    Sending("watch", "a job that has ended", A_IS_DEAD, watches("a"), None),
    Sending("progress", "of an attempt", A_RUNS, progresses(), settles("complete")),
    Sending(
        "progress",
        "before its lease passes",
        A_RUNS,
        progresses(),
        steps(lapses("a"), end_grace, reclaims(), OTHER_CLAIMS),
    ),
    Sending("abandon", "an attempt", A_RUNS, abandons(), settles("complete")),
    Sending("blame", "an attempt", A_IS_SUSPECT, blames(), settles("complete", attempt=2)),
    Sending("blame", "and then a release", A_IS_SUSPECT, blames(), steps(settles("release", attempt=2), OTHER_CLAIMS)),
    Sending("abandon", "before the job is another's", A_RUNS, abandons(), steps(settles("release"), OTHER_CLAIMS)),
    Sending("measure", "without a leader", A_RUNS, measures("first"), measures("second")),
    Sending("measure", "while another leads", steps(A_RUNS, measures("first")), measures("second"), None),
    Sending("hasten", "what is due later", enqueue(job("a", due="d60000")), hastens(60_000, "once"), claims("1.a")),
    Sending("declare", "a new schedule", NOTHING, declares("print"), fires(1000, 2000, job("tick"))),
    # Of two specs the last to arrive counts, so a copy that comes after the other's would count again.
    Sending("declare", "another spec", declares("older"), declares("print"), fires(1000, 2000, None)),
    Sending("fire", "a tick", declares("print"), fires(1000, 2000, job("a")), fires(2000, 3000, job("b"))),
    Sending("fire", "a tick whose job runs", declares("print"), fires(1000, 2000, job("a")), claims("1.a")),
    Sending("fire", "a tick to skip", declares("print"), fires(1000, 2000, None), fires(2000, 3000, job("b"))),
]
