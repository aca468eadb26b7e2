"""What is true of the worker of this process, from before there is one to after its end."""

from __future__ import annotations

from dataclasses import dataclass

from arq_web.worker.loop_watch import LoopWatch
from arq_web.worker.vitals import Vitals


@dataclass(frozen=True, slots=True)
class Facts:
    """One worker at one moment. What is not known, or not watched, is None."""

    is_working: bool = False
    """It has come up; stays true while it drains."""
    is_draining: bool = False
    loop_lag_s: float | None = None
    """By how much its event loop is late."""
    renewed_ago_s: float | None = None
    """Since the thread of its renewals showed that it lives; infinite for one that has died."""
    lease_s: float = 0.0
    """For how long others leave its jobs alone when it is silent."""
    running: int = 0
    slots: int = 0
    tasks: int = 0

    @classmethod
    def of(cls, vitals: Vitals, loop_lag_s: float | None = None) -> Facts:
        """The facts now.

        Args:
            vitals: the worker's.
            loop_lag_s: of its loop, if somebody watches that.
        """
        return cls(
            is_working=vitals.is_working,
            is_draining=vitals.is_draining,
            loop_lag_s=loop_lag_s,
            renewed_ago_s=vitals.renewed_ago_s,
            lease_s=vitals.lease_s,
            running=vitals.running_count,
            slots=vitals.slots,
            tasks=vitals.task_count,
        )


class WorkerHealth:
    """Follows one worker. Made before it; asked from any thread."""

    def __init__(self) -> None:
        """Know of no worker yet."""
        self.vitals: Vitals | None = None
        self._watch: LoopWatch | None = None

    def attach(self, vitals: Vitals) -> None:
        """Take note of the worker, and watch its loop; call on that.

        Args:
            vitals: the worker's.
        """
        self._watch, self.vitals = LoopWatch(), vitals

    def facts(self) -> Facts:
        """What is true now."""
        watch = self._watch
        return Facts() if self.vitals is None else Facts.of(self.vitals, None if watch is None else watch.lag_s)
