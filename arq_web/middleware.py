"""What may stand around an enqueue and around an attempt: one protocol for both. Pure.

::

    async def with_tenant(job: OutgoingJob, call_next: CallNext[OutgoingJob]) -> Any:
        if tenant.get() is not None:  # as it is in a schedule
            job.headers["tenant"] = tenant.get()
        return await call_next(job)

    async def as_tenant(job: IncomingJob, call_next: CallNext[IncomingJob]) -> Any:
        token = tenant.set(job.headers.get("tenant"))
        try:
            return await call_next(job)
        finally:
            tenant.reset(token)

    ArqWeb(app, enqueue_middleware=[with_tenant], middleware=[as_tenant])

The first of a list is the outermost.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import CoroutineType
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

import msgspec

from arq_web.errors import InvalidConfig, InvalidMiddleware

J = TypeVar("J", "OutgoingJob", "IncomingJob")

L = TypeVar("L")

CallNext: TypeAlias = Callable[[J], Awaitable[Any]]
StopWord: TypeAlias = Literal["timeout", "cancel", "shutdown", "lease_lost"]


class Middleware(Protocol[J]):
    """One layer: it does what it likes before and after ``call_next``, or does not call it."""

    async def __call__(self, job: J, call_next: Callable[[J], Awaitable[Any]]) -> Any:
        """Around an enqueue ``call_next`` returns the handle; around an attempt, what the task returned, or raises."""
        ...


class OutgoingJob(msgspec.Struct):
    """A job that is about to be enqueued: checked and encoded, not sent."""

    id: str
    task: str
    queue: str
    headers: dict[str, str]
    """Travel with the job: into each of its attempts, not into its arguments. Small: they are stored in its record."""
    payload: bytes
    """The encoded arguments. Who replaces them must give the same ones back around the attempt."""
    batch_count: int = 1
    """How many jobs its ``enqueue_many`` sends, itself included."""

    def __repr__(self) -> str:
        return f"<OutgoingJob {self.id} {self.task}>"  # arguments are nobody's to log


class IncomingJob(msgspec.Struct):
    """A job whose attempt is about to begin; its arguments are not decoded yet."""

    id: str
    task: str
    queue: str
    attempt: int
    failures: int
    crashes: int
    max_tries: int
    enqueued_at_ms: int
    claimed_at_ms: int
    worker: str
    headers: dict[str, str]
    payload: bytes
    stopped_by: Callable[[], StopWord | None]
    """Why the attempt is being cancelled, for who catches a CancelledError; None while it is not."""
    call_task: Callable[[IncomingJob], Awaitable[Any]] | None = None
    """What the innermost layer's ``call_next`` comes to (for the runner; not part of the stable API)."""

    def __repr__(self) -> str:
        return f"<IncomingJob {self.id} {self.task} attempt={self.attempt}>"  # arguments are nobody's to log


EnqueueMiddleware: TypeAlias = Middleware[OutgoingJob]
AttemptMiddleware: TypeAlias = Middleware[IncomingJob]

Ending: TypeAlias = Literal[
    "succeeded", "retrying", "snoozed", "parked", "dead", "cancelled", "expired", "released", "crashed", "lost"
]
"""What an attempt came to, once Redis has recorded it; ``lost``: another worker had the job, nothing was recorded."""


class EndedAttempt(msgspec.Struct, frozen=True, gc=False):
    """An attempt that Redis has recorded."""

    job_id: str
    task: str
    queue: str
    ending: Ending
    reason: str
    """One word: of the stored error (failed, timeout, ...), else empty."""
    waited_s: float
    """From the time when it was due (or enqueued) to its claim."""
    ran_s: float
    total_s: float
    """From its enqueueing to now."""


class Observer(Protocol):
    """Who counts what a worker does. Called on its loop: must not wait, and must not raise.

    A class that derives from this one defines the methods that it wants called; the others cost nothing.
    """

    def attempt_begun(self, task: str, queue: str) -> None:
        """A slot is taken."""
        return

    def attempts_ended(self, ended: Sequence[EndedAttempt]) -> None:
        """Slots are free again: several at once, as Redis has recorded them."""
        return

    def job_reclaimed(self, task: str, queue: str, *, is_dead: bool) -> None:
        """It was taken from a worker that is gone; ``is_dead`` when that was one crash too many."""
        return

    def leases_renewed(self, *, is_answered: bool) -> None:
        """One renewal of all that is held was answered, or not. Called from the thread of the renewals."""
        return

    def request_answered(self, status: int, *, is_replayed: bool) -> None:
        """A route that is a job has answered; ``is_replayed`` with the job that an earlier request has made.

        Where it raises (the handler's HTTP exception, after a wait), its status is that of the exception, or 500.
        """
        return


class Selective(ABC):
    """A layer around attempts that has something to do for a few of them only (not part of the stable API)."""

    @abstractmethod
    async def __call__(self, job: IncomingJob, call_next: CallNext[IncomingJob]) -> Any:
        """For an attempt that it has not passed by."""

    @abstractmethod
    def inside_worker(self) -> AbstractContextManager[object]:
        """Around the whole run of a worker: what it sets in the context is there when an attempt begins."""

    @abstractmethod
    def passes_by(self, headers: Mapping[str, str]) -> bool:
        """Asked once for each attempt, in its context: True, and the layer is not called for it.

        Where no other layer is, such an attempt costs as little as one without middleware.
        """


@contextmanager
def inside_worker(layers: Iterable[AttemptMiddleware]) -> Iterator[None]:
    """Around the whole run of a worker: those that pass attempts by prepare the context that all of them begin with."""
    with ExitStack() as stack:
        for layer in layers:
            if isinstance(layer, Selective):
                stack.enter_context(layer.inside_worker())
        yield


def checked_layers(option: str, given: Iterable[L]) -> list[L]:
    """Those that were given, as a list of one's own.

    Raises:
        InvalidConfig: one of them cannot be called as a middleware is, or it is not several.
    """
    allowed = "a list of async functions (job, call_next)"
    if callable(given) or not isinstance(given, Iterable):
        raise InvalidConfig(option, given, f"{allowed}: {option}=[...]")
    several = list(given)
    for each in several:
        if isinstance(each, type):
            raise InvalidConfig(option, each, f"{allowed}; of a class, an object: {each.__name__}(...)")
        if not callable(each):
            raise InvalidConfig(option, each, allowed)
    return several


def name_of(layer: object) -> str:
    """How a layer is called in messages."""
    while isinstance(layer, functools.partial):
        layer = layer.func
    return str(getattr(layer, "__qualname__", type(layer).__qualname__))


def outside(layer: Middleware[J], call_next: CallNext[J]) -> CallNext[J]:
    """What the next layer outwards calls: ``layer``, and in it ``call_next``."""

    def call(job: J) -> Awaitable[Any]:
        answer: Awaitable[Any] = layer(job, call_next)
        if type(answer) is not CoroutineType and not hasattr(answer, "__await__"):
            why = f"returned {type(answer).__name__}, which cannot be awaited"
            raise InvalidMiddleware(name_of(layer), why, "Write it as async def.")
        return answer

    return call


def beside(layer: Selective, call: CallNext[IncomingJob], call_next: CallNext[IncomingJob]) -> CallNext[IncomingJob]:
    """As ``outside``: ``call``, or straight ``call_next`` where ``layer`` passes the attempt by."""
    return lambda job: (call_next if layer.passes_by(job.headers) else call)(job)


class Instrumented(Protocol):
    """What an instrument finds in a hub. The lists are filled while the hub is made, and read from then on."""

    middleware: list[AttemptMiddleware]
    enqueue_middleware: list[EnqueueMiddleware]
    observers: list[Observer]
    companions: list[Callable[[], Any]]
    """Make what runs beside the jobs, once for each process: a ``worker.companion.Companion``."""

    @property
    def vitals(self) -> Sequence[Any]:
        """``worker.vitals.Vitals`` of the workers that this process has, or had a moment ago."""
        ...

    @property
    def queue_names(self) -> Sequence[str]:
        """Of the app's queues, in the order in which a worker serves them."""
        ...

    @property
    def registry(self) -> Any:
        """The app's ``Registry``: its tasks, as far as they are known by now."""
        ...

    @property
    def queues(self) -> Any:
        """The app's ``QueueSet``. Not before the hub is used: this opens what it needs."""
        ...


class Instrument(Protocol):
    """Metrics, traces: what is installed in a hub as a whole."""

    def install(self, hub: Instrumented) -> None:
        """Put layers and observers into the hub's lists: at the front of a list is outside of the user's own."""
        ...
