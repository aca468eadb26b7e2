"""A job's record, read. Written only by ``lua/_record.lua``; the layout is in docs/reference/wire-format.md.

Two lines and two bodies::

    <state> <attempt> <failures> <crashes> <note bytes>[ <token> <since_ms> <started_ms> <due_ms> <flags> <worker>]
    <created_ms> <nonce> <priority> <expires_ms> <max_crashes> <keep_s> <.|+> <unique> <task>[ <json of call options>]
    <note: result, error or progress><payload, unless it lives in a key of its own (+)>

The first line changes with every transition, the second never: so a queued job with a payload of 100 bytes takes about
420 bytes of Redis in all (docs/adr/0001-record-layout.md).
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from arq_web.job import ErrorInfo, JobInfo, JobState, ProgressInfo

STATES = {
    b"s": JobState.SCHEDULED,
    b"q": JobState.QUEUED,
    b"r": JobState.RUNNING,
    b"t": JobState.RETRYING,
    b"c": JobState.SUCCEEDED,
    b"d": JobState.DEAD,
    b"x": JobState.CANCELLED,
    b"e": JobState.EXPIRED,
}


class Note(msgspec.Struct, omit_defaults=True):
    """What is noted with a job that has not succeeded: the last error, the progress, since when it is parked."""

    reason: str = ""
    type: str = ""
    message: str = ""
    traceback: str = ""
    since_ms: int = 0
    progress: tuple[float, str] | None = None
    data: dict[str, object] | None = None


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """One job as a worker gets it: what to run, and the fence (attempt, token) that its settle must show.

    ``extra`` holds the options of this one call that only the worker needs: ``timeout_ms``, ``max_tries``, ``keep_ms``.
    """

    id: str
    queue: str
    task: str
    attempt: int
    token: str
    failures: int
    crashes: int
    max_crashes: int
    enqueued_at_ms: int
    claimed_at_ms: int
    keep_result_ms: int
    expires_at_ms: int
    note: Note
    payload: bytes
    extra: dict[str, object]


_note_decoder = msgspec.json.Decoder(Note)
_extra_decoder = msgspec.json.Decoder(dict[str, object])
_encoder = msgspec.json.Encoder()
_NO_NOTE = Note()


class UnreadableRecord(ValueError):
    """These bytes are not a record of ours."""


def encode_note(note: Note) -> bytes:
    """JSON of the fields that are set."""
    return _encoder.encode(note)


def read_claimed(job_id: str, queue: str, raw: bytes, aside: bytes) -> ClaimedJob:
    """The record of a job that was just claimed.

    Raises:
        UnreadableRecord: not a record of ours.
    """
    head, spec, note, payload = _parts(raw)
    return ClaimedJob(
        id=job_id,
        queue=queue,
        task=spec[8].decode(),
        attempt=int(head[1]),
        token=head[5].decode(),
        failures=int(head[2]),
        crashes=int(head[3]),
        max_crashes=int(spec[4]),
        enqueued_at_ms=int(spec[0]),
        claimed_at_ms=int(head[7]),
        keep_result_ms=int(spec[5]) * 1000,
        expires_at_ms=int(spec[3]),
        note=_read_note(note) if note else _NO_NOTE,
        payload=aside if spec[6] == b"+" else payload,
        extra=_extra_decoder.decode(spec[9]) if len(spec) > 9 else {},
    )


def read_info(job_id: str, queue: str, raw: bytes, aside: bytes = b"") -> JobInfo:
    """The record as everybody may see it.

    Raises:
        UnreadableRecord: not a record of ours.
    """
    head, spec, note, payload = _parts(raw)
    state = STATES[head[0]]
    changed = len(head) > 5
    flags, worker = (head[9], head[10]) if changed else (b"-", b"-")
    succeeded = state is JobState.SUCCEEDED
    has_result = succeeded and b"n" not in flags
    noted = _NO_NOTE if succeeded or not note else _read_note(note)
    return JobInfo(
        id=job_id,
        queue=queue,
        task=spec[8].decode(),
        state=state,
        attempt=int(head[1]),
        failures=int(head[2]),
        crashes=int(head[3]),
        max_crashes=int(spec[4]),
        priority=int(spec[2]),
        enqueued_at_ms=int(spec[0]),
        since_ms=int(head[6]) if changed else int(spec[0]),
        started_at_ms=(int(head[7]) or None) if changed else None,
        due_at_ms=(int(head[8]) or None) if changed else None,
        expires_at_ms=int(spec[3]) or None,
        keep_result_ms=int(spec[5]) * 1000,
        unique=None if spec[7] == b"-" else spec[7].decode(),
        cancel_requested=b"c" in flags,
        worker=None if worker == b"-" else worker.decode(errors="replace"),
        error=_error(noted),
        progress=ProgressInfo(*noted.progress) if noted.progress else None,
        has_result=has_result,
        result=note if has_result else None,
        payload=aside if spec[6] == b"+" else payload,
        extra=_extra_decoder.decode(spec[9]) if len(spec) > 9 else {},
    )


def payload_is_aside(raw: bytes) -> bool:
    """True when the payload lives in a key of its own."""
    spec = raw.split(b"\n", 2)[1].split(b" ", 7)
    return len(spec) > 6 and spec[6] == b"+"


def _parts(raw: bytes) -> tuple[list[bytes], list[bytes], bytes, bytes]:
    try:
        first, second, rest = raw.split(b"\n", 2)
        head, spec = first.split(b" "), second.split(b" ", 9)
        note_bytes = int(head[4])
        if len(spec) < 9 or len(head) not in (5, 11) or head[0] not in STATES or len(rest) < note_bytes:
            raise ValueError("fields are missing")
    except (ValueError, IndexError) as error:
        raise UnreadableRecord(f"{raw[:80]!r}: {error}") from error
    return head, spec, rest[:note_bytes], rest[note_bytes:]


def _read_note(raw: bytes) -> Note:
    try:
        return _note_decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Note(reason="unreadable", type="UnreadableNote", message=repr(raw[:200]))


def _error(note: Note) -> ErrorInfo | None:
    if not note.type and not note.reason:
        return None
    return ErrorInfo(note.type, note.message, note.traceback, note.reason, note.since_ms, note.data)
