"""The names and fields of everything that is logged, in one table; docs/reference/events.md lists them.

A log line is an event name and its fields; text and JSON are formatted from the same fields. Arguments, results and
Redis URLs are never among them. Level says who must act: INFO nobody, WARNING look today, ERROR act.
"""

from __future__ import annotations

import contextlib
import logging
from contextvars import ContextVar
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Event:
    """One kind of log line: its name, level, logger and what its fields mean."""

    name: str
    level: int
    area: str
    fields: tuple[str, ...]
    meaning: str
    allowed: frozenset[str] = field(init=False, repr=False)
    logger: logging.Logger = field(init=False, repr=False)

    @property
    def is_logged(self) -> bool:
        """Whether anybody wants to hear of it now."""
        return self.logger.isEnabledFor(self.level) and self.level >= least_level.get()

    def __post_init__(self) -> None:
        object.__setattr__(self, "allowed", frozenset(self.fields))
        object.__setattr__(self, "logger", logging.getLogger(f"arq_web.{self.area}"))


_EVENTS: dict[str, Event] = {}


def _event(name: str, level: int, area: str, fields: str, meaning: str) -> Event:
    event = Event(name, level, area, tuple(fields.split()), meaning)
    _EVENTS[name] = event
    return event


least_level: ContextVar[int] = ContextVar("arq_web_least_level", default=logging.NOTSET)
"""Events below this level are not logged in this context: for whoever runs a worker and writes lines of his own."""

_D, _I, _W, _E = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR

JOB_ENQUEUED = _event("job.enqueued", _D, "queue", "job task queue created", "A call was enqueued, or found to exist.")
JOB_CLAIMED = _event(
    "job.claimed",
    _D,
    "worker",
    "job task queue worker attempt request_id waited_ms args",
    "A worker took the job under a lease; its attempt begins.",
)
JOB_SUCCEEDED = _event(
    "job.succeeded",
    _I,
    "worker",
    "job task queue worker attempt request_id waited_ms ran_ms args",
    "The task returned.",
)
JOB_RETRYING = _event(
    "job.retrying",
    _I,
    "worker",
    "job task queue worker attempt request_id failures waited_ms ran_ms next_s error",
    "The attempt failed and another follows.",
)
JOB_SNOOZED = _event(
    "job.snoozed",
    _I,
    "worker",
    "job task queue worker attempt request_id ran_ms next_s error",
    "The task asked for a later attempt.",
)
JOB_PARKED = _event(
    "job.parked",
    _W,
    "worker",
    "job task queue worker attempt request_id next_s error",
    "No worker here can run it (yet); it is tried again, up to 24 h.",
)
JOB_DEAD = _event(
    "job.dead",
    _E,
    "worker",
    "job task queue worker attempt request_id failures crashes waited_ms ran_ms reason error args",
    "The job ended without success.",
)
JOB_CANCELLED = _event(
    "job.cancelled", _I, "worker", "job task queue worker attempt request_id ran_ms", "The job was cancelled."
)
JOB_RELEASED = _event(
    "job.released",
    _I,
    "worker",
    "job task queue worker attempt request_id ran_ms",
    "Handed back unspent: this worker stops.",
)
JOB_RECLAIMED = _event(
    "job.reclaimed",
    _W,
    "worker",
    "job task queue crashes worker state",
    "Its worker is gone; the job is queued again (or dead).",
)
JOB_CRASHED = _event(
    "job.crashed",
    _W,
    "worker",
    "job task queue worker attempt request_id ran_ms error",
    "The child process that ran it died.",
)
JOB_NOT_ISOLATED = _event(
    "job.not_isolated",
    _W,
    "worker",
    "job task queue worker attempt crashes error",
    "The job may kill its worker, but no child process can load its task: it runs in the worker.",
)
LEASE_LOST = _event(
    "lease.lost",
    _W,
    "worker",
    "job task queue worker attempt request_id ran_ms",
    "Another worker may run it; this attempt records nothing.",
)
ATTEMPT_STUCK = _event(
    "attempt.stuck",
    _E,
    "worker",
    "job task queue worker attempt over_s stack",
    "An attempt did not end at its timeout; its lease lapses.",
)
LOOP_BLOCKED = _event(
    "loop.blocked",
    _E,
    "worker",
    "worker running blocked_s stack",
    "The event loop does not run; leases are still renewed.",
)
WORKER_STARTED = _event("worker.started", _I, "worker", "worker queues concurrency tasks redis", "A worker is ready.")
WORKER_DRAINING = _event(
    "worker.draining", _I, "worker", "worker running drain_s", "No new jobs; waiting for the running ones."
)
WORKER_STOPPED = _event("worker.stopped", _I, "worker", "worker succeeded failed released", "The worker has ended.")
WORKER_CUT_SHORT = _event(
    "worker.cut_short", _W, "worker", "worker released abandoned", "The drain time passed before every attempt ended."
)
WORKER_STANDBY = _event(
    "worker.standby", _I, "worker", "worker queue", "An external worker is alive; the embedded one stands back."
)
PROCESS_STARTED = _event("process.started", _I, "cli", "process pid", "The supervisor has started a worker process.")
PROCESS_ENDED = _event(
    "process.ended", _W, "cli", "process exit ran_ms", "A worker process ended unasked; the next one starts at once."
)
PROCESS_LOOPING = _event(
    "process.looping",
    _E,
    "cli",
    "process exit ran_ms times next_s",
    "Worker processes end one after the other, each soon after its start; the next one starts after a pause.",
)
STORE_LOST = _event("store.lost", _W, "store", "redis error", "Redis does not answer; waiting for it.")
STORE_BACK = _event("store.back", _I, "store", "redis after_s", "Redis answers again.")
STORE_TROUBLE = _event("store.trouble", _E, "store", "redis error", "Redis answers, but not as it should.")
QUEUE_UNATTENDED = _event(
    "queue.unattended", _W, "queue", "queue", "Jobs are enqueued, but no worker listens on this queue."
)
QUEUE_FULL = _event(
    "queue.full", _W, "queue", "queue waiting max_queued", "More is enqueued than may wait here: it is refused."
)
ENQUEUE_FAILED = _event(
    "enqueue.failed",
    _E,
    "queue",
    "job task queue after error",
    "A job that waited for a response or a commit could not be enqueued then: it is lost.",
)
ENQUEUE_DROPPED = _event(
    "enqueue.dropped",
    _D,
    "queue",
    "job task queue reason",
    "What a job waited for did not come about: the response was refused, the transaction rolled back.",
)
OUTBOX_STALLED = _event(
    "outbox.stalled",
    _W,
    "outbox",
    "error",
    "Rows of the outbox cannot be relayed: its database or Redis is away, or its table is missing. They wait.",
)
OUTBOX_RESUMED = _event("outbox.resumed", _I, "outbox", "after_s", "Rows of the outbox are relayed again.")
OUTBOX_REFUSED = _event(
    "outbox.refused",
    _E,
    "outbox",
    "row job task queue refusals error",
    "One row of the outbox cannot be relayed; the others can. It is tried again, an hour apart at last.",
)
HELPER_FAILED = _event(
    "helper.failed", _E, "worker", "helper error", "A part of the worker ended unasked: please report it."
)
SCHEDULE_FIRED = _event(
    "schedule.fired", _I, "worker", "schedule job queue tick late_ms", "The job of one tick was enqueued."
)
SCHEDULE_SKIPPED = _event(
    "schedule.skipped", _W, "worker", "schedule queue tick reason", "A tick passed without a job."
)
DEV_BROKER = _event("dev.broker", _I, "store", "sentence", "Which private Redis serves this development machine.")


def all_events() -> tuple[Event, ...]:
    """Every event, in the order of the table."""
    return tuple(_EVENTS.values())


def emit(event: Event, /, **fields: object) -> None:
    """Log ``event``. Fields that it does not declare are a programming error and raise KeyError."""
    if not event.is_logged:
        return
    if not event.allowed >= fields.keys():
        raise KeyError(f"event {event.name!r} declares no field {sorted(fields.keys() - event.allowed)}")
    # A filter or handler of the user's that raises must not take the engine along.
    with contextlib.suppress(Exception):
        event.logger.log(event.level, "%s", _Line(event, fields), extra={"event": event.name, "fields": fields})


class _Line:
    """The text of an event, made only if somebody writes it."""

    __slots__ = ("event", "fields")

    def __init__(self, event: Event, fields: dict[str, object]) -> None:
        self.event, self.fields = event, fields

    def __str__(self) -> str:
        words = " ".join(f"{name}={_shown(value)}" for name, value in self.fields.items() if value not in (None, ""))
        return f"{self.event.name:<16} {words}"


def _shown(value: object) -> str:
    text = f"{value:.1f}" if isinstance(value, float) else str(value)
    return repr(text) if " " in text and "\n" not in text else text
