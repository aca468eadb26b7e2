"""arq's helpers for times, texts and imports."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import logging
import os
import zoneinfo
from collections.abc import AsyncGenerator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from time import time
from typing import Any, overload

from arq_web.arq.constants import timezone_env_vars
from arq_web.arq.typing import SecondsTimedelta

logger = logging.getLogger("arq.utils")
DEFAULT_CURTAIL = 80


def as_int(f: float) -> int:
    """The nearest whole number."""
    return round(f)


def timestamp_ms() -> int:
    """Now, by this host's clock, ms since the epoch."""
    return as_int(time() * 1000)


def to_unix_ms(dt: datetime) -> int:
    """Ms since the epoch; a naive ``dt`` is local time."""
    return as_int(dt.timestamp() * 1000)


@lru_cache
def get_tz() -> tzinfo | None:
    """The zone that the environment names (see ``constants.timezone_env_vars``); None for UTC."""
    for name in filter(None, map(os.getenv, timezone_env_vars)):
        try:
            return _zone(name)
        except (KeyError, ValueError):
            logger.warning("unknown timezone: %r", name)
    return None


def ms_to_datetime(unix_ms: int) -> datetime:
    """Ms since the epoch as an aware datetime, in UTC or the zone that the environment names."""
    moment = datetime.fromtimestamp(unix_ms / 1000, UTC)
    zone = get_tz()
    return moment if zone is None else moment.astimezone(zone)


@overload
def to_ms(td: None) -> None: ...
@overload
def to_ms(td: SecondsTimedelta) -> int: ...
def to_ms(td: SecondsTimedelta | None) -> int | None:
    """Seconds or a timedelta as ms."""
    return None if td is None else as_int(to_seconds(td) * 1000)


@overload
def to_seconds(td: None) -> None: ...
@overload
def to_seconds(td: SecondsTimedelta) -> float: ...
def to_seconds(td: SecondsTimedelta | None) -> float | None:
    """Seconds or a timedelta as seconds."""
    return td.total_seconds() if isinstance(td, timedelta) else td


async def poll(step: float = 0.5) -> AsyncGenerator[float, None]:
    """Go round each ``step`` seconds; yields the seconds since the beginning."""
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    while True:
        before_s = loop.time()
        yield before_s - start_s
        await asyncio.sleep(max(0, before_s + step - loop.time()))


def truncate(s: str, length: int = DEFAULT_CURTAIL) -> str:
    """At most ``length`` characters of ``s``, the last one an ellipsis where it was cut."""
    return s if len(s) <= length else f"{s[: length - 1]}…"


def args_to_string(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Arguments as they are written in a call, cut where they are long."""
    words = [repr(arg) for arg in args] + [f"{name}={value!r}" for name, value in sorted(kwargs.items())]
    return truncate(", ".join(words))


def import_string(dotted_path: str) -> Any:
    """What ``package.module.name`` names.

    Raises:
        ImportError: there is no such module, or nothing of that name in it.
    """
    module_path, dot, name = dotted_path.strip(" ").rpartition(".")
    if not dot:
        raise ImportError(f'"{dotted_path}" doesn\'t look like a module path')
    module = importlib.import_module(module_path)
    try:
        return getattr(module, name)
    except AttributeError as error:
        raise ImportError(f'Module "{module_path}" does not define a "{name}" attribute') from error


def _zone(name: str) -> tzinfo:
    # Where pytz is installed arq gives its zones, and code that looks at their names expects them.
    if importlib.util.find_spec("pytz") is not None:
        found: tzinfo = importlib.import_module("pytz").timezone(name)
        return found
    return zoneinfo.ZoneInfo(name)
