"""The health check: a key that a worker writes now and then, and the look at it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from arq_web.arq.connections import create_pool
from arq_web.arq.constants import default_queue_name, health_check_key_suffix
from arq_web.errors import StoreError
from arq_web.store.inspection import Inspector

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from arq_web.arq.connections import RedisSettings
    from arq_web.arq.worker import Worker

logger = logging.getLogger("arq.worker")
LOOK_S = 2.0
"""Between two looks whether the key is there, and between two tries to write it."""


class Health:
    """What one worker says of itself."""

    def __init__(self) -> None:
        self._due_at_s = self._look_at_s = 0.0
        self._last_words = ""

    async def record(self, worker: Worker) -> None:
        """Write the key, if it is time to."""
        if not await self._is_time(worker):
            return
        counts = await Inspector(worker.pool.link.store(worker.queue_name)).counts()
        ongoing = sum(not task.done() for task in worker.tasks.values())
        words = (
            f"j_complete={worker.jobs_complete} j_failed={worker.jobs_failed} j_retried={worker.jobs_retried} "
            f"j_ongoing={ongoing} queued={counts.queued + counts.waiting + counts.running}"
        )
        text = f"{datetime.now(UTC).astimezone():%b-%d %H:%M:%S} {words}"
        await _write(worker.pool, worker.health_check_key, text, int((worker.health_check_interval + 1) * 1000))
        self._due_at_s = monotonic() + worker.health_check_interval
        self._look_at_s = min(self._look_at_s, self._due_at_s)
        if self._last_words and words != self._last_words:
            logger.info("recording health: %s", text)
        self._last_words = words

    async def forget(self, worker: Worker) -> None:
        """The worker ends: take the key away, unless another one of the same queue lives and speaks through it."""
        self._due_at_s = self._look_at_s = 0.0
        if worker.pool.is_closed:  # by whoever gave it to the worker: it is not ours to open again
            return
        try:
            if await worker.pool.link.store(worker.queue_name).workers():
                return
        except StoreError:
            return
        await worker.pool.delete(worker.health_check_key, _own_key(worker.health_check_key))

    async def _is_time(self, worker: Worker) -> bool:
        """Its time has come, the last write failed, or a Redis that began anew has lost the key."""
        now_s = monotonic()
        if now_s < self._look_at_s:
            return False
        self._look_at_s = now_s + LOOK_S
        if now_s >= self._due_at_s or not await worker.pool.exists(worker.health_check_key):
            return True
        self._look_at_s = min(self._look_at_s, self._due_at_s)
        return False


@contextlib.contextmanager
def going_on(what: str) -> Iterator[None]:
    """What a worker does beside its jobs must not end it, nor end itself: the next beat tries again."""
    try:
        yield
    except (RedisError, StoreError) as error:
        logger.warning("%s failed, %s: %s", what, type(error).__name__, error)
    except Exception:
        logger.exception("%s failed", what)


async def foreign_health(redis: Redis, health_check_key: str) -> tuple[str, float] | None:
    """What a worker of a real arq has said of itself, and for how many seconds that counts; None where none has.

    It and ours write the same key, for the same monitors.
    """
    client: Any = redis  # redis-py's annotations are those of its blocking client and this one at once
    own, arqs = _own_key(health_check_key), _arqs_key(health_check_key)
    now, ours, before = await client.mget(health_check_key, own, arqs)
    text, key = (before, arqs) if now is None or now == ours else (now, health_check_key)
    if text is None:
        return None
    return _text(text), max(0, await client.pttl(key)) / 1000


async def async_check_health(
    redis_settings: RedisSettings | str | Redis | None,
    health_check_key: str | None = None,
    queue_name: str | None = None,
) -> int:
    """0 where a worker has written its key and that has not run out, else 1.

    Args:
        redis_settings: where Redis is; None for the defaults.
        health_check_key: default that of the queue.
        queue_name: default arq's.
    """
    redis = await create_pool(redis_settings)
    try:
        found = await redis.get(health_check_key or (queue_name or default_queue_name) + health_check_key_suffix)
    finally:
        await redis.aclose(close_connection_pool=True)
    if not found:
        logger.warning("Health check failed: no health check sentinel value found")
        return 1
    logger.info("Health check successful: %s", found)
    return 0


async def _write(redis: Redis, key: str, text: str, lasts_ms: int) -> None:
    """Write it twice: in arq's key, and in one of ours that tells that arq's was written by us.

    What a worker of a real arq had written there, and we overwrite, is kept aside for as long as it would have stood.
    """
    transaction: Any = redis.pipeline(transaction=True)
    async with transaction as pipe:
        pipe.get(key)
        pipe.pttl(key)
        pipe.get(_own_key(key))
        for each in (key, _own_key(key)):
            pipe.psetex(each, lasts_ms, text.encode())
        before, left_ms, ours, *_ = await pipe.execute()
    if before is not None and before != ours and left_ms > 0:
        await redis.psetex(_arqs_key(key), left_ms, before)


def _own_key(health_check_key: str) -> str:
    return f"{health_check_key}:arq-web"


def _arqs_key(health_check_key: str) -> str:
    return f"{health_check_key}:arq"


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
