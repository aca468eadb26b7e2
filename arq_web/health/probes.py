"""What follows from the facts: is it alive, ready, started? Pure. Each answer is why not: code → sentence, or nothing.

Alive is what only a restart would mend. So Redis is no part of it (a restart of all workers mends no Redis), and a loop
that is blocked only when it has been that for long: its jobs keep their leases meanwhile, and the end of the process
would cost each of them a crash. Ready is everything else that somebody who deploys wants to see, and kills nothing.
"""

from __future__ import annotations

from arq_web.health.facts import Facts

MAX_LAG_S = 30.0
"""Of a loop whose worker is alive: one job that blocks it for a while is no reason to end all others."""
READY_LAG_S = 5.0
"""Of a loop whose worker is ready: nothing that waits on it is served in time."""
SILENT_LEASES = 2.0
"""Renewals that are silent for so many leases: others have its jobs already."""

Reasons = dict[str, str]


def why_not_live(facts: Facts | None, max_lag_s: float = MAX_LAG_S) -> Reasons:
    """Why a restart would help. A worker that only starts is alive; a process without one, too.

    Args:
        facts: of the worker; None where there is none.
        max_lag_s: how late its loop may be.
    """
    reasons: Reasons = {}
    if facts is None or not facts.is_working:
        return reasons
    if facts.loop_lag_s is not None and facts.loop_lag_s > max_lag_s:
        reasons["loop"] = f"the event loop has been blocked for {facts.loop_lag_s:.1f} s; the limit is {max_lag_s:g} s"
    if facts.renewed_ago_s is not None and facts.renewed_ago_s > SILENT_LEASES * facts.lease_s:
        reasons["renewals"] = "the thread that renews leases is silent: other workers take these jobs"
    return reasons


def why_not_started(facts: Facts | None) -> Reasons:
    """Why it is not up yet: the app is imported, its lifespan starts.

    Args:
        facts: of the worker; None where there is none.
    """
    if facts is None or facts.is_working:
        return {}
    return {"starting": "the app is not up yet"}


def why_not_ready(facts: Facts | None, redis: str = "", max_lag_s: float = MAX_LAG_S) -> Reasons:
    """Why it takes no jobs just now.

    Args:
        facts: of the worker; None where there is none.
        redis: what is wrong with Redis, as a sentence.
        max_lag_s: as for ``why_not_live``: what is not alive is not ready.
    """
    reasons = why_not_started(facts)
    if facts is not None and facts.is_working:
        reasons |= why_not_live(facts, min(max_lag_s, READY_LAG_S))
        if not facts.tasks:
            reasons["tasks"] = "it knows no task: was the module that defines them imported?"
    if facts is not None and facts.is_draining:
        reasons["draining"] = "it was told to stop, and takes no new jobs"
    if redis:
        reasons["redis"] = redis
    return reasons
