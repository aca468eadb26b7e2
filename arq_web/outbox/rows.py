"""A job as a row, and a row as a job again: byte for byte, whatever its options were."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from arq_web.store.messages import NewJob, Replace
from arq_web.store.relaying import RelayedRow


class RowOptions(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """What stands in ``options``: all of a new job that has no column of its own, where it is not the default.

    ``due`` and ``expires`` are as in the enqueue script: ``d<ms>`` counts from the time of the row.
    """

    nonce: str = "-"
    priority: int = 0
    due: str = "0"
    expires: str = "0"
    max_crashes: int = 3
    keep_s: int = 3600
    unique: str = "-"
    replace: str = Replace.NOTHING.value
    owner: str | None = None
    extra: str = ""


@dataclass(frozen=True, slots=True)
class StoredRow:
    """One row that a relay has claimed. Times are the database's."""

    id: int
    queue: str
    task: str
    job_id: str
    payload: bytes
    options: str
    receipt: str
    age_ms: int
    """Since it was written."""
    tried_ms: int
    """Since the first time that somebody may have relayed it."""
    refusals: int


def values_of(queue: str, new: NewJob) -> dict[str, Any]:
    """The columns of a new row."""
    options = RowOptions(
        nonce=new.nonce,
        priority=new.priority,
        due=new.due,
        expires=new.expires,
        max_crashes=new.max_crashes,
        keep_s=new.keep_s,
        unique=new.unique,
        replace=new.replace.value,
        owner=new.owner,
        extra=new.extra.decode(),
    )
    return {
        "queue": queue,
        "task": new.task,
        "job_id": new.id,
        "payload": new.payload,
        # ASCII: whatever the character set of the column.
        "options": json.dumps(msgspec.to_builtins(options), separators=(",", ":")),
        "receipt": uuid.uuid4().hex,
    }


def row_of(columns: Mapping[str, Any]) -> StoredRow:
    """What was read."""
    return StoredRow(**{**columns, "payload": bytes(columns["payload"])})


def job_of(row: StoredRow) -> RelayedRow:
    """What is sent for it now. A delay counts from the row on, and so does its latest start.

    Raises:
        ValueError: somebody has changed the row: its options cannot be read.
    """
    options = _decoder.decode(row.options)
    job = NewJob(
        id=row.job_id,
        task=row.task,
        payload=row.payload,
        nonce=options.nonce,
        priority=options.priority,
        due=_left(options.due, row.age_ms, 0),
        expires=_left(options.expires, row.age_ms, 1),  # one that has passed is for a claim to see, not for us
        max_crashes=options.max_crashes,
        keep_s=options.keep_s,
        unique=options.unique,
        replace=Replace(options.replace),
        owner=options.owner,
        extra=options.extra.encode(),
    )
    return RelayedRow(row.receipt, job)


def _left(moment: str, age_ms: int, least_ms: int) -> str:
    return f"d{max(least_ms, int(moment[1:]) - age_ms)}" if moment.startswith("d") else moment


_decoder = msgspec.json.Decoder(RowOptions)
