"""What the library logs, as events: whatever handlers an app installs meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False)
class EventLog(logging.Handler):
    """The events that were logged, in order: name, level and fields."""

    lines: list[tuple[str, int, dict[str, Any]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def emit(self, record: logging.LogRecord) -> None:
        facts = vars(record)
        self.lines.append((facts["event"], record.levelno, facts["fields"]))

    def of(self, name: str) -> list[dict[str, Any]]:
        """The fields of the events of that name."""
        return [fields for each, _, fields in self.lines if each == name]


@contextmanager
def listening(area: str, level: int = logging.DEBUG) -> Iterator[EventLog]:
    """Listen to the logger ``arq_web.<area>``."""
    log, logger = EventLog(), logging.getLogger(f"arq_web.{area}")
    before, disabled = logger.level, logger.disabled
    logger.addHandler(log)
    logger.setLevel(level)
    logger.disabled = False
    try:
        yield log
    finally:
        logger.removeHandler(log)
        logger.setLevel(before)
        logger.disabled = disabled
