"""What else a process does for its app, beside its jobs: the seam for whatever has a loop of its own."""

from __future__ import annotations

from typing import Protocol


class Companion(Protocol):
    """Runs for as long as a worker, or a web app, does: ``hub.companions`` has what makes one for each process.

    It keeps its own connections and waits out their outages by itself; what it raises is logged, and it begins again.
    """

    @property
    def name(self) -> str:
        """For the log."""
        ...

    async def run(self) -> None:
        """Go on until cancelled. Comes to an end within a second or two then."""
        ...

    async def catch_up(self) -> None:
        """Do what is to be done now, and return: before a burst begins to look for jobs. Raises nothing."""
        ...
