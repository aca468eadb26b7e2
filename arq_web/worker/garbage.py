"""The garbage collector of a process that is a worker: what lives on need not be looked at again and again."""

from __future__ import annotations

import gc

OBJECTS_PER_JOB = 50
"""That the collector follows, of one job that runs: its task and coroutines, its context, its dependencies."""
MOST_YOUNG = 50_000
_DEFAULTS = frozenset({700, 2000})
"""After so many new objects CPython looks for garbage, as it comes: 700 up to 3.12, then 2,000."""


def spare_what_lives(concurrency: int) -> None:
    """Keep the collector from what is no garbage: the loaded app, and the jobs that run.

    The app's objects are set aside (``gc.freeze``): else each full collection walks through all of them. And it waits
    for as many more new objects as ``concurrency`` jobs have: a hundred jobs that begin together have more than its
    700, so it would look at each hundred, find nothing, and take them for old. Both cost a tenth of an empty job's
    time. Whoever has set thresholds of his own keeps them.
    """
    if not gc.isenabled():
        return
    gc.collect()
    gc.freeze()
    young, *older = gc.get_threshold()
    if young in _DEFAULTS:
        gc.set_threshold(min(young + OBJECTS_PER_JOB * concurrency, MOST_YOUNG), *older)
