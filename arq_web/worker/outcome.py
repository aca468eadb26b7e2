"""How an attempt ended, and what that makes of the job. Pure: the same facts give the same settlement."""

from __future__ import annotations

import traceback
from typing import Any, assert_never

import msgspec

from arq_web.errors import DoNotRetry, Retry, Snooze
from arq_web.job import ErrorInfo
from arq_web.retry import Backoff, to_ms
from arq_web.store.record import ClaimedJob, Note, encode_note
from arq_web.store.store import Settlement
from arq_web.task import Task

PARK_FIRST_MS, PARK_LONGEST_MS, PARK_GIVE_UP_MS = 1_000, 60_000, 86_400_000
TRACEBACK_CHARS, MESSAGE_CHARS = 8_000, 2_000


class Succeeded(msgspec.Struct, frozen=True, tag=True):
    """The task returned; ``result`` is encoded, and kept for ``keep_ms`` (None: as the call says)."""

    result: bytes
    keep_ms: int | None = None


class Failed(msgspec.Struct, frozen=True, tag=True):
    """It raised, or took too long. ``retry_after_ms`` is None when it must not be tried again.

    ``keep_ms`` is how long it stays where this was its last try; None: as long as the queue keeps its dead.
    """

    error: ErrorInfo
    retry_after_ms: int | None
    keep_ms: int | None = None


class Snoozed(msgspec.Struct, frozen=True, tag=True):
    """It asked for a later attempt, at no cost."""

    error: ErrorInfo
    delay_ms: int


class Parked(msgspec.Struct, frozen=True, tag=True):
    """This worker cannot run it (unknown task, arguments of another version): another one may."""

    error: ErrorInfo


class Cancelled(msgspec.Struct, frozen=True, tag=True):
    """Its end was asked for, and it ended; kept for ``keep_ms`` (None: as the call says)."""

    keep_ms: int | None = None


class Interrupted(msgspec.Struct, frozen=True, tag=True):
    """The worker stops: not the job's fault."""


class Crashed(msgspec.Struct, frozen=True, tag=True):
    """The child process that ran it died."""

    error: ErrorInfo


class Superseded(msgspec.Struct, frozen=True, tag=True):
    """Its lease was lost: another attempt may run. Nothing is recorded."""


class WorkerDied(BaseException):
    """Raised around an attempt instead of killing its worker (``arq_web.testing``): ends it as a death would."""


Outcome = Succeeded | Failed | Snoozed | Parked | Cancelled | Interrupted | Crashed | Superseded


def decide(outcome: Outcome, job: ClaimedJob, *, max_tries: int, keep_result_ms: int, now_ms: int) -> Settlement | None:
    """Choose how this attempt ends; None when it may not say anything any more.

    Args:
        outcome: what the attempt came to.
        job: as it was claimed.
        max_tries: of this job, the options of its call included.
        keep_result_ms: how long a success is kept, unless the outcome says it.
        now_ms: server time.
    """
    match outcome:
        case Succeeded(result, keep_ms):
            return _settle(job, "complete", keep_result_ms if keep_ms is None else keep_ms, result)
        case Failed(error, retry_after_ms, keep_ms):
            if retry_after_ms is None or job.failures + 1 >= max_tries:
                return _settle(job, "bury", _ending_ms(keep_ms), _note(error))
            return _settle(job, "retry", retry_after_ms, _note(error))
        case Snoozed(error, delay_ms):
            return _settle(job, "snooze", delay_ms, _note(error))
        case Parked(error):
            return _park(job, error, now_ms)
        case Cancelled(keep_ms):
            return _settle(job, "cancel", _ending_ms(keep_ms), b"")
        case Interrupted():
            return _settle(job, "release", 0, b"")
        case Crashed():
            return _settle(job, "crash", 0, b"")
        case Superseded():
            return None
        case _:
            assert_never(outcome)


def outcome_of_error(
    error: BaseException, task: Task[..., Any], job: ClaimedJob, data: dict[str, object] | None
) -> Outcome:
    """What an exception of the task means, by its own word (Retry, Snooze, DoNotRetry) or by the task's policy."""
    if isinstance(error, WorkerDied):
        return Crashed(error_info(error, "crashed"))
    try:
        return _as_said(error, task, job, data)
    except Exception:  # noqa: BLE001 - a delay or a policy that means nothing must not lose the job
        return Failed(error_info(error, "failed", data), to_ms(Backoff()(job.failures + 1, error)))


def timed_out(task: Task[..., Any], job: ClaimedJob, timeout_ms: int) -> Failed:
    """The attempt did not end within its timeout: a failure like any other."""
    error = TimeoutError(f"the attempt took longer than its timeout of {timeout_ms / 1000:g} s")
    outcome = outcome_of_error(error, task, job, None)
    delay_ms = outcome.retry_after_ms if isinstance(outcome, Failed) else None
    return Failed(error_info(error, "timeout"), delay_ms)


def error_info(error: BaseException, reason: str, data: dict[str, object] | None = None) -> ErrorInfo:
    """Type, message and traceback as they are stored: cut where they are long, never failing themselves."""
    kind = type(error)
    name = (
        kind.__qualname__
        if kind.__module__ in ("builtins", "arq_web.errors")
        else f"{kind.__module__}.{kind.__qualname__}"
    )
    try:
        message = str(error)
    except Exception as broken:  # noqa: BLE001 - somebody's __str__ raises: the job must still be settled
        message = f"<its message cannot be shown: {type(broken).__name__}>"
    trace = ""
    if error.__traceback__ is not None:
        trace = "".join(traceback.format_exception(error))[-TRACEBACK_CHARS:]
    return ErrorInfo(name, storable(message[:MESSAGE_CHARS]), storable(trace), reason, 0, _storable_data(data))


def _as_said(error: BaseException, task: Task[..., Any], job: ClaimedJob, data: dict[str, object] | None) -> Outcome:
    if isinstance(error, Snooze):
        return Snoozed(error_info(error, "snooze"), max(0, to_ms(error.delay)))
    if isinstance(error, DoNotRetry) or (task.policy.no_retry_on and isinstance(error, task.policy.no_retry_on)):
        return Failed(error_info(error, "not_retried", data), None)
    if isinstance(error, Retry):
        info = error_info(error, "retry")
        return Failed(info, _policy_delay_ms(task, job, error) if error.delay is None else max(0, to_ms(error.delay)))
    return Failed(error_info(error, "failed", data), _policy_delay_ms(task, job, error))


def _policy_delay_ms(task: Task[..., Any], job: ClaimedJob, error: BaseException) -> int | None:
    delay = task.policy.retry(job.failures + 1, error)
    return None if delay is None else max(0, to_ms(delay))


def _park(job: ClaimedJob, error: ErrorInfo, now_ms: int) -> Settlement:
    """Due again after 1 s … 60 s, growing with the time that it is parked already; dead after a day."""
    parked_before = job.note.since_ms if job.note.reason == error.reason else 0
    since_ms = parked_before or now_ms
    note = Note(
        reason=error.reason, type=error.type, message=error.message, traceback=error.traceback, since_ms=since_ms
    )
    if now_ms - since_ms >= PARK_GIVE_UP_MS:
        return _settle(job, "bury", 0, encode_note(note))
    # A quarter of it: in a deployment the old worker may take it again and again, while the new one waits.
    delay_ms = min(PARK_LONGEST_MS, max(PARK_FIRST_MS, (now_ms - since_ms) // 4))
    return _settle(job, "park", delay_ms, encode_note(note))


def _ending_ms(keep_ms: int | None) -> int:
    """As ``settle`` wants it for bury and cancel: 0 as queue or call say, less than 0 not at all."""
    return 0 if keep_ms is None else keep_ms or -1


def _settle(job: ClaimedJob, word: Any, ms: int, note: bytes) -> Settlement:
    return Settlement(job.id, job.attempt, job.token, word, ms, note)


def _note(error: ErrorInfo) -> bytes:
    return encode_note(
        Note(
            reason=error.reason,
            type=error.type,
            message=error.message,
            traceback=error.traceback,
            data=dict(error.data) if error.data else None,
        )
    )


def _storable_data(data: dict[str, object] | None) -> dict[str, object] | None:
    """What a framework tells of its exception; dropped when it cannot be written (a detail that is no JSON)."""
    if data is None:
        return None
    try:
        msgspec.json.encode(data)
    except Exception:  # noqa: BLE001 - type, message and traceback are stored all the same
        return None
    return data


def storable(text: str) -> str:
    """Lone surrogates (undecodable file names in a message) cannot be written as UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
