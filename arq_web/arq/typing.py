"""The types that arq's users name in annotations."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from arq_web.arq._functions import Function
    from arq_web.arq.cron import CronJob

__all__ = (
    "WEEKDAYS",
    "OptionType",
    "SecondsTimedelta",
    "StartupShutdown",
    "WeekdayOptionType",
    "WorkerCoroutine",
    "WorkerSettingsType",
)

OptionType = Collection[int] | int | None
WEEKDAYS = ("mon", "tues", "wed", "thurs", "fri", "sat", "sun")
WeekdayOptionType = OptionType | Literal["mon", "tues", "wed", "thurs", "fri", "sat", "sun"]
SecondsTimedelta = int | float | timedelta


class WorkerCoroutine(Protocol):
    """A job function."""

    __qualname__: str

    async def __call__(self, ctx: dict[Any, Any], *args: Any, **kwargs: Any) -> Any:
        """Run the job."""


class StartupShutdown(Protocol):
    """A hook."""

    __qualname__: str

    async def __call__(self, ctx: dict[Any, Any]) -> Any:
        """Run the hook."""


class WorkerSettingsBase(Protocol):
    """What a settings class has at least; every parameter of ``Worker`` may be among its attributes."""

    functions: Sequence[WorkerCoroutine | Function]
    cron_jobs: Sequence[CronJob] | None = None
    on_startup: StartupShutdown | None = None
    on_shutdown: StartupShutdown | None = None


WorkerSettingsType = dict[str, Any] | type[WorkerSettingsBase] | object
"""A class, an object or a dict whose attributes (or items) are parameters of ``Worker``."""
