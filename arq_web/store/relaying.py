"""The verbs of an outbox's relay: a row of somebody's database becomes a job once, however often it is relayed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from arq_web.store import scripts
from arq_web.store.messages import NewJob, in_parts
from arq_web.store.scripts import Argument
from arq_web.store.store import Store

RECEIPT_MS = 30 * 86_400_000
"""How long Redis knows that a row was relayed. A relay that comes later must not guess."""
FORGET_MS = 60_000
"""How long a receipt outlives its row: longer than any claim of a row holds."""


class RelayOutcome(IntEnum):
    """What became of one row."""

    EXISTS = 0
    CREATED = 1
    CONFLICT = 2
    CORRUPT = 3
    LATE = 4


@dataclass(frozen=True, slots=True)
class RelayedRow:
    """One row: its job, and the receipt by which it is known when it comes again."""

    receipt: str
    job: NewJob

    @property
    def payload(self) -> bytes:
        """What makes it large."""
        return self.job.payload


@dataclass(frozen=True, slots=True)
class RelayAnswer:
    """What became of one row. ``word``: the job's id; of a conflict the name of the existing job's task."""

    outcome: RelayOutcome
    word: str


class RelayStore(Store):
    """A queue, as a relay sees it."""

    async def relay(self, rows: Sequence[RelayedRow], *, valid_until_ms: int) -> list[RelayAnswer]:
        """Create the jobs of ``rows``; each is answered on its own. Safe to repeat, at any time, by anybody.

        Args:
            rows: in the order in which their jobs are to be queued.
            valid_until_ms: server time; a request that arrives later is answered LATE, and writes nothing. Until then
                nobody but the caller may relay these rows.

        Raises:
            StoreError: as every verb. What was sent may have been done: send it again.
        """
        answers: list[RelayAnswer] = []
        for part in in_parts(rows):
            answers += await self._relay_part(part, valid_until_ms)
        return answers

    async def forget(self, receipts: Sequence[str]) -> None:
        """The rows of these receipts are deleted: the receipts go after a while."""
        if receipts:
            await self._run(scripts.FORGET, scripts.FORGET.arguments(receipts, keep_ms=FORGET_MS))

    async def _relay_part(self, rows: Sequence[RelayedRow], valid_until_ms: int) -> list[RelayAnswer]:
        rest: list[Argument] = []
        for row in rows:
            rest += (row.receipt, *row.job.arguments())
        arguments = scripts.RELAY.arguments(rest, valid_until_ms=valid_until_ms, receipt_ms=RECEIPT_MS)
        reply = await self._run_list(scripts.RELAY, arguments)
        if len(reply) == 1:
            return [RelayAnswer(RelayOutcome.LATE, row.job.id) for row in rows]
        words = [word.decode(errors="replace") if isinstance(word, bytes) else "" for word in reply[1::2]]
        outcomes = [RelayOutcome(code) for code in reply[::2] if isinstance(code, int)]
        return [RelayAnswer(outcome, word) for outcome, word in zip(outcomes, words, strict=True)]
