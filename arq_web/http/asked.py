"""What a request says, whatever framework received it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from arq_web.queue import DEFAULT_QUEUE

MAX_KEY_CHARS = 255
_WAIT_DIGITS = 9  # longer than anybody waits: what is over it is cut, as every wait is to what is granted
_VISIBLE = re.compile(r"[!-~]+")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ETAG = re.compile(r'("[^"]*")|\*')


class InvalidHeader(ValueError):
    """A request header that must not be overlooked says nothing we understand."""

    def __init__(self, header: str, why: str) -> None:
        self.header, self.why = header, why
        super().__init__(f"{header}: {why}")


@dataclass(frozen=True, slots=True)
class Preferences:
    """What ``Prefer`` (RFC 7240) asks for, as far as we know it; the rest is ignored, as the RFC wants it."""

    wait_s: int | None = None
    """``wait=N``: the client waits that long for the answer; None when it did not say."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: method, parameters and headers. ``request`` is the framework's own, for the app's functions.

    ``jobs_path`` is where the routes of jobs are, as the client sees them: with the prefix of a proxy or a mount.
    """

    method: str
    jobs_path: str
    request: Any = None
    job_id: str = ""
    route: str = ""
    """Which one it is, with the names of its path's parameters: ``/images/{image_id}/resize``."""
    path_params: Mapping[str, str] = field(default_factory=dict)
    query_pairs: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    """By lower-case name; the values of a repeated header are joined by commas."""

    @classmethod
    def of(cls, request: Any, jobs_path: str, job_id: str = "", route: str = "") -> Asked:
        """Read a framework's request, by its ASGI ``scope``; the body is left alone."""
        scope: Mapping[str, Any] = request.scope
        headers: dict[str, str] = {}
        for raw_name, raw_value in scope.get("headers", ()):
            name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1").strip()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        pairs = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
        params = {name: str(value) for name, value in scope.get("path_params", {}).items()}
        root_path = str(scope.get("root_path", "")).rstrip("/")
        return cls(
            str(scope["method"]),
            root_path + jobs_path,
            request,
            job_id,
            root_path + route,
            params,
            tuple(pairs),
            headers,
        )

    @property
    def query(self) -> Mapping[str, str]:
        """The last value of each parameter."""
        return dict(self.query_pairs)

    @property
    def queue(self) -> str:
        """``?queue=``; without it the default one."""
        return self.query.get("queue", DEFAULT_QUEUE)

    @property
    def prefer(self) -> Preferences:
        """The preferences. Of a repeated one the first counts; one that means nothing is as if it were not there."""
        found: dict[str, str] = {}
        for preference in self.headers.get("prefer", "").split(","):
            name, _, value = preference.partition(";")[0].partition("=")
            found.setdefault(name.strip().lower(), value.strip().strip('"'))
        wait = found.get("wait", "")
        if not (wait.isascii() and wait.isdigit()):
            return Preferences()
        digits = wait.lstrip("0") or "0"
        return Preferences(int(digits) if len(digits) <= _WAIT_DIGITS else 10**_WAIT_DIGITS - 1)

    def has_seen(self, etag: str) -> bool:
        """True when ``If-None-Match`` names this entity tag (weakly compared, RFC 9110 §13.1.2), or any."""
        said = self.headers.get("if-none-match")
        if said is None:
            return False
        return any(match[0] == "*" or match[1] == etag for match in _ETAG.finditer(said))

    @property
    def last_event_id(self) -> str | None:
        """``Last-Event-ID``, or ``?after=`` where the header cannot be set; None at the first connection."""
        return self.headers.get("last-event-id") or self.query.get("after") or None

    @property
    def idempotency_key(self) -> str | None:
        """``Idempotency-Key``: a quoted string, as its draft has it, or the bare token that many send; None without it.

        Raises:
            InvalidHeader: it is empty, longer than 255 characters, or has others than visible ASCII.
        """
        said = self.headers.get("idempotency-key")
        if said is None:
            return None
        quoted = _QUOTED.fullmatch(said)
        key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else said
        if not _VISIBLE.fullmatch(key) or len(key) > MAX_KEY_CHARS:
            raise InvalidHeader("Idempotency-Key", f"it must be 1 to {MAX_KEY_CHARS} visible ASCII characters")
        return key
