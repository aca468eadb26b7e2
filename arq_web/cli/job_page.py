"""All that is known of one job, for ``jobs show``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from arq_web.cli.job_listing import job_object, reject_object, shown_bytes
from arq_web.cli.job_search import error_text
from arq_web.codec import result_json
from arq_web.job import JobInfo, to_datetime
from arq_web.logs import printable
from arq_web.store.inspection import Reject

_INDENT = "  "


@dataclass(frozen=True, slots=True)
class Values:
    """A job's arguments and its result, read: what JSON can show."""

    arguments: object
    result: object = None


@dataclass(frozen=True, slots=True)
class FoundJob:
    """What an id led to: a job, or something that was rejected."""

    what: JobInfo | Reject
    values: Values | None = None
    """Of a job that another API has written: then the record does not show them."""


def page_text(found: FoundJob) -> str:
    """A page for a person: facts, timeline, arguments, result, error."""
    info = found.what
    lines = _job_lines(info, found.values) if isinstance(info, JobInfo) else _reject_lines(info)
    return printable("\n".join(lines))


def page_json(found: FoundJob) -> str:
    """The same facts as one JSON object."""
    if isinstance(found.what, Reject):
        return json.dumps({"state": "rejected", **reject_object(found.what)}, indent=2)
    info = found.what
    more = {
        "max_crashes": info.max_crashes,
        "keep_result_s": info.keep_result_ms / 1000,
        "options": dict(info.extra),
        "headers": dict(info.headers),
        "progress": None
        if info.progress is None
        else {"fraction": info.progress.fraction, "message": info.progress.message},
        "arguments": found.values.arguments if found.values else _value(info.payload),
        "result": found.values.result if found.values else _result(info),
    }
    return json.dumps({**job_object(info), **more}, indent=2, default=str)


def _job_lines(info: JobInfo, values: Values | None) -> Iterator[str]:
    yield f"{info.id}  {info.state.value}"
    for name, value in _facts(info):
        if value:
            yield f"{_INDENT}{name:<11} {value}"
    yield from _block(
        "timeline",
        (
            f"{to_datetime(at_ms).astimezone().isoformat(sep=' ', timespec='milliseconds')}  {what}"
            for at_ms, what in _timeline(info)
        ),
    )
    yield from _block("arguments", _pretty(values.arguments if values else _value(info.payload)))
    result = values.result if values else _result(info)
    if info.has_result or (values and values.result is not None):
        yield from _block("result", _pretty(result))
    if info.error is not None:
        details = [*error_text(info).splitlines(), *info.error.traceback.splitlines()]
        if info.error.data and values is None:
            details += _pretty(dict(info.error.data))
        yield from _block(f"error ({info.error.reason})", details)


def _facts(info: JobInfo) -> Iterator[tuple[str, str]]:
    yield "task", info.task
    yield "queue", info.queue
    yield "attempt", f"{info.attempt}, {info.failures} failures, {info.crashes} of {info.max_crashes} crashes"
    yield "worker", "" if info.worker is None else f"{info.worker} (pid {info.worker_pid})"
    yield "cancel", "requested" if info.cancel_requested else ""
    yield "priority", str(info.priority) if info.priority else ""
    yield "unique key", info.unique or ""
    yield "owner", info.owner or ""
    yield "options", json.dumps(dict(info.extra), default=str) if info.extra else ""
    yield "headers", json.dumps(dict(info.headers), ensure_ascii=False) if info.headers else ""
    if info.progress is not None:
        yield "progress", f"{info.progress.fraction:.0%} {info.progress.message}"
    yield "kept", f"{info.keep_result_ms / 1000:g} s after its end"


def _timeline(info: JobInfo) -> list[tuple[int, str]]:
    moments = [(info.enqueued_at_ms, "enqueued"), (info.since_ms, info.state.value)]
    if info.started_at_ms:
        moments.append((info.started_at_ms, f"attempt {info.attempt} started"))
    if info.due_at_ms and not info.is_finished:
        moments.append((info.due_at_ms, "due"))
    if info.expires_at_ms:
        moments.append((info.expires_at_ms, "expires, unless it has started"))
    return sorted(moments, key=lambda moment: moment[0])


def _reject_lines(reject: Reject) -> Iterator[str]:
    yield f"{reject.id}  rejected"
    yield f"{_INDENT}{'why':<11} {reject.reason}"
    yield f"{_INDENT}{'when':<11} {to_datetime(reject.at_ms).astimezone():%Y-%m-%d %H:%M:%S %z}"
    yield from _block(f"raw ({len(reject.raw):,} bytes)", [shown_bytes(reject.raw, 4000)])


def _block(title: str, lines: Any) -> Iterator[str]:
    yield f"{_INDENT}{title}"
    for line in lines:
        yield f"{_INDENT * 2}{line}"


def _value(raw: bytes) -> object:
    """Stored JSON as a value; what is not JSON (another codec's) as escaped text."""
    try:
        return msgspec.json.decode(raw) if raw else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return shown_bytes(raw, 4000)


def _result(info: JobInfo) -> object:
    if info.result is None:
        return None
    try:
        return _value(result_json(info.result))
    except msgspec.DecodeError:
        return shown_bytes(info.result, 4000)


def _pretty(value: object) -> list[str]:
    return json.dumps(value, indent=2, ensure_ascii=False, default=str).splitlines()
