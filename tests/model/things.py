"""What the model keeps: a job, what is known of a worker, a schedule. The rules are in ``transition_table.py``."""

from __future__ import annotations

from dataclasses import dataclass, field

from arq_web.job import TERMINAL_STATES, JobState
from arq_web.store.messages import NewJob

NOBODY = "-"


@dataclass(slots=True, eq=False)
class Job:
    """One job. ``place`` orders the ready jobs of one priority; ``ends`` is when its record goes.

    ``gone``: when it was to go, where that is earlier (no record goes within a minute of its job's end).
    """

    id: str
    request: NewJob
    created: int
    state: JobState
    since: int
    nonce: str
    expires: int
    due: int = 0
    attempt: int = 0
    failures: int = 0
    crashes: int = 0
    token: str = NOBODY
    worker: str = NOBODY
    started: int = 0
    lease: int = 0
    place: tuple[int, int] = (0, 0)
    note: bytes = b""
    is_result_kept: bool = True
    is_cancel_requested: bool = False
    is_abandoned: bool = False
    is_dismissed: bool = False
    is_alone: bool = False
    spared: int = 0
    watchers: set[str] = field(default_factory=set)
    watched_until: int = 0
    ends: int = 0
    gone: int = 0

    @property
    def is_live(self) -> bool:
        return self.state not in TERMINAL_STATES

    @property
    def keep_ms(self) -> int:
        return self.request.keep_s * 1000

    def is_owned_by(self, attempt: int, token: str) -> bool:
        """The fence: both must be those of the claim."""
        return (self.attempt, self.token) == (attempt, token)


@dataclass(slots=True)
class Worker:
    """What a queue knows of a worker: its last claim, what it holds, and until when that is known."""

    last_token: str = ""
    brought: list[str] = field(default_factory=list)
    claim_lease: int = 0
    last_claimed: int = 0
    claim_known_until: int = 0
    holds: set[str] = field(default_factory=set)
    holds_known_until: int = 0


@dataclass(slots=True)
class Schedule:
    """A recurring job: its next tick, and the last one that fired."""

    fingerprint: str
    tick: int
    fired: int = 0
    is_skipped: bool = False
    """That last one: then it is known who said so."""
    ends: int = 0


@dataclass(slots=True)
class Key:
    """What an idempotency key stands for: values, the job that answered, and the request that came first."""

    fingerprint: str
    job_id: str
    nonce: str
    ends: int


class Refused(Exception):
    """Why an enqueue is refused as a whole; with the id, or the number, that is told."""


class Conflict(Exception):
    """An id belongs to a job of another task."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """The answer to a claim. Each job as (id, attempt, token)."""

    jobs: list[tuple[str, int, str]]
    next_due: int
    lease_count: int
    ready_count: int
    is_standby: bool
