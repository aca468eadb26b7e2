"""Names, ids and jobs of arq's in the words of the engine, and back. Pure."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from arq_web.arq.constants import expires_extra_ms
from arq_web.job import JobInfo
from arq_web.store.keys import is_name
from arq_web.store.messages import NewJob, Replace
from arq_web.store.record import ClaimedJob

LONGEST_ID = 1024
"""Of an id or a function's name as it is stored, percent-encoded."""
FOR_EVER_MS = 99_999_999_999_999
"""For ``keep_result_forever``: the largest that the store takes, three thousand years."""
KEEP_S = 3600
"""How long a job is known that a client aborts where no worker is: ``keep_result`` is not known there."""

_SAFE = "._:@-"
_encoder = msgspec.json.Encoder()
_SCORE, _EXPIRES_MS, _TIMEOUT_MS = "score", "expires_ms", "timeout_ms"


@dataclass(frozen=True, slots=True)
class Terms:
    """When a job is to run, and for how long. Times are ms."""

    score_ms: int
    """When it is due, since the epoch: what arq calls its score."""
    due: str = "0"
    expires_ms: int | None = None
    """How long after its enqueue it may start or be retried at the latest; None: a day after it was due."""
    timeout_ms: int | None = None
    priority: int = 0


def stored_id(job_id: str) -> str:
    """The id in the store: percent-encoded where it has anything that keys, URLs and logs would trip over.

    Raises:
        ValueError: it is empty or too long.
    """
    return job_id if is_name(job_id) else _quoted(job_id, "job id")


def job_id_of(stored: str) -> str:
    """Arq's id, from the one in the store."""
    return unquote(stored) if "%" in stored else stored


def queue_word(queue_name: str) -> str:
    """The queue's name in the engine.

    Raises:
        ValueError: it is empty or too long.
    """
    return queue_name if is_name(queue_name) else _quoted(queue_name, "queue name")


def queue_name_of(word: str) -> str:
    """The queue's name in arq, from that in the engine."""
    return unquote(word)


def task_word(function: str) -> str:
    """The function's name in the store: a word without white space.

    Raises:
        ValueError: it is empty or too long.
    """
    return _quoted(function, "function name", also="<>,[]()=")


def function_of(task: str) -> str:
    """The function's name, from the one in the store."""
    return unquote(task)


def new_job(job_id: str, function: str, payload: bytes, terms: Terms, *, is_chosen_id: bool) -> NewJob:
    """The job as the store wants it. An id whose result is not kept (any more) is free again."""
    extra = {_SCORE: terms.score_ms}
    if terms.expires_ms is not None:
        extra[_EXPIRES_MS] = terms.expires_ms
    if terms.timeout_ms is not None:
        extra[_TIMEOUT_MS] = terms.timeout_ms
    return NewJob(
        id=stored_id(job_id),
        task=task_word(function),
        payload=payload,
        nonce=secrets.token_urlsafe(8) if is_chosen_id else "-",
        priority=terms.priority,
        due=terms.due,
        keep_s=KEEP_S,
        replace=Replace.GONE,
        extra=_encoder.encode(extra),
    )


def is_ours(info: JobInfo | ClaimedJob) -> bool:
    """Whether this API enqueued it: a queue of the engine may hold other jobs as well."""
    return _SCORE in info.extra


def score_of(job: JobInfo | ClaimedJob) -> int:
    """When it was due, ms since the epoch: first by its enqueue, then by its last retry."""
    data: Any = job.note.data if isinstance(job, ClaimedJob) else job.error and job.error.data
    score = (data or {}).get(_SCORE) or job.extra.get(_SCORE)
    return score if isinstance(score, int) else job.enqueued_at_ms


def has_expired(job: ClaimedJob) -> bool:
    """Whether it was claimed too late; by Redis' clock alone. The engine's own ``expires`` would end it unseen."""
    expires_ms = job.extra.get(_EXPIRES_MS)
    if not isinstance(expires_ms, int):
        first_score = job.extra.get(_SCORE)
        deferred_ms = first_score - job.enqueued_at_ms if isinstance(first_score, int) else 0
        expires_ms = max(0, deferred_ms) + expires_extra_ms
    return job.claimed_at_ms - job.enqueued_at_ms > expires_ms


def retry_data(due_ms: int) -> dict[str, object]:
    """What is noted with a job that is to be retried."""
    return {_SCORE: due_ms}


def _quoted(text: str, what: str, also: str = "") -> str:
    quoted = quote(text, safe=_SAFE + also)
    if not 0 < len(quoted) <= LONGEST_ID:
        raise ValueError(f"the {what} {text[:40]!r} is {'too long' if text else 'empty'}: 1 to {LONGEST_ID} characters")
    return quoted
