"""A run as a file: what was measured, on what, of whom, with which settings."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.environment import System
from benchmarks.running import Record


@dataclass(frozen=True, slots=True)
class SystemFacts:
    """What the report says of a system."""

    name: str
    versions: str
    delivery: str
    settings: str
    is_ours: bool

    @classmethod
    def of(cls, system: System) -> SystemFacts:
        """The facts of a system that was run."""
        return cls(system.name, system.versions, system.delivery, system.settings, system.is_ours)


@dataclass(slots=True)
class Results:
    """All of a run."""

    machine: dict[str, str]
    systems: list[SystemFacts]
    rounds: int
    quick: bool
    took_s: float = 0.0
    records: list[Record] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Write it as JSON; a file that was there is replaced."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read what ``save`` wrote."""
        found = json.loads(path.read_text(encoding="utf-8"))
        systems = [SystemFacts(**each) for each in found.pop("systems")]
        records = [Record(**each) for each in found.pop("records")]
        return cls(systems=systems, records=records, **found)
