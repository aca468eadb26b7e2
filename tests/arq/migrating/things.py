"""What jobs carry: classes that the old side and the new one both can import."""

from dataclasses import dataclass
from enum import Enum


class Colour(Enum):
    """An enum travels by name."""

    RED = 1


@dataclass
class Order:
    """A dataclass travels by its attributes."""

    id: int
    lines: list[str]
