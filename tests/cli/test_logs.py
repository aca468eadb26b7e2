"""The two forms of a log line."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from arq_web import events
from arq_web.events import Event, all_events, emit
from arq_web.logs import JsonFormatter, LogOutput, TextFormatter, duration, job_fields, printable

JOB = "0123456789abcdef" * 2


@pytest.fixture
def captured() -> Iterator[list[logging.LogRecord]]:
    """Records of our own loggers, as a handler gets them."""
    records: list[logging.LogRecord] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    logger, handler = logging.getLogger("arq_web"), Handler()
    before = logger.level
    logger.setLevel(logging.DEBUG)  # not the attribute: loggers below remember what they were enabled for
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)
    logger.setLevel(before)


def test_an_event_is_one_line_to_scan(captured: list[logging.LogRecord]) -> None:
    """Time, level, event, task and job, the other fields with their units, the error last."""
    line = _text(captured, events.JOB_RETRYING, attempt=2, failures=2, ran_ms=120, next_s=8.0, error="SMTPError: busy")

    assert (
        line[8:]
        == f" INFO  job.retrying     send {JOB[:8]}…  attempt=2 failures=2 ran=120ms next=8.0s  SMTPError: busy"
    )


def test_several_lines_of_an_error_are_indented_below(captured: list[logging.LogRecord]) -> None:
    """So that they cannot be taken for lines of the log, or forge one."""
    lines = _text(
        captured, events.JOB_DEAD, attempt=1, error="ValueError: x\n12:00:00 INFO  forged\x1b[2J"
    ).splitlines()

    assert lines[0].endswith("attempt=1  ValueError: x")
    assert lines[1] == " " * 15 + "12:00:00 INFO  forged\\x1b[2J"


def test_a_chosen_id_and_an_ambiguous_task_stay_in_full(captured: list[logging.LogRecord]) -> None:
    """Both say something."""
    formatter = TextFormatter()
    formatter.know_tasks(["shop:send", "mail:send", "mail:only"])

    for task in ("shop:send", "mail:only", "unknown:other"):
        emit(events.JOB_CLAIMED, job="welcome:42", task=task, attempt=1)
    lines = [formatter.format(record) for record in captured]

    assert [line.split()[3:5] for line in lines] == [
        ["shop:send", "welcome:42"],
        ["only", "welcome:42"],
        ["unknown:other", "welcome:42"],
    ]


def test_a_line_that_is_no_event_has_the_same_frame() -> None:
    """With its logger where the event would be, and its traceback below."""
    record = _record("shop.mail", "sent %s", "it")

    lines = TextFormatter().format(record).splitlines()

    assert lines[0][8:] == " WARN  shop.mail        sent it"
    assert lines[-1] == " " * 15 + "ValueError: no"


def test_json_has_the_fields_as_they_are(captured: list[logging.LogRecord]) -> None:
    """Numbers stay numbers; what JSON has no word for becomes text."""
    emit(events.JOB_RETRYING, job=JOB, task="shop:send", attempt=2, next_s=8.0, error=ValueError("x"))

    line = json.loads(JsonFormatter().format(captured[0]))

    assert line.pop("ts").endswith("Z")
    assert line == {
        "level": "INFO",
        "logger": "arq_web.worker",
        "event": "job.retrying",
        "job": JOB,
        "task": "shop:send",
        "attempt": 2,
        "next_s": 8.0,
        "error": "x",
    }


def test_json_of_a_line_that_is_no_event_has_a_message() -> None:
    """And the exception in its own field, on the same line."""
    text = JsonFormatter().format(_record("shop.mail", "sent %s", "it"))
    line = json.loads(text)

    assert "\n" not in text
    assert (line["message"], line["logger"]) == ("sent it", "shop.mail")
    assert "ValueError: no" in line["exc_info"]


@pytest.mark.parametrize("event", all_events(), ids=lambda event: event.name)
def test_no_event_has_a_field_that_would_hide_one_of_the_frame(event: Event) -> None:
    """The frame's names are taken."""
    assert not {"ts", "level", "logger", "event", "message", "exc_info", "stack_info"} & set(event.fields)


@pytest.mark.parametrize(
    ("ms", "text"),
    [(0, "0ms"), (999, "999ms"), (1500, "1.5s"), (90_000, "90.0s"), (180_000, "3m"), (7.2e6, "2h"), (3 * 864e5, "3d")],
)
def test_durations_have_one_unit(ms: float, text: str) -> None:
    """The largest of which there are two."""
    assert duration(ms) == text


def test_control_characters_are_shown_not_sent() -> None:
    """A job's error could otherwise repaint the terminal."""
    assert printable("a\x1b[31m\r\x07b\tc\n") == "a\\x1b[31m\\r\\x07b\tc\n"


def test_colours_are_for_terminals_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not for those who do not want them."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def first_line(stream: io.StringIO) -> str:
        output = LogOutput(logging.INFO, "text", stream)
        return output._formatter.format(_record("shop", "x"))

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[33m" in first_line(Terminal())
    assert "\x1b" not in first_line(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in first_line(Terminal())


def _text(captured: list[logging.LogRecord], event: Event, **fields: object) -> str:
    formatter = TextFormatter()
    formatter.know_tasks(["shop:send"])
    emit(event, job=JOB, task="shop:send", **fields)
    return formatter.format(captured[0])


def _record(name: str, text: str, *args: Any) -> logging.LogRecord:
    try:
        raise ValueError("no")
    except ValueError:
        return logging.LogRecord(name, logging.WARNING, __file__, 1, text, args, sys.exc_info())


class Array:
    """Compares each of its elements, as arrays do: no answer is true or false."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("the truth value of an array is ambiguous")

    def __repr__(self) -> str:
        return "[1 2]"

    __hash__ = None  # type: ignore[assignment]


def test_a_field_of_a_users_own_may_be_anything() -> None:
    record = logging.makeLogRecord({"msg": "scaled", "name": "shop", "levelname": "INFO"})
    with job_fields(size=Array(), nothing=None, empty=""):
        line = TextFormatter().format(record)

    assert "size='[1 2]'" in line
    assert "nothing" not in line
    assert "empty" not in line
