"""A job that was enqueued: its result, its state, its abortion."""

from __future__ import annotations

import asyncio
import warnings

from redis.asyncio import Redis

from arq_web.arq._envelope import (
    DeserializationError,
    Deserializer,
    JobDef,
    JobResult,
    JobStatus,
    ResultNotFound,
    SerializationError,
    Serializer,
    deserialize_job,
    deserialize_job_raw,
    deserialize_result,
    logger,
    serialize_job,
    serialize_result,
)
from arq_web.arq._link import Link, as_redis_errors, link_of
from arq_web.arq._records import definition_of, result_of, status_of
from arq_web.arq._translate import stored_id
from arq_web.arq.constants import default_queue_name
from arq_web.job import JobInfo
from arq_web.store.store import Store

__all__ = (
    "DeserializationError",
    "Deserializer",
    "Job",
    "JobDef",
    "JobResult",
    "JobStatus",
    "ResultNotFound",
    "SerializationError",
    "Serializer",
    "deserialize_job",
    "deserialize_job_raw",
    "deserialize_result",
    "logger",
    "serialize_job",
    "serialize_result",
)

LOOK_AGAIN_S = 10.0
"""A worker that is to end a job counts as alive for so long after it was last heard of."""
_NO_RESULT = (
    "Not waiting for job result because the job is not in queue. Is the worker function configured to keep result?"
)


class Job:
    """A handle: the job's id and queue, and what one can ask of it."""

    __slots__ = "_deserializer", "_queue_name", "_redis", "job_id"

    def __init__(
        self,
        job_id: str,
        redis: Redis,
        _queue_name: str = default_queue_name,
        _deserializer: Deserializer | None = None,
    ) -> None:
        """Ask nothing of Redis.

        Args:
            job_id: the job's id.
            redis: a client; ``ArqRedis`` or any other.
            _queue_name: the job's queue: ids are unique in their queue.
            _deserializer: of its arguments and its result; default pickle.
        """
        self.job_id, self._redis = job_id, redis
        self._queue_name, self._deserializer = _queue_name, _deserializer

    async def result(
        self, timeout: float | None = None, *, poll_delay: float = 0.5, pole_delay: float | None = None
    ) -> object:
        """What the job returned; waits for its end. Its exception is raised.

        Args:
            timeout: how long to wait, seconds; None: for ever.
            poll_delay: means nothing: the end is pushed.
            pole_delay: deprecated.

        Raises:
            ResultNotFound: there is no such job, or its result is not kept.
            TimeoutError: it has not ended in time.
            CancelledError: it was aborted.
            SerializationError: what it returned (or raised) could not be stored.
            DeserializationError: the stored result cannot be read.
        """
        del poll_delay
        if pole_delay is not None:
            message = '"pole_delay" is deprecated, use the correct spelling "poll_delay" instead'
            warnings.warn(message, DeprecationWarning, stacklevel=2)
        info = await self._ended(timeout)
        result = None if info is None else result_of(info, self._deserializer)
        if result is None:
            raise ResultNotFound(_NO_RESULT)
        if result.success:
            return result.result
        if isinstance(result.result, (Exception, asyncio.CancelledError)):
            raise result.result
        raise SerializationError(result.result)

    async def info(self) -> JobDef | None:
        """All that is known of it, its result included; None where there is no such job."""
        info = await self._read()
        if info is None:
            return None
        return result_of(info, self._deserializer) if info.is_finished else definition_of(info, self._deserializer)

    async def result_info(self) -> JobResult | None:
        """Its result, if it has ended and the result is kept. Never raises the job's own exception."""
        info = await self._read()
        return result_of(info, self._deserializer) if info is not None and info.is_finished else None

    async def status(self) -> JobStatus:
        """Where it is."""
        return status_of(await self._read(with_payload=False))

    async def abort(self, *, timeout: float | None = None, poll_delay: float = 0.5) -> bool:
        """End it: a worker cancels it where it runs, and does not start it where it waits (deferred or not).

        Where no worker listens, a job that waits ends here and now; but with ``timeout=0`` it is left to the next one.

        Args:
            timeout: how long to wait for its end, seconds; None: for ever.
            poll_delay: means nothing: the end is pushed.

        Returns:
            True where it was aborted.

        Raises:
            TimeoutError: it has not ended in time; it is still to be aborted.
        """
        del poll_delay
        async with asyncio.timeout(timeout or None):
            while True:
                if await self._ask_to_abort(by_worker=timeout == 0) == "cancelled":
                    return True
                try:
                    await self.result(0 if timeout == 0 else LOOK_AGAIN_S)
                except asyncio.CancelledError:
                    if (task := asyncio.current_task()) and task.cancelling():
                        raise  # it is we who are cancelled
                    return True
                except TimeoutError:
                    if timeout == 0:
                        raise
                except Exception:  # noqa: BLE001 - it ended by itself, this way or that
                    return False
                else:
                    return False

    async def _ask_to_abort(self, *, by_worker: bool) -> str:
        with as_redis_errors():
            by_worker = by_worker or bool(await self._store.workers())
            return await self._store.cancel(stored_id(self.job_id), by_worker=by_worker)

    def __repr__(self) -> str:
        return f"<arq job {self.job_id}>"

    @property
    def _link(self) -> Link:
        return link_of(self._redis)

    @property
    def _store(self) -> Store:
        return self._link.store(self._queue_name)

    async def _read(self, *, with_payload: bool = True) -> JobInfo | None:
        with as_redis_errors():
            return await self._store.read(stored_id(self.job_id), with_payload=with_payload)

    async def _ended(self, timeout: float | None) -> JobInfo | None:
        """The job at its end; None where there is none."""
        info = await self._read()
        if info is None or info.is_finished:
            return info
        async with asyncio.timeout(timeout):
            with as_redis_errors():
                info = await self._link.watcher().wait(self._store, stored_id(self.job_id))
        return info if info is None or info.payload else await self._read()
