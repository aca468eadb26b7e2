"""What a job came to, and bytes of it that cannot be read."""

from __future__ import annotations

from arq_web.errors._base import ArqWebError


class JobError(ArqWebError):
    """What a job came to. ``job_id`` names it."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        super().__init__(job_id)


class JobNotFound(JobError):
    """There is no such job (any more)."""

    def __str__(self) -> str:
        return (
            f"There is no job {self.job_id!r} in this queue: it never was, it is in another queue, "
            "or the time for which it was kept has passed (keep_result)."
        )


class JobFailed(JobError):
    """The job is dead. ``error_type``, ``message`` and ``traceback`` are those of its last attempt."""

    def __init__(self, job_id: str, error_type: str, message: str, traceback: str = "", reason: str = "failed") -> None:
        super().__init__(job_id)
        self.error_type, self.message, self.traceback, self.reason = error_type, message, traceback, reason
        self.args = (job_id, error_type, message, traceback, reason)

    def __str__(self) -> str:
        return f"Job {self.job_id!r} is dead ({self.reason}): {self.error_type}: {self.message}"


class JobCancelled(JobError):
    """The job was cancelled."""

    def __str__(self) -> str:
        return f"Job {self.job_id!r} was cancelled."


class JobExpired(JobError):
    """The job could not start in time (``expires=``)."""

    def __str__(self) -> str:
        return f"Job {self.job_id!r} expired: no worker started it before its expires= time."


class ResultNotKept(JobError):
    """The job succeeded, but its result was not stored."""

    def __str__(self) -> str:
        return f"Job {self.job_id!r} succeeded; its result was not kept (keep_result=0)."


class CodecError(ArqWebError):
    """Bytes that are not what their type says."""

    def __init__(self, task: str, why: str) -> None:
        self.task, self.why = task, why
        super().__init__(task, why)


class UndecodablePayload(CodecError):
    """A worker could not read a job's arguments: another version of the task, or not ours."""

    def __str__(self) -> str:
        return (
            f"The stored arguments of {self.task!r} do not fit its signature here: {self.why}. "
            "A newer version of the code may have enqueued it."
        )


class UnstorableResult(CodecError):
    """A task returned what cannot be stored."""

    def __str__(self) -> str:
        return (
            f"The result of {self.task!r} cannot be stored: {self.why}. Return a value that fits the return "
            "annotation, or keep no result: @task(keep_result=0)."
        )


class UndecodableResult(CodecError):
    """A stored result is not of the expected type."""

    def __str__(self) -> str:
        return f"The stored result of {self.task!r} does not fit its return annotation here: {self.why}."
