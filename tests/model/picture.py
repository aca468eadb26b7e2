"""Everything that is in a queue, as the store has it and as the model expects it, in one form that can be compared."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from arq_web.job import ErrorInfo, JobInfo, JobState, ProgressInfo
from arq_web.store.store import Store
from tests.model.things import Job
from tests.model.transition_table import Queue

Picture = dict[str, object]
About = Callable[[int], Any]
"""Turns a moment of the model into one of the server's clock, a little more or less; 0 stays 0."""


# -- the store ----------------------------------------------------------------------------


async def of_store(store: Store, job_ids: Sequence[str]) -> tuple[Picture, int]:
    """All keys of the queue; and how long the look took, ms.

    Of lists to look at (dead, workers) only what has not passed; the counters of all minutes together.
    """
    began_ms = await store.server_now_ms()
    found = await store.connections.get(store.base).execute("KEYS", store.base + b"*")
    keys = sorted(key.removeprefix(store.base).decode() for key in cast("list[bytes]", found))
    contents, ends, infos = await asyncio.gather(
        asyncio.gather(*(_content(store, name) for name in keys)),
        asyncio.gather(*(_ends(store, f"j:{job_id}", began_ms) for job_id in job_ids)),
        asyncio.gather(*(store.read(job_id, with_payload=True) for job_id in job_ids)),
    )
    picture: Picture = dict(zip(keys, contents, strict=True))
    picture |= {f"j:{job_id}": (info, end) for job_id, info, end in zip(job_ids, infos, ends, strict=True) if info}
    dead = cast("list[tuple[str, int]]", picture.pop("dead", []))
    picture["dead"] = sorted(name for name, _ in dead if f"j:{name}" in picture)
    present = cast("list[tuple[str, int]]", picture.pop("workers", []))
    picture["workers"] = sorted(name for name, until_ms in present if until_ms > began_ms)
    picture["ready"] = [name for name, _ in cast("list[tuple[str, int]]", picture.get("ready", []))]
    minutes = [cast("Counter[str]", picture.pop(name)) for name in keys if name.startswith("m:")]
    picture["counted"] = sum(minutes, Counter())
    return picture, await store.server_now_ms() - began_ms


async def _ends(store: Store, name: str, now_ms: int) -> int:
    left_ms = await store.connections.get(store.base).execute("PTTL", store.base + name.encode())
    return now_ms + cast("int", left_ms) if left_ms != -1 else 0


async def _content(store: Store, name: str) -> object:
    execute, key = store.connections.get(store.base).execute, store.base + name.encode()
    match name.partition(":")[0]:
        case "h" | "w":
            return set(cast("list[bytes]", await execute("SMEMBERS", key)))
        case "m":
            flat = cast("list[bytes]", await execute("HGETALL", key))
            return Counter({word.decode(): int(number) for word, number in zip(flat[::2], flat[1::2], strict=True)})
        case "ready" | "due" | "leases" | "dead" | "workers":
            flat = cast("list[bytes]", await execute("ZRANGE", key, 0, -1, "WITHSCORES"))
            return [(member.decode(), int(score)) for member, score in zip(flat[::2], flat[1::2], strict=True)]
        case "p":
            return len(cast("bytes", await execute("GET", key)))
        case "s" | "reclaimed":
            words = cast("bytes", await execute("GET", key)).decode().split()
            return [int(word) if word.isdigit() else word for word in words]
        case "wake" | "rejects":
            return await execute("LLEN", key)
        case _:
            return await execute("GET", key)


# -- the model ----------------------------------------------------------------------------


def of_model(model: Queue, queue: str, about: About) -> Picture:
    """The same, as it must be."""
    picture: Picture = {
        "ready": [job.id for job in model.ready()],
        "dead": sorted(job.id for job in model.jobs.values() if job.state is JobState.DEAD and not job.is_dismissed),
        "workers": sorted(model.present),
        "counted": model.counted,
    }
    if waiting := model.waiting():
        picture["due"] = [(job.id, about(job.due)) for job in waiting]
    if leased := model.leased():
        picture["leases"] = [(job.id, about(job.lease)) for job in leased]
    if model.last_look:
        picture["reclaimed"] = [about(model.last_look), about(model.grace_until)]
    if model.awake_until:
        picture["wake"] = 1
    for job in model.jobs.values():
        picture |= _of_job(job, queue, about)
    for name, worker in model.workers.items():
        if worker.last_token:
            picture[f"k:{name}"] = f"{worker.last_token} {' '.join(worker.brought)}".encode()
        if worker.holds:
            picture[f"h:{name}"] = {job_id.encode() for job_id in worker.holds}
    for name, schedule in model.schedules.items():
        times = about(schedule.tick), about(schedule.fired)
        picture[f"s:{name}"] = [times[0], schedule.fingerprint, times[1], *(["-"] if schedule.is_skipped else [])]
    for name, key in model.keys.items():
        picture[f"i:{name}"] = f"{key.fingerprint} {key.job_id} {key.nonce}".encode()
    for request, (word, _) in model.told.items():
        picture[f"r:{request}"] = word.encode()
    return picture


def _of_job(job: Job, queue: str, about: About) -> Mapping[str, object]:
    picture: Picture = {f"j:{job.id}": (_info(job, queue, about), about(job.ends))}
    if len(job.request.payload) > 4096:
        picture[f"p:{job.id}"] = len(job.request.payload)
    if job.is_live and job.request.unique != "-":
        picture[f"u:{job.request.unique}"] = job.id.encode()
    if job.watchers:
        picture[f"w:{job.id}"] = {channel.encode() for channel in job.watchers}
    return picture


def _info(job: Job, queue: str, about: About) -> JobInfo:
    succeeded = job.state is JobState.SUCCEEDED
    noted = json.loads(job.note) if job.note and not succeeded else {}
    error = ErrorInfo(noted["type"], noted["message"], reason=noted.get("reason", "")) if "type" in noted else None
    has_result = succeeded and job.is_result_kept
    return JobInfo(
        id=job.id,
        queue=queue,
        task=job.request.task,
        state=job.state,
        attempt=job.attempt,
        failures=job.failures,
        crashes=job.crashes,
        max_crashes=job.request.max_crashes,
        priority=job.request.priority,
        enqueued_at_ms=about(job.created),
        since_ms=about(job.since),
        started_at_ms=about(job.started) if job.started else None,
        due_at_ms=about(job.due) if job.due else None,
        expires_at_ms=about(job.expires) if job.expires else None,
        keep_result_ms=job.keep_ms,
        unique=None if job.request.unique == "-" else job.request.unique,
        is_id_chosen=job.request.nonce != "-",
        cancel_requested=job.is_cancel_requested,
        is_dismissed=job.is_dismissed,
        worker=None if job.worker == "-" else job.worker,
        error=error,
        progress=ProgressInfo(*noted["progress"]) if "progress" in noted and job.state is JobState.RUNNING else None,
        has_result=has_result,
        gone_at_ms=about(job.gone) if job.gone else None,
        result=job.note if has_result else None,
        payload=job.request.payload,
    )
