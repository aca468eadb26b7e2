"""``create_pool`` and ``ArqRedis``: a redis client that enqueues jobs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, Self, cast
from uuid import uuid4

import redis.exceptions
from redis.asyncio import ConnectionPool, Redis
from redis.exceptions import RedisError

from arq_web.arq._envelope import serialize_job
from arq_web.arq._link import Link, as_redis_errors, leave, link_of
from arq_web.arq._listing import all_results, waiting_jobs
from arq_web.arq._settings import RedisSettings, as_settings, make_client
from arq_web.arq._translate import Terms, new_job
from arq_web.arq.constants import default_queue_name as _default_queue_name
from arq_web.arq.constants import expires_extra_ms as _expires_extra_ms
from arq_web.arq.jobs import Deserializer, Job, JobDef, JobResult, Serializer
from arq_web.arq.utils import timestamp_ms, to_ms, to_unix_ms
from arq_web.errors import JobIdConflict

__all__ = ("ArqRedis", "RedisSettings", "create_pool", "log_redis_info", "logger")

logger = logging.getLogger("arq.connections")
RESERVED = ("defer_by", "run_at", "job_timeout")
"""Options of ``enqueue_job`` without an underscore: a job function cannot have parameters of these names."""

# What redis-py publishes as Redis is generic only for its type checkers, and only until version 6.
RedisSettings.__module__ = __name__


class ArqRedis(Redis):
    """``redis.asyncio.Redis``, and what enqueues jobs and looks at them.

    Jobs travel over connections of the engine's own, to the same Redis with the same login.
    """

    def __init__(
        self,
        pool_or_conn: ConnectionPool | None = None,
        job_serializer: Serializer | None = None,
        job_deserializer: Deserializer | None = None,
        default_queue_name: str = _default_queue_name,
        expires_extra_ms: int = _expires_extra_ms,
        **kwargs: Any,
    ) -> None:
        """Connect to nothing yet.

        Args:
            pool_or_conn: a pool to use.
            job_serializer: a job's dict to bytes; default ``pickle.dumps``.
            job_deserializer: and back; default ``pickle.loads``.
            default_queue_name: of jobs that name none.
            expires_extra_ms: how long after its time a job may start at the latest, where it does not say so itself.
            **kwargs: as for ``redis.asyncio.Redis``.
        """
        self.job_serializer, self.job_deserializer = job_serializer, job_deserializer
        self.default_queue_name, self.expires_extra_ms = default_queue_name, expires_extra_ms
        if pool_or_conn is not None:
            kwargs["connection_pool"] = pool_or_conn
        if kwargs.pop("retry_on_timeout", False):  # since version 6 redis-py warns of that word
            kwargs["retry_on_error"] = [*(kwargs.get("retry_on_error") or ()), redis.exceptions.TimeoutError]
        self.is_closed = False
        super().__init__(**kwargs)

    @classmethod
    def from_url(cls, url: str, *args: Any, **kwargs: Any) -> Self:
        """As ``redis.asyncio.Redis.from_url``: a URL, and options of the client."""
        return cast("Self", super().from_url(url, *args, **kwargs))

    async def enqueue_job(
        self,
        function: str,
        *args: Any,
        _job_id: str | None = None,
        _queue_name: str | None = None,
        _defer_until: datetime | None = None,
        _defer_by: float | timedelta | None = None,
        _expires: float | timedelta | None = None,
        _job_try: int | None = None,
        _priority: int = 0,
        defer_by: float | timedelta | None = None,
        run_at: datetime | None = None,
        job_timeout: float | timedelta | None = None,
        **kwargs: Any,
    ) -> Job | None:
        """Enqueue a job; when this returns, it is not lost.

        Args:
            function: the name of the function to call.
            *args: its arguments (after ``ctx``).
            _job_id: the job's id; while a job of this id lives, or its result is kept, there is no other.
            _queue_name: another queue than the default one.
            _defer_until: when to run it; a naive datetime is local time.
            _defer_by: how long to wait before it runs, seconds or timedelta.
            _expires: its latest start (or retry), from now, seconds or timedelta; default a day after it is due.
            _job_try: the number of its first attempt.
            _priority: -10 to 10; the higher ones of those that are due run first.
            defer_by: the same as ``_defer_by``.
            run_at: the same as ``_defer_until``.
            job_timeout: of one attempt, seconds or timedelta; default the function's or the worker's.
            **kwargs: its keyword arguments.

        Returns:
            The job, or None where one of this id exists.

        Raises:
            RuntimeError: two options say when to run it.
            SerializationError: an argument cannot be serialised.
        """
        queue_name = _queue_name or self.default_queue_name
        defer_by, defer_until = _one_of(_defer_by, defer_by, "defer_by"), _one_of(_defer_until, run_at, "run_at")
        now_ms = timestamp_ms()
        terms = _terms(now_ms, defer_until, defer_by, to_ms(_expires) or None, self.expires_extra_ms)
        if job_timeout is not None or _priority:
            terms = replace(terms, timeout_ms=to_ms(job_timeout), priority=_priority)
        payload = serialize_job(function, args, kwargs, _job_try, now_ms, serializer=self.job_serializer)
        job_id = _job_id or uuid4().hex
        new = new_job(job_id, function, payload, terms, is_chosen_id=_job_id is not None)
        with as_redis_errors():
            try:
                reply = await self.link.store(queue_name).enqueue([new])
            except JobIdConflict:  # the id belongs to a job of another function
                return None
        if not reply.jobs[0].created:
            return None
        return Job(job_id, redis=self, _queue_name=queue_name, _deserializer=self.job_deserializer)

    async def all_job_results(self) -> list[JobResult]:
        """Every result that is kept, of every queue, the first enqueued first. Looks through the whole database."""
        with as_redis_errors():
            results = await all_results(self.link, self.job_deserializer)
        return sorted(results, key=attrgetter("enqueue_time"))

    async def queued_jobs(self, *, queue_name: str | None = None) -> list[JobDef]:
        """The jobs of a queue that have not ended, by their time."""
        with as_redis_errors():
            return await waiting_jobs(self.link.store(queue_name or self.default_queue_name), self.job_deserializer)

    @property
    def link(self) -> Link:
        """The engine's connections to this Redis (for tools; not part of arq's API)."""
        self.is_closed = False  # as a redis client it opens again when it is used
        return link_of(self)

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Close the client and what the engine opened for it."""
        self.is_closed = True
        await leave(self)
        await super().aclose(close_connection_pool)
        # redis-py leaves the connections to the sentinels open.
        manager = getattr(self.connection_pool, "sentinel_manager", None)
        for sentinel in manager.sentinels if manager is not None else ():
            await sentinel.aclose()

    async def close(self, close_connection_pool: bool | None = None) -> None:
        """The same as ``aclose``, without redis-py's warning: arq's users write it like this."""
        await self.aclose(close_connection_pool)


async def create_pool(
    settings_: RedisSettings | str | Redis | None = None,
    *,
    retry: int = 0,
    job_serializer: Serializer | None = None,
    job_deserializer: Deserializer | None = None,
    default_queue_name: str = _default_queue_name,
    expires_extra_ms: int = _expires_extra_ms,
) -> ArqRedis:
    """Connect to Redis, trying again as often as the settings' ``conn_retries`` says.

    Args:
        settings_: settings, a URL, or a redis client whose address and login are taken.
        retry: how many tries were made before.
        job_serializer: a job's dict to bytes; default ``pickle.dumps``.
        job_deserializer: and back; default ``pickle.loads``.
        default_queue_name: of jobs that name none.
        expires_extra_ms: how long after its time a job may start at the latest.

    Raises:
        RedisError, OSError: what the last try came to.
        RuntimeError: sentinels are asked for, but not named.
    """
    settings = as_settings(settings_)
    while True:
        pool = make_client(ArqRedis, settings)
        pool.job_serializer, pool.job_deserializer = job_serializer, job_deserializer
        pool.default_queue_name, pool.expires_extra_ms = default_queue_name, expires_extra_ms
        try:
            await pool.ping()
        except (ConnectionError, OSError, RedisError, TimeoutError) as error:
            await pool.aclose(close_connection_pool=True)
            if retry >= settings.conn_retries:
                raise
            _say_failed(settings, error, settings.conn_retries - retry)
            await asyncio.sleep(settings.conn_retry_delay)
            retry += 1
        else:
            if retry > 0:
                logger.info("redis connection successful")
            return pool


async def log_redis_info(redis: Redis, log_func: Callable[[str], Any]) -> None:
    """Write one line about the server: version, memory, clients, keys.

    Raises:
        RedisError: it does not answer, or does not say.
    """
    server = await redis.info("Server")
    memory = await redis.info("Memory")
    clients = await redis.info("Clients")
    log_func(
        f"redis_version={server.get('redis_version', '?')} "
        f"mem_usage={memory.get('used_memory_human', '?')} "
        f"clients_connected={clients.get('connected_clients', '?')} "
        f"db_keys={await redis.dbsize()}"
    )


def _one_of(first: Any, second: Any, name: str) -> Any:
    if first is not None and second is not None:
        raise RuntimeError(f"use either {name!r} or its form with an underscore or neither, not both")
    return second if first is None else first


def _terms(
    now_ms: int,
    defer_until: datetime | None,
    defer_by: float | timedelta | None,
    expires_ms: int | None,
    expires_extra_ms: int,
) -> Terms:
    """When it is due, by whose clock: a delay is counted by Redis, a moment is one."""
    if defer_until and defer_by:
        raise RuntimeError("use either 'defer_until' or 'defer_by' or neither, not both")
    if defer_until is not None:
        score_ms = to_unix_ms(defer_until)
        due = f"a{max(score_ms, 0)}"
    else:
        delay_ms = to_ms(defer_by) or 0
        score_ms, due = now_ms + delay_ms, f"d{delay_ms}" if delay_ms > 0 else "0"
    if expires_ms is None and expires_extra_ms != _expires_extra_ms:
        # From its time on, but from now where that has passed: what is late is not to expire at once.
        expires_ms = max(score_ms - now_ms, 0) + expires_extra_ms
    return Terms(score_ms, due, expires_ms)


def _say_failed(settings: RedisSettings, error: Exception, left: int) -> None:
    text = str(error)
    if settings.password:
        text = text.replace(settings.password, "***")
    logger.warning(
        "redis connection error %s:%s %s %s, %s retries remaining...",
        settings.host,
        settings.port,
        type(error).__name__,
        text,
        left,
    )
