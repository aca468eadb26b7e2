"""What it costs to turn a route into a job: the same function with ``@background_job`` and without."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.arena import Arena, ProducerProcess, Workers, arena
from benchmarks.cells.base import Cell, Figures, Size
from benchmarks.environment import System, child_environment
from benchmarks.processes import Child
from benchmarks.web.server import served

FRAMEWORKS = ("fastapi", "litestar")
ROUTES = {"plain": {"fastapi": 200, "litestar": 201}, "job": {"fastapi": 202, "litestar": 202}}
"""And the status of a good answer."""
TURNS = 3
"""Of each route, by turns, so that a change of the machine's mood meets both."""
REQUESTS = 3000
"""Of one turn."""
WARM_UP = 300
CONNECTIONS = 32


def web_route(system: System, size: Size) -> Figures:
    """POST a small order as fast as 32 connections can, by turns to the two routes; a worker then runs the jobs."""
    return {
        f"{framework}_{name}": value
        for framework in FRAMEWORKS
        for name, value in _measured(system, framework, size.count(REQUESTS)).items()
    }


@dataclass(slots=True)
class _Spent:
    """What the requests of one route cost altogether."""

    count: int = 0
    took_s: float = 0.0
    server_s: float = 0.0
    redis_s: float = 0.0
    client_s: float = 0.0

    @property
    def per_s(self) -> float:
        return self.count / self.took_s


def _measured(system: System, framework: str, count: int) -> Figures:
    spent = {route: _Spent() for route in ROUTES}
    requests = (WARM_UP + TURNS * count) * len(ROUTES)
    with arena(system, n=requests) as here:
        with served(here, f"{framework}_app") as (server, client):
            first = 0
            for turn in range(TURNS + 1):
                for route, statuses in ROUTES.items():
                    wanted = count if turn else WARM_UP
                    used = _turn(here, server, client, f"/{route}", (first, wanted, statuses[framework]))
                    first += wanted
                    if turn:
                        _add(spent[route], used)
        # What a plain route did is in the ledger of the web process; the jobs are in Redis until now.
        _drain(here, framework)
    plain, job = spent["plain"], spent["job"]
    return {
        "plain_per_s": plain.per_s,
        "job_per_s": job.per_s,
        "share": job.per_s / plain.per_s,
        "plain_cpu_us": plain.server_s / plain.count * 1e6,
        "job_cpu_us": job.server_s / job.count * 1e6,
        "redis_cpu_us": job.redis_s / job.count * 1e6,
        "client_cpu_us": job.client_s / job.count * 1e6,
    }


def _turn(here: Arena, server: Child, client: ProducerProcess, path: str, requests: tuple[int, int, int]) -> _Spent:
    first, count, status = requests
    cpu_s, before = server.cpu_s(), here.meter.use()
    done = client.do("closed", path=path, first=first, count=count, connections=CONNECTIONS, status=status)
    used = here.meter.use() - before
    return _Spent(count, done["took_s"], server.cpu_s() - cpu_s, used.cpu_s, done["cpu_s"])


def _add(sum_of: _Spent, one: _Spent) -> None:
    sum_of.count += one.count
    sum_of.took_s += one.took_s
    sum_of.server_s += one.server_s
    sum_of.redis_s += one.redis_s
    sum_of.client_s += one.client_s


def _drain(here: Arena, framework: str) -> None:
    """Run the jobs that the requests left, by the app's own ``app-worker``; then each request has run once."""
    argv = [str(here.system.python), "-m", "arq_web", f"benchmarks.web.{framework}_app:app", "--log-level", "warning"]
    worker = Child.start("app-worker", argv, env=child_environment(here.spec), log=here.folder / "app-worker.log")
    workers = Workers([worker])
    try:
        here.wait_for_runs(here.spec.n, workers)
        here.check_once(workers)
    finally:
        worker.stop()


CELLS = (
    Cell(
        "web-route",
        "POST a small body, 32 connections: a route with `@background_job` against the same route without",
        web_route,
        ours_only=True,
    ),
)
