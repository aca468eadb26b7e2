"""A job's record, read. Written only by ``lua/_record.lua``; the layout is in docs/reference/wire-format.md.

Two lines and two bodies::

    <state>[ <attempt> <failures> <crashes> <note bytes> <token> <since_ms> <started_ms> <due_ms> <flags> <worker>]
    <created_ms> <task>[ <letter><value>]...[ <json of call options>]
    <note: result, error or progress><payload, unless it lives in a key of its own>

The first line changes with every transition; a job that was never touched has only its state. The second never changes
(but by a redrive) and names only what is not the default: n nonce, p priority, e expires_ms, c max_crashes (3),
k keep_s (3600), u unique key, a payload kept aside, o owner. So a queued job with a payload of 100 bytes takes 410 to
440 bytes of Redis in all (docs/adr/0001-record-layout.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote_from_bytes, unquote

import msgspec

from arq_web.job import HEADERS, ErrorInfo, JobInfo, JobState, ProgressInfo, headers_in

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
_DUE_LATER = frozenset({JobState.SCHEDULED, JobState.RETRYING})
DEFAULT_MAX_CRASHES = 3
DEFAULT_KEEP_S = 3600


class ProgressNote(msgspec.Struct, array_like=True):
    """``ProgressInfo`` as a list, which may end early; and which attempt said it."""

    fraction: float
    message: str = ""
    attempt: int | None = None
    current: int | float | None = None
    total: int | float | None = None
    eta_s: float | None = None

    def info(self, attempt: int) -> ProgressInfo | None:
        """For everybody; None when another attempt than this one said it: notes outlive an attempt that was lost."""
        if self.attempt not in (None, attempt):
            return None
        return ProgressInfo(self.fraction, self.message, self.current, self.total, self.eta_s)


class Note(msgspec.Struct, omit_defaults=True):
    """What is noted with a job that has not succeeded: the last error, the progress, since when it is parked."""

    reason: str = ""
    type: str = ""
    message: str = ""
    traceback: str = ""
    since_ms: int = 0
    progress: ProgressNote | None = None
    data: dict[str, object] | None = None


class ClaimedJob(msgspec.Struct, frozen=True, gc=False):
    """One job as a worker gets it: what to run, and the fence (attempt, token) that its settle must show.

    ``extra`` holds the options of this one call that only the worker needs: ``timeout_ms``, ``max_tries``, ``keep_ms``;
    and, as ``h``, the job's headers.
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
    cancel_requested: bool = False
    """Its end was asked for before it was claimed: it is not to start."""
    due_at_ms: int = 0
    """When it was due to run, where that was not at once: delayed, retried, put back; 0 where it was."""
    is_suspect: bool = False
    """One crash before its end, as the claim has found (_take.lua): it runs alone, so that only a real killer spends
    its last crash."""

    @property
    def headers(self) -> dict[str, str]:
        """What middleware gave it when it was enqueued; a dict of the caller's own."""
        return headers_in(self.extra)


def owner_word(owner: str) -> bytes:
    """How an owner stands among the options: any text, without a space or a line's end in it."""
    return b"o" + quote_from_bytes(owner.encode(), safe=_OWNER_SAFE).encode()


def with_headers(extra: bytes, headers: Mapping[str, str]) -> bytes:
    """The JSON of a call's options, with its headers among them.

    Raises:
        UnicodeEncodeError: a lone surrogate, which no UTF-8 has.
    """
    return _encoder.encode({**(_extra_decoder.decode(extra) if extra else {}), HEADERS: dict(headers)})


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
    try:
        changes, created, task, options, note, payload = _parts(raw)
        return ClaimedJob(
            id=job_id,
            queue=queue,
            task=task.decode(),
            attempt=int(changes[1]),
            token=changes[5].decode(),
            failures=int(changes[2]),
            crashes=int(changes[3]),
            max_crashes=int(options.get("c", DEFAULT_MAX_CRASHES)),
            enqueued_at_ms=int(created),
            claimed_at_ms=int(changes[7]),
            keep_result_ms=int(options.get("k", DEFAULT_KEEP_S)) * 1000,
            expires_at_ms=int(options.get("e", 0)),
            note=_read_note(note) if note else _NO_NOTE,
            payload=aside if "a" in options else payload,
            extra=_read_extra(options),
            cancel_requested=b"c" in changes[9],
            due_at_ms=int(changes[8]),
            is_suspect=b"i" in changes[9],
        )
    except (ValueError, IndexError, msgspec.DecodeError) as error:
        raise UnreadableRecord(f"{raw[:80]!r}: {error}") from error


def read_info(job_id: str, queue: str, raw: bytes, aside: bytes = b"") -> JobInfo:
    """The record as everybody may see it.

    Raises:
        UnreadableRecord: not a record of ours.
    """
    try:
        changes, created, task, options, note, payload = _parts(raw)
        state = STATES[changes[0]]
        _, attempt, failures, crashes, _, _, since, started, due, flags, worker = (
            changes if len(changes) > 1 else (changes[0], b"0", b"0", b"0", b"0", b"-", created, b"0", b"0", b"-", b"-")
        )
        succeeded = state is JobState.SUCCEEDED
        has_result = succeeded and b"n" not in flags
        noted = _read_note(note) if note and not succeeded else _NO_NOTE
        extra = _read_extra(options)
        return JobInfo(
            id=job_id,
            queue=queue,
            task=task.decode(),
            state=state,
            attempt=int(attempt),
            failures=int(failures),
            crashes=int(crashes),
            max_crashes=int(options.get("c", DEFAULT_MAX_CRASHES)),
            priority=int(options.get("p", 0)),
            enqueued_at_ms=int(created),
            since_ms=int(since),
            started_at_ms=int(started) or None,
            due_at_ms=(int(due) or None) if state in _DUE_LATER else None,
            expires_at_ms=int(options.get("e", 0)) or None,
            keep_result_ms=int(options.get("k", DEFAULT_KEEP_S)) * 1000,
            unique=options["u"].decode() if "u" in options else None,
            owner=unquote(options["o"].decode()) if "o" in options else None,
            is_id_chosen=not options.get("n", _AUTOMATIC).startswith(_AUTOMATIC),
            cancel_requested=b"c" in flags,
            is_dismissed=b"d" in flags,
            worker=None if worker == b"-" else worker.decode(errors="replace"),
            error=_error(noted),
            progress=noted.progress.info(int(attempt)) if noted.progress and state is JobState.RUNNING else None,
            has_result=has_result,
            gone_at_ms=(int(due) or None) if state.is_terminal else None,
            result=note if has_result else None,
            payload=aside if "a" in options else payload,
            extra={name: value for name, value in extra.items() if name != HEADERS},
            headers=headers_in(extra),
        )
    except (ValueError, KeyError, msgspec.DecodeError) as error:
        raise UnreadableRecord(f"{raw[:80]!r}: {error}") from error


def payload_is_aside(raw: bytes) -> bool:
    """True when the payload lives in a key of its own.

    Raises:
        UnreadableRecord: not a record of ours.
    """
    try:
        return "a" in _parts(raw)[3]
    except ValueError as error:
        raise UnreadableRecord(f"{raw[:80]!r}: {error}") from error


_note_decoder = msgspec.json.Decoder(Note)
_extra_decoder = msgspec.json.Decoder(dict[str, object])
_encoder = msgspec.json.Encoder()
_EXTRA = "{"
_AUTOMATIC = b"~"  # begins the nonce of a redrive, where the id was of our own making: such a job has no other
_OWNER_SAFE = "@:/|+,=!*"
_NO_NOTE = Note()
_NO_OPTIONS: Mapping[str, bytes] = {}


def _parts(raw: bytes) -> tuple[list[bytes], bytes, bytes, Mapping[str, bytes], bytes, bytes]:
    """The fields of the first line; created_ms, task and options of the second; note; payload."""
    first, second, rest = raw.split(b"\n", 2)
    changes = first.split(b" ")
    created, task, *words = second.split(b" ", 2)
    options = _read_options(words[0]) if words else _NO_OPTIONS
    if len(changes) == 1:
        return changes, created, task, options, b"", rest
    note_bytes = int(changes[4]) if len(changes) == 11 else -1
    if not 0 <= note_bytes <= len(rest):
        raise ValueError("fields are missing")
    return changes, created, task, options, rest[:note_bytes], rest[note_bytes:]


def _read_options(text: bytes) -> dict[str, bytes]:
    """Letter → value; the JSON of call options, which ends them, as ``{``."""
    words, opened, extra = (b" " + text).partition(b" {")
    options = {chr(word[0]): word[1:] for word in words.split(b" ") if word}
    if opened:
        options[_EXTRA] = b"{" + extra
    return options


def _read_extra(options: Mapping[str, bytes]) -> dict[str, object]:
    extra = options.get(_EXTRA)
    return _extra_decoder.decode(extra) if extra else {}


def _read_note(raw: bytes) -> Note:
    try:
        return _note_decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Note(reason="unreadable", type="UnreadableNote", message=repr(raw[:200]))


def _error(note: Note) -> ErrorInfo | None:
    if not note.type and not note.reason:
        return None
    return ErrorInfo(note.type, note.message, note.traceback, note.reason, note.since_ms, note.data)
