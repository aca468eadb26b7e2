"""What the shop's routes answer: plain data, the same in both frameworks."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True)
class Enqueued:
    """A job was enqueued (or met: an id of one's own exists once)."""

    job: str
    created: bool


@dataclass(frozen=True)
class Ordered:
    """An order was taken, and so was the job of its receipt: one does not exist without the other."""

    order: int
    job: str


@dataclass(frozen=True)
class Uploaded:
    """A picture was stored, and its thumbnails are on their way."""

    image: UUID
    job: str
