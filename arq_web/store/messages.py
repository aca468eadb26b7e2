"""What is asked of a queue and what it answers, as data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum, StrEnum
from typing import Final, Literal, Protocol, TypeVar

import msgspec

from arq_web.store.record import ClaimedJob, owner_word
from arq_web.store.scripts import Argument


class Replace(StrEnum):
    """Which finished job of the same id gives way to a new one."""

    NOTHING = "0"
    FINISHED = "1"
    GONE = "2"
    """One that was to be kept for less than a minute: its record is still there, but that time has passed."""


class NewJob(msgspec.Struct, frozen=True, gc=False):
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
    replace: Replace = Replace.NOTHING
    owner: str | None = None
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
            self.replace.value,
            self._end_of_line() if self.owner or self.extra else b"",
            self.payload,
        )

    def _end_of_line(self) -> bytes:
        """What few jobs have: it goes into the record as it is."""
        words = (owner_word(self.owner) if self.owner else b"", self.extra)
        return b"".join(b" " + word for word in words if word)


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A request that its client may send again: asked twice, it is one job.

    ``key`` says who asked for what under which name, ``fingerprint`` with which values: hashes, without a space.
    """

    key: str
    fingerprint: str
    keep_ms: int
    """For how long the key is known, from its first use."""

    def word(self) -> str:
        """As the enqueue script wants it."""
        return f"{self.key} {self.fingerprint} {self.keep_ms}"


class Enqueued(msgspec.Struct, frozen=True, gc=False):
    """The answer for one job: its id (an existing job's, perhaps) and whether this request made it."""

    id: str
    created: bool
    replayed: bool = False
    """An earlier request under the same idempotency key has had this answer."""


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


class Settlement(msgspec.Struct, frozen=True, gc=False):
    """How one attempt ends. ``ms``: how long to keep it (complete, bury, cancel), or to wait (retry, snooze, park).

    For ``complete`` 0 keeps no result. For ``bury`` 0 keeps the record as long as the queue keeps its dead, and less
    than 0 keeps no error. For ``cancel`` 0 keeps the record as long as its enqueue says, and less than 0 not at all.
    """

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
    slots: int
    """How many jobs it can run at the same time; 0 where its sign does not say."""
    expires_ms: int


def worker_seen(member: bytes, expires_ms: int) -> WorkerSeen:
    """Read one ``<kind><slots> <worker>`` of a queue's workers, whatever stands there."""
    sign, _, worker = member.decode(errors="replace").partition(" ")
    slots = re.fullmatch(r"[a-z]([0-9]{1,9})", sign)
    return WorkerSeen(worker, sign.startswith("x"), int(slots[1]) if slots else 0, expires_ms)


MOST_JOBS: Final = 1000
MOST_BYTES: Final = 4_194_304
"""Of payloads in one request: a slow line must bring it, and Redis serves nobody else while its script runs."""


class _HasPayload(Protocol):
    @property
    def payload(self) -> bytes: ...


T = TypeVar("T", bound=_HasPayload)


def in_parts(jobs: Sequence[T]) -> Iterator[Sequence[T]]:
    """Cut before a job that would be too much, by number or bytes; one that is too large by itself goes alone."""
    first, size_bytes = 0, 0
    for index, job in enumerate(jobs):
        size_bytes += len(job.payload)
        if index > first and (index - first == MOST_JOBS or size_bytes > MOST_BYTES):
            yield jobs[first:index]
            first, size_bytes = index, len(job.payload)
    if jobs:
        yield jobs[first:]
