"""Observers are told what they want to hear, and kept from doing harm. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from arq_web import events
from arq_web.events import emit
from arq_web.middleware import Observer


@dataclass(slots=True, eq=False)
class Ear:
    """One method of one observer. What it raises is logged once, and goes no further."""

    hear: Callable[..., object]
    name: str
    """For messages: of the observer's class, and of the method."""
    has_failed: bool = False

    def tell(self, *facts: object, **words: object) -> None:
        """Call it."""
        try:
            self.hear(*facts, **words)
        except Exception as error:  # noqa: BLE001 - who counts must not cost a job, or a request
            self.failed(error)

    def failed(self, error: Exception) -> None:
        """Log what it raised, the first time."""
        if not self.has_failed:
            self.has_failed = True
            emit(events.HELPER_FAILED, helper=f"observer {self.name}", error=repr(error))


def ears(observers: Iterable[Observer], method: str) -> list[Ear]:
    """Of those that have a ``method`` of their own: in their class, or set on the object."""
    found = [(type(each).__qualname__, getattr(each, method, None)) for each in observers]
    return [
        Ear(own, f"{name}.{method}")
        for name, own in found
        if callable(own) and getattr(own, "__func__", own) is not getattr(Observer, method)
    ]
