"""What a request says: headers and parameters, read as their standards have them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from arq_web.http.asked import Asked, InvalidHeader, Preferences


def asked(*headers: tuple[str, str], query: bytes = b"", root_path: str = "") -> Asked:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    scope: dict[str, Any] = {"method": "GET", "headers": raw, "query_string": query, "root_path": root_path}
    return Asked.of(SimpleNamespace(scope=scope), "/jobs", "1")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ((), Preferences()),
        (("wait=10",), Preferences(wait_s=10)),
        (("WAIT = 10",), Preferences(wait_s=10)),
        (('wait="10"',), Preferences(wait_s=10)),
        (("respond-async, wait=5",), Preferences(5)),
        (("respond-async", "wait=5"), Preferences(5)),
        (("wait=5; foo=bar, return=minimal",), Preferences(5)),
        (("wait=5, wait=9",), Preferences(5)),
        (("wait=0",), Preferences(0)),
        (("wait=-1",), Preferences()),
        (("wait=1.5",), Preferences()),
        (("wait=soon",), Preferences()),
        (("wait",), Preferences()),
        (("wait=²",), Preferences()),
        (("wait=99999999999999999999",), Preferences(999_999_999)),
        (("wait=" + "9" * 5000,), Preferences(999_999_999)),
        (("wait=00000000000005",), Preferences(5)),
        ((",;=,,",), Preferences()),
    ],
)
def test_preferences_are_read_and_what_means_nothing_is_ignored(said: tuple[str, ...], expected: Preferences) -> None:
    """As RFC 7240 wants it: a server may ignore any of them, and must those that it does not understand."""
    assert asked(*(("Prefer", each) for each in said)).prefer == expected


@pytest.mark.parametrize(
    ("said", "has_seen"),
    [
        (None, False),
        ('"a"', True),
        ('W/"a"', True),
        ('"b", "a"', True),
        ("*", True),
        ('"b"', False),
        ("a", False),
        ("", False),
        ('"', False),
    ],
)
def test_entity_tags_are_compared_weakly(said: str | None, *, has_seen: bool) -> None:
    headers = [] if said is None else [("If-None-Match", said)]

    assert asked(*headers).has_seen('"a"') is has_seen


@pytest.mark.parametrize(
    ("said", "key"),
    [
        (None, None),
        ('"8e03978e-40d5-43dd-bc93-6894a57f9324"', "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        ("8e03978e", "8e03978e"),
        (r'"a\"b\\c"', r'a"b\c'),
        ("x" * 255, "x" * 255),
    ],
)
def test_an_idempotency_key_is_quoted_or_bare(said: str | None, key: str | None) -> None:
    """The draft wants the quotes; most clients leave them out."""
    headers = [] if said is None else [("Idempotency-Key", said)]

    assert asked(*headers).idempotency_key == key


@pytest.mark.parametrize("said", ["", '""', "x" * 256, "two words", "ä", '"a b"'])
def test_an_idempotency_key_that_cannot_be_one_is_refused(said: str) -> None:
    """It must not be overlooked: the client relies on it."""
    with pytest.raises(InvalidHeader, match="1 to 255 visible ASCII"):
        _ = asked(("Idempotency-Key", said)).idempotency_key


def test_a_stream_is_resumed_by_header_or_query() -> None:
    """Where a header cannot be set, as for the first connection of an EventSource."""
    assert asked(("Last-Event-ID", "7")).last_event_id == "7"
    assert asked(query=b"after=8").last_event_id == "8"
    assert asked(("Last-Event-ID", "7"), query=b"after=8").last_event_id == "7"
    assert asked(("Last-Event-ID", "")).last_event_id is None


def test_the_path_of_jobs_has_the_prefix_of_a_proxy_or_a_mount() -> None:
    assert asked(root_path="/api").jobs_path == "/api/jobs"
    assert asked(root_path="/").jobs_path == "/jobs"


def test_the_queue_is_that_of_the_query() -> None:
    assert asked().queue == "default"
    assert asked(query=b"queue=emails&queue=slow").queue == "slow"
    assert asked(query=b"queue=%00%ff").queue == "\x00\ufffd"
