"""Settings: frozen, checked once, each with its reason. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any, Literal, TypeVar

from arq_web.errors import InvalidConfig

ENV_PREFIX = "ARQ_WEB_"
T = TypeVar("T")
EmbeddedMode = Literal["auto", "always", "never"]


@dataclass(frozen=True, slots=True)
class Config:
    """What the engine needs to know. ``Config.from_env()`` reads ``ARQ_WEB_<FIELD>`` for every field.

    Raises:
        InvalidConfig: a field is outside its range; names field, value, range and environment variable.
    """

    namespace: str = "aw"
    """Begins every key: two apps on one database must differ."""
    concurrency: int = 10
    """Jobs that one external worker runs at the same time."""
    embedded_concurrency: int = 4
    """The same inside a web process, where HTTP needs the loop as well."""
    timeout_s: float = 300.0
    """Of an attempt, where the task names none. Every attempt has one."""
    drain_s: float = 25.0
    """How long a stopping worker waits for its running jobs: within Kubernetes' 30 s."""
    embedded_drain_s: float = 3.0
    """The same inside a web process (and under --reload)."""
    keep_result_s: float = 3600.0
    """How long a finished job and its result stay."""
    keep_dead_s: float = 7 * 86400.0
    """How long a dead job stays to be redriven."""
    keep_idempotency_s: float = 86400.0
    """How long an Idempotency-Key is known; longer where the route's result is kept longer."""
    max_queued: int = 0
    """Jobs that may wait for a worker in each queue; 0: any number. An enqueue over it is refused."""
    max_payload_bytes: int = 1_048_576
    """Of the encoded arguments, and of a result: Redis keeps all of it in memory."""
    lease_s: float = 8.0
    """A worker that is silent for so long loses its jobs; renewed each second."""
    command_deadline_s: float = 2.0
    """For one answer of Redis; then the command is sent once again on a new connection: both within a lease."""
    lock_dir: str = ""
    """Where workers show each other that they live; default the host's memory. For containers: a folder they share."""
    embedded: EmbeddedMode = "auto"
    """Worker inside the web process: auto (while developing, and only while no external one lives), always, never."""

    def __post_init__(self) -> None:
        _check(re.fullmatch(r"[A-Za-z0-9_.-]{1,32}", self.namespace), self, "namespace", "1 to 32 of A-Z a-z 0-9 _ . -")
        _check(1 <= self.concurrency <= 1000, self, "concurrency", "between 1 and 1000")
        _check(1 <= self.embedded_concurrency <= 1000, self, "embedded_concurrency", "between 1 and 1000")
        _check(0.001 <= self.timeout_s <= 30 * 86400, self, "timeout_s", "between 0.001 and 2592000 (30 days) seconds")
        _check(0 <= self.drain_s <= 86400, self, "drain_s", "between 0 and 86400 seconds")
        _check(0 <= self.embedded_drain_s <= 86400, self, "embedded_drain_s", "between 0 and 86400 seconds")
        _check(0 <= self.keep_result_s <= 366 * 86400, self, "keep_result_s", "between 0 seconds and 366 days")
        _check(60 <= self.keep_dead_s <= 366 * 86400, self, "keep_dead_s", "between 60 seconds and 366 days")
        _check(
            60 <= self.keep_idempotency_s <= 366 * 86400, self, "keep_idempotency_s", "between 60 seconds and 366 days"
        )
        _check(0 <= self.max_queued <= 10**9, self, "max_queued", "between 0 (any number) and 1000000000")
        _check(1 <= self.max_payload_bytes <= 64 << 20, self, "max_payload_bytes", "between 1 byte and 64 MiB")
        _check(2 <= self.lease_s <= 3600, self, "lease_s", "between 2 and 3600 seconds (it is renewed each second)")
        # A renewal that is answered only when it is sent again must not come too late for every lease.
        longest_s = min(60, self.lease_s / 2)
        allowed = "between 0.05 and 60 seconds, and at most half of lease_s"
        _check(0.05 <= self.command_deadline_s <= longest_s, self, "command_deadline_s", allowed)
        _check(not self.lock_dir or os.path.isabs(self.lock_dir), self, "lock_dir", "empty, or an absolute path")  # noqa: PTH117
        _check(self.embedded in ("auto", "always", "never"), self, "embedded", "'auto', 'always' or 'never'")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None, **overrides: Any) -> Config:
        """Read the environment; ``overrides`` that are not None win."""
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        for field in fields(cls):
            text = environ.get(ENV_PREFIX + field.name.upper())
            if text is not None:
                values[field.name] = _parse(field.name, text, type(field.default))
        values |= {name: value for name, value in overrides.items() if value is not None}
        return cls(**values)


def seconds(value: timedelta | float) -> float:
    """Seconds as a float, from a timedelta or a number."""
    return value.total_seconds() if isinstance(value, timedelta) else float(value)


def _parse(name: str, text: str, kind: type[T]) -> T:
    try:
        return kind(text.strip())  # type: ignore[call-arg]
    except ValueError:
        words = {int: "a whole number", float: "a number"}.get(kind, "text")
        raise InvalidConfig(name, text, words, ENV_PREFIX + name.upper()) from None


def _check(fine: object, config: Config, field: str, allowed: str) -> None:
    if not fine:
        raise InvalidConfig(field, getattr(config, field), allowed, ENV_PREFIX + field.upper())
