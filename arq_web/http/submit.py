"""A request becomes a job: enqueue what it asks for, and say so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from arq_web.config import seconds
from arq_web.errors import InvalidRoute, InvalidTask, PayloadTooLarge, StoreFull, StoreUnavailable
from arq_web.http import answers, problems
from arq_web.http.answers import Answer
from arq_web.http.asked import Asked
from arq_web.http.front import WAIT_S, Front
from arq_web.options import NO_OPTIONS
from arq_web.retry import Seconds
from arq_web.task import Call, Task

Idempotency = Literal["optional", "required"]

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
    """``required``: 400 without an ``Idempotency-Key``."""

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
            ("idempotency", idempotency, idempotency in get_args(Idempotency), "'optional' or 'required'"),
        )
        for option, value, is_fine, allowed in rules:
            if not is_fine:
                why = f"its option {option}={value!r} is out of range"
                raise InvalidTask("@background_job(...)", why, f"It must be {allowed}.")
        return cls(result_status, max_wait_s, idempotency)

    def check_returns(self, route: str, returns: object) -> None:
        """Refuse a result that its status cannot carry.

        Raises:
            InvalidRoute: a 204 or 205 has no body, and the function returns something.
        """
        if self.result_status in _WITHOUT_BODY and returns not in (None, type(None)):
            why = f"its result_status={self.result_status} has no body, and it returns something"
            raise InvalidRoute(route, why, "Annotate it with -> None, or choose another status.")


async def submit(
    front: Front, asked: Asked, task: Task[..., Any], arguments: Mapping[str, object], policy: SubmitPolicy
) -> Answer:
    """Make a request's validated parameters a job, and answer 202 (or why not)."""
    try:
        [job] = await front.default_queue.enqueue_many([Call(task, NO_OPTIONS, (), arguments)])
    except (StoreUnavailable, StoreFull):
        return problems.unavailable()
    except PayloadTooLarge as error:
        return problems.payload_too_large(error.size_bytes, error.limit_bytes)
    return answers.accepted(job.id, job.queue.name, task.name, front.paths(asked), created=job.created)
