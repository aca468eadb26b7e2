"""Who ran which job, how often and when: files in memory, not a key in Redis.

Every worker process writes a file of its own, so that nothing is shared and nothing is sent; the driver adds the files
up. Imported in every system's environment: standard library only.
"""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Iterator
from pathlib import Path

_WORD_BYTES = 8
_COUNT_BYTES = 4
_SUFFIX = ".ledger"


class Ledger:
    """What one process ran: for each of ``n`` jobs how often, and when it began and ended last.

    Times are ``time.monotonic_ns()``, which all processes of a host share. A child that is forked opens its own file.
    """

    def __init__(self, folder: str | os.PathLike[str], n: int) -> None:
        """Open this process's file in ``folder`` (which exists) for the jobs 0 to ``n - 1``."""
        self._folder, self._n = Path(folder), n
        self._open()
        os.register_at_fork(after_in_child=self._open)

    def ran(self, index: int) -> None:
        """Note that job ``index`` begins now. Takes well below a microsecond."""
        # No lock: the interpreter switches threads at calls and loops, and there is none between reading and writing.
        self._counts[index] += 1
        self._total[0] += 1
        self._starts[index] = time.monotonic_ns()

    def ended(self, index: int) -> None:
        """Note that job ``index`` ends now; only jobs that take time need to say so."""
        self._ends[index] = time.monotonic_ns()

    def _open(self) -> None:
        path = self._folder / f"{os.getpid()}{_SUFFIX}"
        self._total, self._counts, self._starts, self._ends = _views(path, self._n, create=True)


class Moments:
    """One process's notes of when something happened to each of ``n`` things: ``moments[index] = monotonic_ns``."""

    def __init__(self, path: str | os.PathLike[str], n: int) -> None:
        """Open the file, made if it is not there."""
        size = max(1, n) * _WORD_BYTES
        with Path(path).open("a+b") as file:
            file.truncate(size)
            self.ns = memoryview(mmap.mmap(file.fileno(), size)).cast("q")

    def now(self, index: int) -> None:
        """Note the present moment for ``index``."""
        self.ns[index] = time.monotonic_ns()


class LedgerReader:
    """All ledgers of a folder together, for the driver: live, while the workers still write."""

    def __init__(self, folder: str | os.PathLike[str], n: int) -> None:
        """Open nothing yet: processes come and go."""
        self._folder, self._n = Path(folder), n
        self._files: dict[str, tuple[memoryview, ...]] = {}

    def total(self) -> int:
        """How many runs all processes have noted."""
        return sum(int(total[0]) for total, _, _, _ in self._views())

    def has_run(self, index: int) -> bool:
        """Whether any process has begun that job."""
        return any(counts[index] for _, counts, _, _ in self._views())

    def counts(self) -> list[int]:
        """How often each job ran."""
        sums = [0] * self._n
        for _, counts, _, _ in self._views():
            sums = [had + more for had, more in zip(sums, counts, strict=True)]
        return sums

    def not_once(self, count: int) -> dict[int, int]:
        """Of the first ``count`` jobs those that did not run exactly once, of the others those that ran; how often."""
        return {index: runs for index, runs in enumerate(self.counts()) if runs != (index < count)}

    def starts(self) -> list[int]:
        """When each job began, ``time.monotonic_ns()``; 0 for one that never did."""
        return self._latest(2)

    def ends(self) -> list[int]:
        """When each job ended; 0 for one that never said so."""
        return self._latest(3)

    def first_starts(self) -> list[int]:
        """When each process that ran anything began its first job, in the order of these moments."""
        return sorted(min(filter(None, starts)) for total, _, starts, _ in self._views() if total[0])

    def _latest(self, column: int) -> list[int]:
        latest = [0] * self._n
        for views in self._views():
            latest = [max(pair) for pair in zip(latest, views[column], strict=True)]
        return latest

    def _views(self) -> Iterator[tuple[memoryview, ...]]:
        for entry in os.scandir(self._folder):
            is_new = entry.name.endswith(_SUFFIX) and entry.name not in self._files
            # A file that was just made may not have its length yet; the next look finds it.
            if is_new and entry.stat().st_size == _size(self._n):
                self._files[entry.name] = _views(Path(entry.path), self._n, create=False)
        return iter(self._files.values())


def _size(n: int) -> int:
    # One job more than there are keeps every array from being empty; the arrays of words come first, aligned.
    return _WORD_BYTES * (1 + 2 * (n + 1)) + _COUNT_BYTES * (n + 1)


def _views(path: Path, n: int, *, create: bool) -> tuple[memoryview, memoryview, memoryview, memoryview]:
    """The total, the counts, the starts and the ends, as arrays in shared memory."""
    with path.open("a+b" if create else "r+b") as file:
        if create:
            file.truncate(_size(n))
        raw = memoryview(mmap.mmap(file.fileno(), _size(n)))
    words = raw[: _WORD_BYTES * (1 + 2 * (n + 1))].cast("q")
    counts = raw[_WORD_BYTES * (1 + 2 * (n + 1)) :].cast("I")
    return words[:1], counts[:n], words[1 : 1 + n], words[2 + n : 2 + 2 * n]
