"""How ``app-worker`` writes log lines: text for people, JSON for collectors. The library itself configures no logging.

Our lines have a handler of their own; the root logger gets one only where the app has set up none, so that the app's
own logging configuration stays as it is.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Literal, TextIO, cast

from arq_web.log_context import CurrentJob, LogContext, RequestIds, context_fields, current_job, job_fields

__all__ = [
    "CurrentJob",
    "JobFilter",
    "JsonFormatter",
    "LogContext",
    "LogOutput",
    "RequestIds",
    "TextFormatter",
    "current_job",
    "duration",
    "event_of",
    "job_fields",
    "printable",
]

OURS = "arq_web"
CHILD_LOG_ENV = "ARQ_WEB_CHILD_LOG"
"""How the child processes of an ``app-worker`` are to write the app's lines: as itself does. Set by it, for them."""
LogStyle = Literal["text", "json"]

_LEVELS = {"WARNING": "WARN", "CRITICAL": "CRIT"}
_COLOURS = {"DEBUG": "2", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}
_INDENT = " " * 15
_OF_EVERY_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "event", "fields"}
FRAME = frozenset({"ts", "level", "logger", "process", "pid", "event", "message", "exc_info", "stack_info"})
"""The keys of a JSON line that are not fields of an event or of a job."""
# Whoever reads the text knows which worker he looks at, and in which queue a job is where none is named.
_WORKER_IS_NEWS = frozenset({"worker.started", "job.reclaimed"})
_ABOUT_JOBS = frozenset({"", "job", "lease", "attempt", "schedule"})
_ATTRIBUTES = {"job": "job_id", "task": "task", "queue": "queue", "attempt": "attempt", "request_id": "request_id"}
_AUTOMATIC_ID = re.compile(r"[0-9a-f]{32}")
# What comes from jobs and other people's exceptions must not move the reader's cursor or forge a line.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


class LogOutput:
    """The log of one ``app-worker`` process, on standard error."""

    def __init__(self, level: int, style: LogStyle, stream: TextIO | None = None) -> None:
        """Nothing is shown before ``start``.

        Args:
            level: of our own lines; other loggers are shown from INFO (or this, if it is higher).
            style: ``text`` or ``json``.
            stream: default standard error; colours only on a terminal, and not with NO_COLOR.
        """
        out: TextIO = sys.stderr if stream is None else stream
        self._level, self._style = level, style
        self._formatter = JsonFormatter() if style == "json" else TextFormatter(is_coloured=_wants_colour(out))
        self._handler = logging.StreamHandler(out)
        self._handler.setFormatter(self._formatter)

    @classmethod
    def of_parent(cls, level: int) -> LogOutput | None:
        """In a child process: the log as its worker writes it; None where the app writes its lines itself."""
        style, _, process = os.environ.get(CHILD_LOG_ENV, "").partition(" ")
        if style not in ("json", "text"):
            return None
        output = cls(level, cast("LogStyle", style))
        if process:
            output.show_process(int(process))
        return output

    def start(self) -> None:
        """Show our own lines."""
        logger = logging.getLogger(OURS)
        logger.addHandler(self._handler)
        logger.setLevel(self._level)
        logger.propagate = False

    def show_process(self, number: int) -> None:
        """Let every line name this process: one of several that share a log."""
        self._formatter.process = number

    @property
    def level(self) -> int:
        """Of our own lines."""
        return self._level

    def set_level(self, level: int) -> None:
        """Show our own lines from this level on, from now on."""
        self._level = level
        logging.getLogger(OURS).setLevel(level)

    def take_in_app(self, task_names: Iterable[str] = ()) -> None:
        """Show the app's lines too, now that it had its chance to configure logging itself. May be repeated.

        Args:
            task_names: the tasks that our lines may name without their module.
        """
        root = logging.getLogger()
        if not root.handlers:
            root.addHandler(self._handler)
            root.setLevel(max(self._level, logging.INFO))
            process = self._formatter.process
            os.environ[CHILD_LOG_ENV] = self._style if process is None else f"{self._style} {process}"
        for name in list(logging.root.manager.loggerDict):
            # logging.config.dictConfig disables every logger that it does not name, ours among them.
            if name == OURS or name.startswith(f"{OURS}."):
                logging.getLogger(name).disabled = False
        if isinstance(self._formatter, TextFormatter):
            self._formatter.know_tasks(task_names)

    def flush(self) -> None:
        """Write out what is buffered: before a process ends without Python's own clean-up."""
        logging.shutdown()
        self._handler.flush()


class TextFormatter(logging.Formatter):
    """One line per event that a person can scan: time, level, event, task and job, the other fields, the error."""

    def __init__(self, *, is_coloured: bool = False) -> None:
        super().__init__()
        self.process: int | None = None
        self._is_coloured = is_coloured
        self._short_names: dict[str, str] = {}

    def know_tasks(self, names: Iterable[str]) -> None:
        """Show these tasks without their module, where that leaves no doubt."""
        known = list(names)
        shorts = [_without_module(name) for name in known]
        self._short_names = {name: short for name, short in zip(known, shorts, strict=True) if shorts.count(short) == 1}

    def format(self, record: logging.LogRecord) -> str:
        """The line, and below it, indented, what has several lines: tracebacks and stacks."""
        event, fields = event_of(record)
        if event is None:
            head, more = self._message_text(record)
        else:
            head, more = self._event_text(event, fields)
        below = [*more, *self._tracebacks(record)]
        lines = [
            f"{self._frame(record)} {printable(head).rstrip()}",
            *(f"{_INDENT}{printable(line)}" for line in below),
        ]
        return "\n".join(lines)

    def _frame(self, record: logging.LogRecord) -> str:
        at = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = f"{_LEVELS.get(record.levelname, record.levelname):<5}"
        process = "" if self.process is None else f" [{self.process}]"
        if not self._is_coloured:
            return f"{at} {level}{process}"
        colour = _COLOURS.get(record.levelname)
        return f"\x1b[2m{at}\x1b[0m " + (f"\x1b[{colour}m{level}\x1b[0m" if colour else level) + process

    def _message_text(self, record: logging.LogRecord) -> tuple[str, list[str]]:
        """Somebody else's line, and behind it whose job it belongs to."""
        text, more = _first_line(record.getMessage())
        words = [f"{record.name:<16} {text}"]
        rest = _for_people("", context_fields())
        if rest:
            task, job = rest.pop("task", None), rest.pop("job", None)
            words.append(" ".join(str(word) for word in (self._short_name(task), _short_id(job)) if word))
            words.append(" ".join(_pair(name, value) for name, value in rest.items()))
        return "  ".join(word for word in words if word), more

    def _event_text(self, event: str, fields: Mapping[str, object]) -> tuple[str, list[str]]:
        rest = _for_people(event, fields)
        task, job = rest.pop("task", None), rest.pop("job", None)
        error, more = _first_line(str(rest.pop("error", "")))
        stack = str(rest.pop("stack", ""))
        words = (
            " ".join(str(word) for word in (self._short_name(task), _short_id(job)) if word),
            str(rest.pop("sentence", "")),
            " ".join(_pair(name, value) for name, value in rest.items()),
            error,
        )
        return f"{event:<16} " + "  ".join(word for word in words if word), [*more, *stack.splitlines()]

    def _short_name(self, task: object) -> str:
        name = "" if task is None else str(task)
        return self._short_names.get(name, name)

    def _tracebacks(self, record: logging.LogRecord) -> Iterator[str]:
        if record.exc_info:
            yield from self.formatException(record.exc_info).splitlines()
        if record.stack_info:
            yield from record.stack_info.splitlines()


class JsonFormatter(logging.Formatter):
    """One JSON object per line: ts, level, logger, then event and its fields, or message; exc_info if there is one.

    A message within a job has the job's fields (``job``, ``task``, ``queue``, ``attempt``, ``request_id`` and those of
    ``job_fields``), and every message what was logged as ``extra=``. Where several processes share the log,
    ``process`` and ``pid`` say whose line it is.
    """

    def __init__(self) -> None:
        super().__init__()
        self.process: int | None = None

    def format(self, record: logging.LogRecord) -> str:
        """The object; what JSON has no word for becomes a string."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        line: dict[str, object] = {"ts": at, "level": record.levelname, "logger": record.name}
        if self.process is not None:
            line |= {"process": self.process, "pid": record.process}
        event, fields = event_of(record)
        if event is None:
            line["message"] = record.getMessage()
            said = context_fields()
            line |= {_beside(name, FRAME): value for name, value in said.items()}
            line |= {_beside(name, FRAME | said.keys()): value for name, value in _extras(record)}
        else:
            line |= {"event": event, **fields}
        if record.exc_info:
            line["exc_info"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack_info"] = record.stack_info
        return _json_of(line)


class JobFilter(logging.Filter):
    """For a logging set-up of your own: gives each record the job that it belongs to.

    ``%(job_id)s``, ``%(task)s``, ``%(queue)s``, ``%(attempt)s``, ``%(request_id)s`` and the names given to
    ``job_fields``. Put it on a handler, which sees the records of all loggers, and on a ``QueueHandler`` rather than on
    the handler behind its queue, which works in another thread.
    """

    def __init__(self, *, outside: object = "-") -> None:
        """``outside`` is what the five are where there is no job, or no request id; None for no attributes at all."""
        super().__init__()
        self._outside = {} if outside is None else dict.fromkeys(_ATTRIBUTES.values(), outside)

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass; what it has already, as ``extra=``, stays."""
        known = {_ATTRIBUTES.get(name, name): value for name, value in context_fields().items()}
        for name, value in {**self._outside, **known}.items():
            record.__dict__.setdefault(name, value)
        return True


def event_of(record: logging.LogRecord) -> tuple[str | None, Mapping[str, object]]:
    """The name and fields of one of our events; None for any other line."""
    event, fields = getattr(record, "event", None), getattr(record, "fields", None)
    if not record.name.startswith(f"{OURS}.") or not isinstance(event, str) or not isinstance(fields, dict):
        return None, {}
    return event, cast("dict[str, object]", fields)


def printable(text: str) -> str:
    """``text`` with its control characters (but tab and newline) made visible."""
    return _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def duration(ms: float) -> str:
    """Milliseconds for the eye: ``120ms``, ``8.0s``, ``3m``, ``5h``, ``2d``."""
    for unit_ms, word in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "m")):
        if ms >= 2 * unit_ms:
            return f"{ms / unit_ms:.0f}{word}"
    return f"{ms / 1000:.1f}s" if ms >= 1000 else f"{ms:.0f}ms"


def _wants_colour(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR")


def _for_people(event: str, fields: Mapping[str, object]) -> dict[str, object]:
    """What a person wants to read of the fields."""
    # Not by ==: a value may be a user's, an array for example, which answers that with an array.
    rest = {name: each for name, each in fields.items() if not (each is None or (isinstance(each, str) and not each))}
    if event not in _WORKER_IS_NEWS:
        rest.pop("worker", None)
    if rest.get("queue") == "default" and event.partition(".")[0] in _ABOUT_JOBS:
        del rest["queue"]
    return rest


def _json_of(line: Mapping[str, object]) -> str:
    """One line in any case: what strict JSON has no word for (nan, a list within itself) becomes text."""
    try:
        return json.dumps(line, default=str, skipkeys=True, allow_nan=False)
    except (ValueError, RecursionError):
        plain = (str, int, bool, type(None))
        return json.dumps({name: value if isinstance(value, plain) else repr(value) for name, value in line.items()})


def _extras(record: logging.LogRecord) -> Iterator[tuple[str, object]]:
    """What somebody logged as ``extra=``."""
    return ((name, value) for name, value in vars(record).items() if name not in _OF_EVERY_RECORD)


def _beside(name: str, taken: Collection[str]) -> str:
    """A key that hides none of those that are taken."""
    return f"{name}_" if name in taken else name


def _without_module(name: str) -> str:
    return name.rpartition(":")[2]


def _short_id(job: object) -> str:
    """Eight characters of an automatic id are enough to find it; a chosen one says something, so it stays."""
    text = "" if job is None else str(job)
    return f"{text[:8]}…" if _AUTOMATIC_ID.fullmatch(text) else text


def _first_line(text: str) -> tuple[str, list[str]]:
    first, *more = text.splitlines() or [""]
    return first, more


def _pair(name: str, value: object) -> str:
    if name.endswith("_ms") and isinstance(value, (int, float)):
        return f"{name.removesuffix('_ms')}={duration(value)}"
    if name.endswith("_s") and isinstance(value, (int, float)):
        return f"{name.removesuffix('_s')}={value:.1f}s"
    if name == "tick" and isinstance(value, int):
        return f"tick={datetime.fromtimestamp(value / 1000, UTC).astimezone():%Y-%m-%dT%H:%M:%S%z}"
    text = str(value).replace("\n", " ")
    return f"{name}={text!r}" if " " in text else f"{name}={text}"
