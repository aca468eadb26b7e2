"""``GET /jobs``: the caller's jobs, a page at a time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from arq_web.errors import InvalidOption
from arq_web.http import answers, problems, result
from arq_web.http.answers import Answer, JobBody
from arq_web.http.asked import Asked
from arq_web.http.front import Front
from arq_web.http.paths import encoded_path
from arq_web.job import JobInfo, JobState
from arq_web.queue import DEFAULT_QUEUE, Queue
from arq_web.store.inspection import Inspector

DEFAULT_LIMIT, MAX_LIMIT = 20, 100
LOOKS_PER_PAGE: Final = 10
"""How many times one request looks for jobs that the caller may see: the next goes on where it stopped."""
SCANS_PER_LOOK: Final = 2
"""Of 500 keys each: a large database is not looked through for one request."""

STATES: Final = (
    JobState.RUNNING,
    JobState.QUEUED,
    JobState.SCHEDULED,
    JobState.RETRYING,
    JobState.DEAD,
    JobState.SUCCEEDED,
    JobState.CANCELLED,
    JobState.EXPIRED,
)
"""The order in which they are listed."""
_INDEXED_COUNT: Final = 5
"""The last three are in no index: the whole database is looked through for them."""
_CURSOR = re.compile(r"([a-z]+)\.([0-9]{1,20})")
_LAST_CURSOR, _LAST_INDEX = 2**64 - 1, 2**53
"""Redis takes no larger one: of a SCAN, and safely of a position in an index."""


class InvalidQuery(ValueError):
    """A query parameter is outside its range."""

    def __init__(self, parameter: str, allowed: str) -> None:
        self.parameter, self.allowed = parameter, allowed
        super().__init__(f"{parameter} must be {allowed}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the query asks for."""

    queue: str
    states: tuple[JobState, ...]
    task: str | None
    limit: int
    at: tuple[JobState, int]
    """Where to go on: a state, and a position in it."""

    @classmethod
    def of(cls, asked: Asked) -> Wanted:
        """Read ``queue``, ``state``, ``task``, ``limit`` and ``cursor``.

        Raises:
            InvalidQuery: one of them is outside its range.
        """
        limit = asked.query.get("limit", str(DEFAULT_LIMIT))
        if not re.fullmatch(r"[0-9]{1,3}", limit) or not 1 <= int(limit) <= MAX_LIMIT:
            raise InvalidQuery("limit", f"between 1 and {MAX_LIMIT}")
        states: tuple[JobState, ...] = STATES
        state = asked.query.get("state")
        if state is not None:
            if state not in set(STATES):
                raise InvalidQuery("state", f"one of {', '.join(STATES)}")
            states = (JobState(state),)
        at, cursor = (states[0], 0), asked.query.get("cursor")
        if cursor is not None:
            match = _CURSOR.fullmatch(cursor)
            if match is None or match[1] not in set(states) or int(match[2]) > _LAST_CURSOR:
                raise InvalidQuery("cursor", "one that the page before has named")
            is_indexed = STATES.index(JobState(match[1])) < _INDEXED_COUNT
            at = (JobState(match[1]), min(int(match[2]), _LAST_INDEX if is_indexed else _LAST_CURSOR))
        return cls(asked.queue, states, asked.query.get("task"), int(limit), at)

    def after(self, state: JobState, cursor: int | None) -> tuple[JobState, int] | None:
        """Where to go on after a look at ``state`` that ended at ``cursor``; None at the end of all."""
        if cursor is not None:
            return state, cursor
        rest = self.states[self.states.index(state) + 1 :]
        return (rest[0], 0) if rest else None


async def page(front: Front, asked: Asked) -> Answer:
    """Some of the jobs that the caller may see, and where to go on.

    A page may have fewer jobs than the limit, or none, while there are more: it ends when enough was looked at.
    """
    try:
        wanted = Wanted.of(asked)
        queue = front.hub.queue(wanted.queue)
    except InvalidQuery as error:
        return problems.invalid_query(error.parameter, error.allowed)
    except InvalidOption:
        return problems.queue_not_found(asked.queue)
    principal = await front.access.principal(asked)
    inspector = Inspector(queue.store)
    shown: list[JobInfo] = []
    at: tuple[JobState, int] | None = wanted.at
    for _ in range(LOOKS_PER_PAGE):
        if at is None or len(shown) >= wanted.limit:
            break
        state, cursor = at
        found = await inspector.jobs(state, limit=wanted.limit - len(shown), cursor=cursor, scans=SCANS_PER_LOOK)
        at = wanted.after(state, found.cursor)
        shown += [info for info in found.jobs if await _is_listed(front, asked, wanted, info, principal)]
    following = _url(asked, wanted, at) if at is not None else ""
    return answers.listing([await _body(front, asked, queue, info) for info in shown], following)


async def _body(front: Front, asked: Asked, queue: Queue, info: JobInfo) -> JobBody:
    shown = await result.inline(front, asked, queue.job(info.id), info)
    return answers.body_of(info, front.paths(asked), detailed=front.is_detailed, result=shown)


async def _is_listed(front: Front, asked: Asked, wanted: Wanted, info: JobInfo, principal: str | None) -> bool:
    if info.is_dismissed or (wanted.task is not None and info.task != wanted.task):
        return False
    return await front.access.may_list(asked, info, principal)


def _url(asked: Asked, wanted: Wanted, at: tuple[JobState, int]) -> str:
    state, cursor = at
    query = {name: asked.query[name] for name in ("state", "task", "limit") if name in asked.query}
    queue = {} if wanted.queue == DEFAULT_QUEUE else {"queue": wanted.queue}
    return f"{encoded_path(asked.jobs_path)}?{urlencode({**queue, **query, 'cursor': f'{state.value}.{cursor}'})}"
