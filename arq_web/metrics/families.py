"""The names of our metrics: one table. docs/reference/metrics.md and the dashboards are held against it by tests.

Base units, few labels: a task that the app does not know counts as ``(unknown)``, so that nobody can make new time
series by what he enqueues.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What Prometheus is to think of a metric."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Family:
    """One metric; of a counter with ``_total``, of a histogram without the words that its series end in."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    help: str


_TASK = ("queue", "task")
_QUEUE = ("queue",)


def _counter(name: str, labels: tuple[str, ...], text: str) -> Family:
    return Family(name, Kind.COUNTER, labels, text)


def _gauge(name: str, labels: tuple[str, ...], text: str) -> Family:
    return Family(name, Kind.GAUGE, labels, text)


def _histogram(name: str, labels: tuple[str, ...], text: str) -> Family:
    return Family(name, Kind.HISTOGRAM, labels, text)


JOBS_ENQUEUED = _counter(
    "arq_jobs_enqueued_total",
    _TASK,
    "Jobs that this process has enqueued; those that wait for a commit or a response too.",
)
ENQUEUE_SECONDS = _histogram(
    "arq_enqueue_seconds",
    ("queue", "outcome"),
    "How long enqueues took; outcome is created, existing, tied (to be sent later), full (refused) or error.",
)
HTTP_ENQUEUE = _counter("arq_http_enqueue_total", ("status",), "Answers of routes that are jobs, by HTTP status.")
IDEMPOTENT_REPLAYS = _counter(
    "arq_idempotent_replays_total", (), "Requests that came again with their Idempotency-Key and got their first job."
)
JOB_ATTEMPTS = _counter(
    "arq_job_attempts_total",
    (*_TASK, "outcome", "reason"),
    "Attempts that ended here, by what they came to; reason says more of those that went wrong.",
)
JOBS_FINISHED = _counter(
    "arq_jobs_finished_total",
    (*_TASK, "outcome"),
    "Jobs that a worker has ended for good; those that are cancelled or expire while they wait are not seen by one.",
)
JOB_WAIT = _histogram("arq_job_wait_seconds", _TASK, "From the moment when an attempt was due to its claim.")
JOB_RUN = _histogram("arq_job_run_seconds", _TASK, "How long attempts ran.")
JOB_TOTAL = _histogram("arq_job_total_seconds", _TASK, "From a job's enqueue to its end, of those that ended here.")
JOBS_FENCED = _counter(
    "arq_jobs_fenced_total", _TASK, "Attempts whose end was not recorded: their job was another worker's by then."
)
JOBS_RECOVERED = _counter("arq_jobs_recovered_total", _TASK, "Jobs taken from workers that were gone.")
JOBS_POISONED = _counter(
    "arq_jobs_poisoned_total", _TASK, "Jobs that are dead because they took their worker along too often."
)
JOBS_RUNNING = _gauge("arq_jobs_running", (), "Attempts that run in this process.")
WORKER_SLOTS = _gauge("arq_worker_slots", (), "Attempts that may run in this process at the same time.")
LOOP_LAG = _gauge(
    "arq_worker_loop_lag_seconds", (), "The longest time for which the event loop did not run, in the last 15 to 30 s."
)
LOOP_BLOCKED = _counter(
    "arq_worker_loop_blocked_seconds_total", (), "For how long the event loop did not run when it should have."
)
LEASE_RENEWALS = _counter("arq_worker_lease_renewals_total", ("result",), "Renewals of leases; result is ok or failed.")
REDIS_RTT = _histogram("arq_redis_rtt_seconds", (), "How long Redis took to answer one small command.")
REDIS_UP = _gauge("arq_redis_up", (), "1 where Redis answered when it was last asked, 0 where it did not.")
REDIS_ERRORS = _counter(
    "arq_redis_errors_total",
    (),
    "Questions of these metrics and renewals of leases that Redis did not answer, or with an error.",
)
QUEUE_READY = _gauge("arq_queue_ready", _QUEUE, "Jobs that wait for a worker.")
QUEUE_SCHEDULED = _gauge("arq_queue_scheduled", _QUEUE, "Jobs that are due later: scheduled or retrying.")
QUEUE_RUNNING = _gauge("arq_queue_running", _QUEUE, "Jobs that run, in all workers.")
QUEUE_AGE = _gauge(
    "arq_queue_oldest_ready_age_seconds", _QUEUE, "How long the oldest job that waits has been ready, this time."
)
QUEUE_DEAD = _gauge("arq_queue_dead", _QUEUE, "Jobs that ended without success and are kept to be looked at.")
QUEUE_REJECTED = _gauge("arq_queue_rejected", _QUEUE, "What was found in the queue and was no job of ours.")
QUEUE_MEASURED = _gauge(
    "arq_queue_measured_age_seconds", _QUEUE, "How old the numbers of the queue are; without any, nobody tells them."
)

FAMILIES: tuple[Family, ...] = tuple(each for each in globals().values() if isinstance(each, Family))
"""All of them, in the order in which they are shown."""
