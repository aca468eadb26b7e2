"""The points at which a process is killed, and what became of its life at each: all of them, one after the other."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field

from tests.support.command_gate import AS_TEXT, Aim, Phase
from tests.support.verdict import Verdict

PHASES: tuple[Phase, ...] = ("before", "after")
ROUNDS = 3
"""A command that timers decide about is not sent in every life: it is aimed at so often."""


@dataclass(frozen=True, slots=True)
class Point:
    """What became of a life that was ended at one command; ``name`` is empty for one that no kill ended."""

    name: str
    nth: int
    phase: Phase
    commands: tuple[tuple[str, int], ...]
    """All that the process sent, as name and number."""
    faults: tuple[str, ...] = ()
    lost_count: int = 0
    started_twice_count: int = 0
    accepted_twice_count: int = 0
    recovery_s: float | None = None

    def __str__(self) -> str:
        return f"{self.phase} {self.name} {self.nth}" if self.name else "not killed"


@dataclass(slots=True, eq=False)
class Enumeration:
    """All points of one life."""

    scenario: str
    points: list[Point] = field(default_factory=list)

    @property
    def kills(self) -> list[Point]:
        """Those at which the process was killed."""
        return [point for point in self.points if point.name]

    @property
    def faults(self) -> list[str]:
        """What was wrong, and at which point."""
        return [f"{point}: {fault}" for point in self.points for fault in point.faults]

    def missing(self, names: Iterable[str]) -> list[str]:
        """Commands of which not both sides were a point."""
        seen = {(point.name.removesuffix(AS_TEXT), point.phase) for point in self.kills}
        return sorted(f"{phase} {n}" for n in names for phase in PHASES if (n, phase) not in seen)

    def verdict(self) -> Verdict:
        """One row of the table; its jobs are the points."""
        recoveries = [point.recovery_s for point in self.kills if point.recovery_s is not None]
        return Verdict(
            scenario=f"killed at each command: {self.scenario}",
            jobs=len(self.kills),
            lost=sum(point.lost_count for point in self.points),
            started_twice=sum(point.started_twice_count for point in self.points),
            accepted_twice=sum(point.accepted_twice_count for point in self.points),
            worst_recovery_s=max(recoveries, default=None),
        )

    def table(self) -> str:
        """Each command, and how often it was a point: "claim: before 3, after 3"."""
        found = Counter((point.name, point.phase) for point in self.kills)
        names = dict.fromkeys(name for name, _ in found)
        lines = [f"  {name}: before {found[name, 'before']}, after {found[name, 'after']}" for name in names]
        different = len({(point.name, point.nth, point.phase) for point in self.kills})
        slowest = max(self.kills, key=lambda point: point.recovery_s or 0.0, default=None)
        if slowest is not None and slowest.recovery_s is not None:
            lines.append(f"  the slowest to come back: {slowest}, {slowest.recovery_s:.2f} s")
        return "\n".join([f"{self.scenario}: killed {len(self.kills)} times, at {different} different points", *lines])


async def visit_all(scenario: str, live: Callable[[Aim, Phase], Awaitable[Point]], *, at_once: int) -> Enumeration:
    """Live with a kill before, and after, the 1st, 2nd, 3rd ... command, each until a life ends without one.

    Several connections and timers take part, so the n-th command is not the same one in all lives: in the end each
    command that was seen at all is aimed at by name, as far as it was not a point yet.
    """
    enumeration = Enumeration(scenario)
    for phase in PHASES:
        await _each(at_once, live, enumeration, _numbered(phase))
    commands = dict.fromkeys(key for point in enumeration.points for key in point.commands)
    for _ in range(ROUNDS):
        visited = {(point.name, point.nth, point.phase) for point in enumeration.kills}
        aims: list[tuple[Aim, Phase]] = [
            (key, phase) for key in commands for phase in PHASES if (*key, phase) not in visited
        ]
        await _each(at_once, live, enumeration, aims, to_the_end=True)
    return enumeration


def _numbered(phase: Phase) -> Iterator[tuple[Aim, Phase]]:
    return ((k, phase) for k in itertools.count(1))


async def _each(
    at_once: int,
    live: Callable[[Aim, Phase], Awaitable[Point]],
    enumeration: Enumeration,
    visits: Iterable[tuple[Aim, Phase]],
    *,
    to_the_end: bool = False,
) -> None:
    """Visit these, several at the same time; stop when a life ends without a kill, unless all are to be visited."""
    is_over, todo = False, iter(visits)

    async def go_on() -> None:
        nonlocal is_over
        for aim, phase in todo:
            point = await live(aim, phase)
            enumeration.points.append(point)
            is_over = is_over or not point.name
            if is_over and not to_the_end:
                return

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(go_on())
