"""A request becomes a job: enqueue what it asks for, and say so."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, get_args

from arq_web.config import seconds
from arq_web.errors import (
    IdempotencyKeyReused,
    IdempotentJobGone,
    InvalidRoute,
    InvalidTask,
    JobNotFound,
    PayloadTooLarge,
    QueueFull,
    StoreError,
)
from arq_web.http import answers, problems, result
from arq_web.http.answers import Answer
from arq_web.http.asked import Asked, InvalidHeader
from arq_web.http.front import WAIT_S, Front
from arq_web.http.idempotency import Compared, idempotency, kept_ms
from arq_web.http.waiting import TooManyWaiting
from arq_web.job import JobInfo
from arq_web.queue import Job, Queue
from arq_web.retry import Seconds
from arq_web.store.messages import Enqueued
from arq_web.store.messages import Idempotency as Once
from arq_web.task import Call, Task

Idempotency = Literal["optional", "required", "off"]
FULL_RETRY_S: Final = range(5, 11)
"""Of a full queue: spread, so that those who were refused together do not come back together."""

_UNKNOWN: Final = 500
"""The status of an exception that names none."""
_REPLAYED: Final = "idempotent-replayed"
_RESULT_STATUSES: Final = frozenset(range(200, 300)) - {202}  # a 202 says that there is no result yet
_WITHOUT_BODY: Final = frozenset({204, 205})


@dataclass(frozen=True, slots=True)
class SubmitPolicy:
    """What ``@background_job`` says of its HTTP side."""

    result_status: int = 200
    """Of the result, where the handler returned."""
    max_wait_s: float = 0.0
    """The longest ``Prefer: wait=N`` on the submit itself; 0: it is not honoured."""
    idempotency: Idempotency = "optional"
    """``required``: 400 without an ``Idempotency-Key``; ``off``: the header is not looked at."""
    compared: Compared = field(default_factory=Compared)

    @classmethod
    def of(
        cls,
        *,
        result_status: int = 200,
        max_wait: Seconds | None = None,
        idempotency: Idempotency = "optional",
    ) -> SubmitPolicy:
        """From the options of ``@background_job``.

        Raises:
            InvalidTask: one of them is outside its range.
        """
        max_wait_s = 0.0 if max_wait is None else seconds(max_wait)
        rules: tuple[tuple[str, object, bool, str], ...] = (
            ("result_status", result_status, result_status in _RESULT_STATUSES, "between 200 and 299, and not 202"),
            ("max_wait", max_wait, 0 <= max_wait_s <= WAIT_S, f"between 0 and {WAIT_S:g} seconds"),
            ("idempotency", idempotency, idempotency in get_args(Idempotency), "'optional', 'required' or 'off'"),
        )
        for option, value, is_fine, allowed in rules:
            if not is_fine:
                why = f"its option {option}={value!r} is out of range"
                raise InvalidTask("@background_job(...)", why, f"It must be {allowed}.")
        return cls(result_status, max_wait_s, idempotency)

    def comparing(self, names: Iterable[str], *, query: bool) -> SubmitPolicy:
        """The same, for a function whose requests are told apart by this; see ``Compared``."""
        before = self.compared
        return replace(self, compared=Compared(before.names | frozenset(names), before.query or query))

    def check_returns(self, route: str, returns: object) -> None:
        """Refuse a result that its status cannot carry.

        Raises:
            InvalidRoute: a 204 or 205 has no body, and the function returns something.
        """
        if self.result_status in _WITHOUT_BODY and returns not in (None, type(None)):
            why = f"its result_status={self.result_status} has no body, and it returns something"
            raise InvalidRoute(route, why, "Annotate it with -> None, or choose another status.")


@dataclass(frozen=True, slots=True)
class Submission:
    """One request to a route that is a job."""

    front: Front
    asked: Asked
    task: Task[..., Any]
    arguments: Mapping[str, object]
    policy: SubmitPolicy

    async def answer(self) -> Answer:
        """Make it a job, or find the one that it became before.

        Raises:
            InvalidHeader, QueueFull, PayloadTooLarge, IdempotencyKeyReused, IdempotentJobGone, StoreError: there is no
            job of it (any more), or nobody knows.
        """
        key = None if self.policy.idempotency == "off" else self.asked.idempotency_key
        if key is None and self.policy.idempotency == "required":
            return problems.idempotency_key_missing()
        principal = await self.front.access.principal(self.asked) or None
        owned = self.task if principal is None else self.task.options(owner=principal)
        call = Call(self.task, owned.call_options, (), self.arguments)
        queue = self.front.default_queue.queue_of(call)
        answer = await queue.submit(call, once=None if key is None else self._once(key, principal))
        found = None if answer.created else await self._found(queue.job(answer.id), principal)
        return await self._told(queue, answer, found)

    def _once(self, key: str, principal: str | None) -> Once:
        keep_ms = kept_ms(self.front.hub.config, self.task.policy)
        return idempotency(self.asked, key, principal, self.arguments, self.policy.compared, keep_ms)

    async def _found(self, job: Job[Any], principal: str | None) -> JobInfo:
        """The job that an earlier request has made; to whom it is not shown, the key is another's.

        Raises:
            IdempotentJobGone: it was dismissed, or is gone by now.
            IdempotencyKeyReused: the caller may not look at it.
        """
        try:
            info = await job.info()
        except JobNotFound:
            raise IdempotentJobGone(job.id) from None
        if not await self.front.access.may_look(self.asked, info, principal):
            raise IdempotencyKeyReused(job.id)
        if info.is_dismissed:
            raise IdempotentJobGone(job.id)
        return info

    async def _told(self, queue: Queue, answer: Enqueued, info: JobInfo | None) -> Answer:
        """The 202; or, if it ends while the client waits, what the handler says. ``info``: of a job that was there."""
        job: Job[Any] = queue.job(answer.id)
        headers = {_REPLAYED: "true"} if answer.replayed else {}
        wait_s = self._wait_s()
        if wait_s is not None:
            info = await self._after(job, wait_s) or info
            headers["preference-applied"] = f"wait={wait_s}"
            if info is not None and info.is_finished:
                return await self._result(job, info, headers)
        return self._accepted(answer, queue, info).with_headers(headers)

    def _wait_s(self) -> int | None:
        """The wait that is granted, whole seconds; None when none was asked for, or the route grants none."""
        asked_s = self.asked.prefer.wait_s
        if asked_s is None or not self.policy.max_wait_s:
            return None
        return int(min(asked_s, self.policy.max_wait_s, self.front.longest_wait_s))

    async def _after(self, job: Job[Any], wait_s: int) -> JobInfo | None:
        """How it stands after the wait; None when that is not known. The job is there, whatever happens here."""
        try:
            return await self.front.waiters.ended(job, wait_s, self.asked.request.receive)
        except (TooManyWaiting, JobNotFound, StoreError):
            return None

    async def _result(self, job: Job[Any], info: JobInfo, headers: Mapping[str, str]) -> Answer:
        paths = self.front.paths(self.asked)
        where = paths.links(info.id, info.queue).result
        located = {"content-location": where} if where else {}
        return await result.replay(self.front, self.asked, job, info, {**headers, **located})

    def _accepted(self, answer: Enqueued, queue: Queue, info: JobInfo | None) -> Answer:
        paths = self.front.paths(self.asked)
        if info is None:
            return answers.accepted(answer.id, queue.name, self.task.name, paths, created=answer.created)
        return answers.accepted(
            answer.id, queue.name, info.task, paths, created=answer.created, state=info.state
        ).with_headers(answers.retry_after(info))


async def submit(
    front: Front, asked: Asked, task: Task[..., Any], arguments: Mapping[str, object], policy: SubmitPolicy
) -> Answer:
    """Make a request's validated parameters a job, and answer 202 (or why not).

    With an ``Idempotency-Key`` a request that comes again gets its own job again. With ``Prefer: wait=N``, where the
    route grants it, the answer is the handler's own if it has ended by then. A client that goes away leaves the job.

    Raises:
        Exception: the framework's own HTTP exception, where the client waits and the handler raised one; and what the
            app's ``owner`` or ``authorize`` raises.
    """
    try:
        answer = await _answer(Submission(front, asked, task, arguments, policy))
    except Exception as error:
        status = getattr(error, "status_code", _UNKNOWN)  # of both frameworks' HTTP exceptions
        front.tell_answered(status if isinstance(status, int) else _UNKNOWN, is_replayed=False)
        raise
    front.tell_answered(answer.status, is_replayed=_REPLAYED in answer.headers)
    return answer


async def _answer(submission: Submission) -> Answer:
    try:
        return await submission.answer()
    except InvalidHeader as error:
        return problems.invalid_header(error.header, error.why)
    except IdempotencyKeyReused:
        return problems.idempotency_key_reused()
    except IdempotentJobGone as error:
        return problems.job_gone(error.job_id)
    except QueueFull as error:
        return problems.queue_full(error.queue, random.choice(FULL_RETRY_S))  # noqa: S311 - no secret
    except PayloadTooLarge as error:
        return problems.payload_too_large(error.size_bytes, error.limit_bytes)
    except StoreError as error:
        return problems.of_store(error)
