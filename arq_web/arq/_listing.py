"""Looks at many jobs at once: those of a queue that live, and all results."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import cast

from arq_web.arq._envelope import Deserializer, JobDef, JobResult
from arq_web.arq._link import Link
from arq_web.arq._records import definition_of, result_of
from arq_web.arq._translate import is_ours, job_id_of, queue_name_of
from arq_web.job import JobInfo, JobState
from arq_web.store.inspection import Inspector
from arq_web.store.store import Store

logger = logging.getLogger("arq.connections")
_LIVE = (JobState.QUEUED, JobState.SCHEDULED, JobState.RETRYING, JobState.RUNNING)
_PAGE_COUNT = 500


async def waiting_jobs(store: Store, deserializer: Deserializer | None) -> list[JobDef]:
    """The jobs of a queue that have not ended, by their time. One that ends meanwhile is left out.

    Raises:
        DeserializationError: the arguments of one cannot be read.
    """
    inspector, found = Inspector(store), dict[str, JobInfo]()
    for state in _LIVE:
        cursor: int | None = 0
        while cursor is not None:
            page = await inspector.jobs(state, limit=_PAGE_COUNT, cursor=cursor)
            found |= {info.id: info for info in page.jobs if is_ours(info)}
            cursor = page.cursor
    complete = await asyncio.gather(*(_with_payload(store, info) for info in found.values()))
    jobs = [definition_of(info, deserializer) for info in complete if info is not None and not info.is_finished]
    return sorted(jobs, key=lambda job: job.score or 0)


async def all_results(link: Link, deserializer: Deserializer | None) -> list[JobResult]:
    """Every kept result of this API's, in any queue.

    Raises:
        DeserializationError: one of them cannot be read.
    """
    results: list[JobResult] = []
    async for queue, job_ids in _scan(link):
        store = link.store(queue)
        for info in await asyncio.gather(*(store.read(job_id, with_payload=True) for job_id in job_ids)):
            if info is None or not info.is_finished or not is_ours(info):
                continue
            result = result_of(info, deserializer)
            if result is not None:
                result.job_id = job_id_of(info.id)
                results.append(result)
    return results


async def _with_payload(store: Store, info: JobInfo) -> JobInfo | None:
    return info if info.payload else await store.read(info.id, with_payload=True)


async def _scan(link: Link) -> AsyncIterator[tuple[str, Sequence[str]]]:
    """Queues (arq's names) and the ids of records in them."""
    connection, prefix = link.connections.get(), f"{link.queues.config.namespace}:1:{{"
    position, seen = 0, set[bytes]()
    while True:
        reply = await connection.execute("SCAN", position, "MATCH", f"{prefix}*}}:j:*", "COUNT", _PAGE_COUNT)
        cursor, keys = cast("tuple[bytes, list[bytes]]", reply)
        by_queue: dict[str, list[str]] = {}
        for key in set(keys) - seen:
            queue, _, job_id = key.decode(errors="replace").removeprefix(prefix).partition("}:j:")
            by_queue.setdefault(queue_name_of(queue), []).append(job_id)
        seen.update(keys)
        for queue, job_ids in by_queue.items():
            yield queue, job_ids
        position = int(cursor)
        if not position:
            return
