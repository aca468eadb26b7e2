"""What a cell works in: a Redis of its own, workers and producers of one system, and the ledger that checks them."""

from __future__ import annotations

import json
import os
import select
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.environment import System, child_environment
from benchmarks.ledger import LedgerReader, Moments
from benchmarks.processes import CellFailed, Child, lines_of, wait_until
from benchmarks.proxy import latency_proxy
from benchmarks.servers import Meter, redis_server
from benchmarks.systems.base import Unsupported, WorkerSpec

SETTLE_S = 0.2
AT_LEAST_ONCE = "at least once"
Figures = dict[str, float]
PATIENCE_S = 120.0
"""For any one thing that a cell waits for."""
WARM_UP = 200
"""Jobs that run before latencies are measured: modules are imported, scripts loaded, connections open."""


class Workers:
    """The running worker processes of a system."""

    def __init__(self, children: list[Child]) -> None:
        self.children = children

    def cpu_s(self) -> float:
        """CPU seconds of all of them until now."""
        return sum(child.cpu_s() for child in self.children)

    def rss_bytes(self) -> int:
        """Resident memory of all of them now."""
        return sum(child.rss_bytes() for child in self.children)

    def stop(self) -> None:
        """Let them end as their system ends them."""
        for child in self.children:
            child.stop()


class ProducerProcess:
    """A running ``benchmarks.producer``."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self._stdin, self._stdout = lines_of(child)

    def do(self, what: str, **parameters: Any) -> dict[str, Any]:
        """Run a command (see ``producer.Commands``) and return its answer.

        Raises:
            Unsupported: the system cannot do that.
            CellFailed: the producer ended, or gave no answer in time.
        """
        self.begin(what, **parameters)
        return self.finish()

    def begin(self, what: str, **parameters: Any) -> None:
        """Start a command; ``finish`` waits for its answer."""
        self._stdin.write(json.dumps({"do": what, **parameters}) + "\n")

    def finish(self) -> dict[str, Any]:
        """The answer to the command that was started."""
        if not select.select([self._stdout], [], [], PATIENCE_S)[0]:
            raise CellFailed(f"The producer did not answer within {PATIENCE_S:g} s.\n{self.child.tail()}")
        line = self._stdout.readline()
        if not line:
            self.child.popen.wait()
            self.child.check()
        answer: dict[str, Any] = json.loads(line)
        if "unsupported" in answer:
            raise Unsupported(answer["unsupported"])
        ok: dict[str, Any] = answer["ok"]
        return ok


@dataclass(slots=True)
class Arena:
    """One run of one cell for one system."""

    system: System
    spec: WorkerSpec
    meter: Meter
    port: int
    """Where its Redis listens, without the proxy if there is one."""
    folder: Path
    ledger: LedgerReader
    _open: ExitStack

    def producer(self) -> ProducerProcess:
        """Start a producer and wait until it is connected."""
        python, module = str(self.system.python), self.system.module
        argv = [python, "-m", "benchmarks.producer", module]
        log, env = self.folder / "producer.log", child_environment(self.spec)
        child = Child.start(f"{self.system.name}'s producer", argv, env=env, log=log, piped=True)
        self._open.callback(child.stop)
        producer = ProducerProcess(child)
        producer.finish()  # it says when it is ready
        return producer

    def workers(self, *, wait: bool = True) -> Workers:
        """Start ``spec.processes`` worker processes.

        Args:
            wait: until the first job has run; there must be one.
        """
        commands = 1 if self.system.spawns_processes else self.spec.processes
        argv = [str(self.system.python), "-m", "benchmarks.launch", "worker", self.system.module]
        children = []
        for number in range(commands):
            log = self.folder / f"worker-{number}.log"
            child = Child.start(f"{self.system.name}'s worker", argv, env=child_environment(self.spec), log=log)
            self._open.callback(child.stop)
            children.append(child)
        workers = Workers(children)
        if wait:
            self.wait_for_runs(1, workers, every_s=0.001)
        return workers

    def warm_workers(self, producer: ProducerProcess) -> Workers:
        """Start workers on an empty queue and have them run the first ``WARM_UP`` jobs."""
        workers = self.workers(wait=False)
        # One job alone says that the workers are up; what they do at their start is over before there is a crowd.
        producer.do("enqueue", how="one", task="noop", first=0, count=1)
        self.wait_for_runs(1, workers)
        producer.do("enqueue", how="callers", task="noop", first=1, count=WARM_UP - 1)
        self.wait_for_runs(WARM_UP, workers)
        return workers

    def wait_for_runs(self, count: int, workers: Workers, *, every_s: float = 0.01) -> None:
        """Wait until the workers have begun that many jobs altogether."""
        self.wait_until(lambda: self.ledger.total() >= count, f"{count} jobs", workers, every_s=every_s)

    def wait_until(self, holds: Callable[[], bool], what: str, workers: Workers, *, every_s: float = 0.01) -> None:
        """Wait for something that the workers do."""
        wait_until(holds, what, within_s=PATIENCE_S, children=workers.children, every_s=every_s)

    def settle(self) -> None:
        """Let the jobs that have begun end and be acknowledged: there is nothing to see it by for all systems alike.

        A worker that is stopped before would leave them to be run again.
        """
        time.sleep(SETTLE_S)

    def sent(self) -> Moments:
        """When the producer sent each job, for the commands that note it."""
        return Moments(self.folder / "sent", self.spec.n)

    def check_once(self, workers: Workers, *, count: int | None = None) -> Figures:
        """Stop the workers; then each of the first ``count`` jobs (default all) must have run, and exactly once.

        A peer that promises to run jobs at least once may run some twice: that is the figure ``doubled``. Others may
        not, and we may not.

        Raises:
            CellFailed: a job was lost, or ran twice, or ran though it was not enqueued.
        """
        self.settle()
        workers.stop()
        expected = self.spec.n if count is None else count
        wrong = self.ledger.not_once(expected)
        doubled = {index for index, runs in wrong.items() if index < expected and runs > 1}
        if len(doubled) < len(wrong) or (doubled and (self.system.is_ours or self.system.delivery != AT_LEAST_ONCE)):
            some = ", ".join(f"job {index}: {runs} times" for index, runs in list(wrong.items())[:5])
            raise CellFailed(f"{len(wrong)} of {expected} jobs did not run exactly once ({some}).")
        return {"doubled": len(doubled)}


@contextmanager
def arena(system: System, *, n: int, aof: bool = False, latency_ms: float = 0.0, **spec: Any) -> Iterator[Arena]:
    """A fresh Redis and an empty ledger for ``n`` jobs; in the end all that was started is gone.

    Args:
        system: whose cell it is.
        n: jobs that will be enqueued.
        aof: Redis writes its log, synced each second.
        latency_ms: a proxy in front of Redis adds so much to each round trip.
        spec: more of ``WorkerSpec``: concurrency, processes, results.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="arq-web-bench-", dir=_memory())))
        server = stack.enter_context(redis_server(aof=aof))
        url = server.url
        if latency_ms:
            url = stack.enter_context(latency_proxy(server.port, latency_ms, log=folder / "proxy.log"))
        wanted = WorkerSpec(redis_url=url, ledger_folder=str(folder), n=n, variant=system.variant)
        wanted = replace(wanted, **spec)
        if not wanted.results and not system.results_optional:
            raise Unsupported("results cannot be turned off")
        meter = stack.enter_context(closing(Meter(server.url)))
        yield Arena(system, wanted, meter, server.port, folder, LedgerReader(folder, n), stack)


def _memory() -> str | None:
    """A folder in memory, where there is one: a ledger on a disk would be written back while we measure."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
