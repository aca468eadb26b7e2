"""How an attempt ended, and what that makes of the job: the transition table, in Python's part of it."""

from __future__ import annotations

import pytest
from msgspec import structs

from arq_web import DoNotRetry, Retry, Snooze, task
from arq_web.job import ErrorInfo
from arq_web.store.record import ClaimedJob, Note
from arq_web.worker.outcome import (
    Cancelled,
    Crashed,
    Failed,
    Interrupted,
    Outcome,
    Parked,
    Snoozed,
    Succeeded,
    Superseded,
    decide,
    error_info,
    outcome_of_error,
)

ERROR = ErrorInfo("ValueError", "no")
HOUR_MS = 3_600_000
JOB = ClaimedJob(
    id="j",
    queue="default",
    task="t",
    attempt=1,
    token="k",
    failures=0,
    crashes=0,
    max_crashes=3,
    enqueued_at_ms=0,
    claimed_at_ms=0,
    keep_result_ms=HOUR_MS,
    expires_at_ms=0,
    note=Note(),
    payload=b"{}",
    extra={},
)


@task(no_retry_on=KeyError, retry=lambda failures, error: None if isinstance(error, OSError) else failures * 1.0)
async def some_task() -> None:
    """A policy of its own: OSError is not retried, others after a second per failure."""


@task(retry=lambda failures, error: 1 / 0)
async def broken_policy() -> None:
    """A policy that fails itself."""


@pytest.mark.parametrize(
    ("outcome", "word", "ms"),
    [
        (Succeeded(b"1"), "complete", HOUR_MS),
        (Failed(ERROR, 500), "retry", 500),
        (Failed(ERROR, None), "bury", 0),
        (Snoozed(ERROR, 700), "snooze", 700),
        (Parked(ERROR), "park", 1000),
        (Cancelled(), "cancel", 0),
        (Cancelled(900), "cancel", 900),
        (Cancelled(0), "cancel", -1),
        (Interrupted(), "release", 0),
        (Crashed(ERROR), "crash", 0),
    ],
)
def test_each_outcome_has_one_settlement(outcome: Outcome, word: str, ms: int) -> None:
    """The fence goes with it: id, attempt, token."""
    settlement = decide(outcome, JOB, max_tries=3, keep_result_ms=HOUR_MS, now_ms=0)

    assert settlement is not None
    assert (settlement.outcome, settlement.ms) == (word, ms)
    assert (settlement.job_id, settlement.attempt, settlement.token) == ("j", 1, "k")


@pytest.mark.parametrize(
    ("outcome", "word", "ms"),
    [
        (Succeeded(b"1", 5_000), "complete", 5_000),
        (Succeeded(b"1", 0), "complete", 0),
        (Failed(ERROR, None, 5_000), "bury", 5_000),
        (Failed(ERROR, None, 0), "bury", -1),
        (Failed(ERROR, 500, 5_000), "retry", 500),
    ],
)
def test_an_outcome_may_say_how_long_it_is_kept(outcome: Outcome, word: str, ms: int) -> None:
    """Where only the worker knows it. For a dead job 0 is taken already: as long as the queue keeps its dead."""
    settlement = decide(outcome, JOB, max_tries=3, keep_result_ms=HOUR_MS, now_ms=0)

    assert settlement is not None
    assert (settlement.outcome, settlement.ms) == (word, ms)


def test_a_superseded_attempt_says_nothing() -> None:
    """Another one may run: not even a failure is recorded."""
    assert decide(Superseded(), JOB, max_tries=3, keep_result_ms=0, now_ms=0) is None


@pytest.mark.parametrize(("failures", "word"), [(0, "retry"), (1, "retry"), (2, "bury")])
def test_the_last_try_buries(failures: int, word: str) -> None:
    """max_tries counts attempts that ended in a failure, the first included; crashes and snoozes do not count."""
    job = structs.replace(JOB, failures=failures, attempt=17, crashes=2)
    settlement = decide(Failed(ERROR, 500), job, max_tries=3, keep_result_ms=0, now_ms=0)

    assert settlement is not None
    assert settlement.outcome == word


@pytest.mark.parametrize(
    ("parked_for_ms", "word", "ms"),
    [(0, "park", 1000), (8000, "park", 2000), (HOUR_MS, "park", 60_000), (24 * HOUR_MS, "bury", 0)],
)
def test_a_parked_job_is_tried_less_and_less_often_and_given_up_after_a_day(
    parked_for_ms: int, word: str, ms: int
) -> None:
    """A rolling deploy brings the task within seconds; a forgotten one must not stay for ever."""
    since_ms = 1_700_000_000_000
    job = structs.replace(JOB, note=Note(reason="unknown_task", since_ms=since_ms))
    unknown = Parked(ErrorInfo("UnknownTask", "?", reason="unknown_task"))
    settlement = decide(unknown, job, max_tries=1, keep_result_ms=0, now_ms=since_ms + parked_for_ms)

    assert settlement is not None
    assert (settlement.outcome, settlement.ms) == (word, ms)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("no"), 1000),
        (Retry("again", delay=5), 5000),
        (Retry("again"), 1000),
        (OSError("policy says None"), None),
        (KeyError("class"), None),
        (DoNotRetry("word"), None),
    ],
)
def test_an_error_is_retried_as_the_task_says(error: Exception, expected: int | None) -> None:
    """By its own word, by its class, or by the policy."""
    outcome = outcome_of_error(error, some_task, JOB, None)

    assert isinstance(outcome, Failed)
    assert outcome.retry_after_ms == expected


def test_a_snooze_is_no_failure() -> None:
    """It names its own delay."""
    assert isinstance(outcome_of_error(Snooze(delay=2), some_task, JOB, None), Snoozed)


def test_a_broken_retry_policy_does_not_lose_the_job() -> None:
    """The default backoff stands in."""
    outcome = outcome_of_error(ValueError("no"), broken_policy, JOB, None)

    assert isinstance(outcome, Failed)
    assert outcome.retry_after_ms is not None
    assert 1600 <= outcome.retry_after_ms <= 2400


def test_an_error_that_cannot_be_shown_is_stored_all_the_same() -> None:
    """Somebody's __str__ raises, or has bytes that are no text: the job must be settled."""

    class Unspeakable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("not even this")

    info = error_info(Unspeakable(), "failed")

    assert "cannot be shown" in info.message
    assert error_info(ValueError("\udcff"), "failed").message == "\\udcff"
    assert len(error_info(ValueError("x" * 10_000), "failed").message) == 2000
