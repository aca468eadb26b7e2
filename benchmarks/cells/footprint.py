"""What a system takes of Redis: commands while idle, memory while jobs wait, and what stays when all is done."""

from __future__ import annotations

import time

from benchmarks.arena import WARM_UP, arena
from benchmarks.cells.base import Cell, Figures, Size
from benchmarks.environment import System
from benchmarks.servers import watched_commands

QUIET_S = 3.0
WATCH_S, WATCH_PEER_S = 60.0, 5.0
"""What our own target says; peers send so much that less will do."""


def idle_commands(system: System, size: Size) -> Figures:
    """One idle worker process, one queue, no schedule: commands that it sends per second, those in scripts left out."""
    seconds = size.seconds(WATCH_S if system.is_ours else WATCH_PEER_S)
    with arena(system, n=WARM_UP) as here:
        workers = here.warm_workers(here.producer())
        time.sleep(size.seconds(QUIET_S))
        cpu_s, before = workers.cpu_s(), here.meter.use()
        count = watched_commands(here.port, seconds)
        used, worker_s = here.meter.use() - before, workers.cpu_s() - cpu_s
        checked = here.check_once(workers)
    return {
        "commands_per_s": count / seconds,
        "with_scripts_per_s": used.commands / seconds,
        "worker_cpu_percent": worker_s / seconds * 100,
        "seconds": seconds,
        **checked,
    }


def memory(system: System, size: Size) -> Figures:
    """Redis memory per job: queued, finished with its result, and in keys that nothing will remove."""
    count = size.count(5000)
    with arena(system, n=WARM_UP + count) as here:
        producer, meter = here.producer(), here.meter
        workers = here.warm_workers(producer)
        here.settle()
        workers.stop()
        empty, endless = meter.data_bytes(), meter.endless_bytes()
        producer.do("enqueue", how="callers", task="noop", first=WARM_UP, count=count)
        queued = meter.data_bytes()
        workers = here.workers(wait=False)
        here.wait_for_runs(here.spec.n, workers)
        checked = here.check_once(workers)
        return {
            "queued_bytes": (queued - empty) / count,
            "finished_bytes": (meter.data_bytes() - empty) / count,
            "left_bytes": (meter.endless_bytes() - endless) / count,
            **checked,
        }


CELLS = (
    Cell("idle-commands", "What an idle worker process sends to Redis", idle_commands, once=True),
    Cell("memory", "Redis memory per job with a payload of 100 bytes", memory, once=True),
)
