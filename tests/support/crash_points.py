"""Kills a process at one of its commands, lets another one come, and judges what became of the job.

Each kill is a life of its own: own namespace, own process (forked), own gate in front of Redis. Several are lived at
the same time, since most of a life is waiting (``points`` says which).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import redis

from arq_web import Hub, Job, JobInfo, JobState, Schedule
from arq_web.store.replies import NoScript
from tests.chaos.lives import Stage, WorkerLife, all_ended, make_hub
from tests.chaos.web_lives import WebLife
from tests.support.audit import disagreements, jobs_of
from tests.support.command_gate import Aim, Command, CommandGate, Phase
from tests.support.forked import Forked, Forker
from tests.support.journal import Entry, read_journal
from tests.support.leaks import delete_keys, leaked_keys
from tests.support.points import Point
from tests.support.store_helpers import (
    OTHER_WORKER,
    claim,
    command,
    counted,
    expire_lease,
    reclaim,
    settlement,
    snapshot,
)
from tests.support.working import working

LIFE_LIMIT_S = 30.0
RECOVERY_LIMIT_S = 30.0
USER_LIMIT_S = 5.0
POLL_S = 0.02
NOT_REPLAYED = frozenset({"BLPOP", "SUBSCRIBE", "PING", "TIME"})
"""What blocks or changes nothing anyway."""

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Killer:
    """Lives a life up to one command, and judges what comes of it."""

    forker: Forker
    port: int
    """Of Redis, on this machine."""
    namespace: str
    folder: Path
    forget_scripts: bool = False
    """Redis knows no script when the process starts: each is sent twice, as a digest and as text."""

    @property
    def url(self) -> str:
        """Redis, past every gate."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def end_worker(self, life: WorkerLife, aim: Aim, phase: Phase) -> Point:
        """Kill the worker of ``life``, let another one come, and look at what there is in the end."""
        async with self._scene(aim, phase, life.schedules) as scene:
            stage = scene.stage
            await life.prepare(stage)
            async with scene.meanwhile(life.meanwhile(stage)):
                await scene.play("tests.chaos.lives:work", life.name, life.is_over)
                await scene.look()
                if life.superseded:
                    await scene.supersede()
                await scene.recover(life.is_over if life.schedules else all_ended)
            await scene.check_ends(life.state, life.failures)
            await scene.check_costs()
            await scene.replay(scene.gate.commands)
            await life.afterwards(stage)
            await scene.recover(all_ended)
            return await scene.judge()

    async def end_web(self, life: WebLife, aim: Aim, phase: Phase) -> Point:
        """Kill the web process of ``life``, let its client ask again, and look at what there is in the end."""
        async with self._scene(aim, phase) as scene, AsyncExitStack() as attended:
            stage = scene.stage
            if life.is_attended:
                await attended.enter_async_context(working(stage.hub))
            await life.prepare(stage)
            stage.results.update(life.results)
            await scene.play("tests.chaos.web_lives:ask", life.name)
            executed_count = scene.gate.executed(life.verb)
            stage.require(await life.is_done(stage) == (executed_count > 0), f"{life.verb} ran {executed_count} times")
            await scene.look()
            if life.asked_again == "never":
                stage.results.update({job.id: 3 for job in scene.jobs_at_kill})
                stage.require(len(stage.results) == executed_count, f"{executed_count} enqueued: {stage.results}")
            elif life.asked_again == "at once" or not executed_count:
                await life.ask(stage.queue)
            await scene.recover(all_ended)
            if life.asked_again == "late":
                await life.ask(stage.queue)
            await scene.check_ends(life.state, 0)
            await scene.replay([each for each in scene.gate.commands if each.is_executed])
            await attended.aclose()
            return await scene.judge()

    @asynccontextmanager
    async def _scene(self, aim: Aim, phase: Phase, schedules: tuple[Schedule, ...] = ()) -> AsyncGenerator[Scene]:
        namespace = f"{self.namespace}.{next(_numbers)}"
        hub, heirs = make_hub(self.url, namespace), make_hub(self.url, namespace, *schedules)
        gate = CommandGate(self.port, aim, phase, asyncio.get_running_loop().create_future())
        scene = Scene(self, Stage(hub), gate, heirs)
        try:
            yield scene
        finally:
            await hub.aclose()
            await heirs.aclose()
            scene.clean_up()


@dataclass(slots=True, eq=False)
class Scene:
    """One life that is ended at one command."""

    killer: Killer
    stage: Stage
    gate: CommandGate
    heirs: Hub
    jobs_at_kill: list[JobInfo] = field(default_factory=list)
    starts_at_kill: Counter[str] = field(default_factory=Counter)
    ends: list[JobInfo] = field(default_factory=list)

    @property
    def namespace(self) -> str:
        """Of this life alone."""
        return self.stage.hub.config.namespace

    @asynccontextmanager
    async def meanwhile(self, doing: Coroutine[Any, Any, None]) -> AsyncGenerator[None]:
        """A user does something beside; it must come to its end soon after what happens here."""
        user = asyncio.create_task(doing)
        try:
            yield
            await asyncio.wait((user,), timeout=USER_LIMIT_S)
            self.stage.require(user.done(), f"the user still waits {USER_LIMIT_S:g} s after the end")
            if user.done():
                user.result()
        finally:
            user.cancel()

    async def play(self, entry: str, life: str, is_over: Fact | None = None) -> None:
        """Run the process to its end: the kill, or (a worker: once ``is_over``) its own."""
        if self.killer.forget_scripts:
            await command(self.stage.store, "SCRIPT", "FLUSH")
        async with self.gate.opened():
            request = {"life": life, "url": self.gate.url, "namespace": self.namespace}
            victim = await self.killer.forker.fork(entry, log=str(self.killer.folder / "log"), **request)
            self.gate.victim.set_result(victim)
            stopping = asyncio.create_task(self._stop(victim, is_over)) if is_over else None
            await asyncio.wait((victim.ended,), timeout=LIFE_LIMIT_S)
            if stopping is not None:
                stopping.cancel()
            if not victim.ended.done():
                self.stage.faults.append(f"the process did not end within {LIFE_LIMIT_S:g} s")
                victim.send(signal.SIGKILL)
            status = await victim.ended
        if self.gate.struck is None:
            self.stage.require(status == 0, f"the process ended by itself with status {status}")

    async def look(self) -> None:
        """Note how things are without the process."""
        self.jobs_at_kill, self.starts_at_kill = await jobs_of(self.stage.store), self._starts()
        for each in self.heirs.schedules if not self.jobs_at_kill else ():
            stored = await command(self.stage.store, "GET", self.stage.store.base + f"s:{each.name}".encode())
            self.stage.first_tick_ms = int(stored.split(b" ")[0]) if isinstance(stored, bytes) else None

    async def supersede(self) -> None:
        """P2: while another attempt runs, what the dead worker said, or was about to say, changes nothing of it."""
        store = self.stage.store
        ids = [job.id for job in self.jobs_at_kill if job.state is JobState.RUNNING]
        await expire_lease(store, *ids)
        await reclaim(store)
        taken = (await claim(store, worker=OTHER_WORKER)).jobs
        await self.replay(self.gate.commands)
        if taken:
            await store.settle(OTHER_WORKER, [settlement(job, "release") for job in taken])

    async def recover(self, is_over: Fact) -> None:
        """Let another worker come, for as long as there is anything to do."""
        if await is_over(self.stage):
            return
        async with working(self.heirs):
            over = await _within(RECOVERY_LIMIT_S, is_over, self.stage)
        if over and self.heirs.schedules:  # a tick may have come in the last moment
            async with working(self.stage.hub):
                over = await _within(RECOVERY_LIMIT_S, all_ended, self.stage)
        self.stage.require(over, f"not over {RECOVERY_LIMIT_S:g} s after another worker came")

    async def check_ends(self, state: JobState, failures: int) -> None:
        """P1: every job there and at its end, with its result."""
        self.ends = await jobs_of(self.stage.store)
        found = {job.id: job for job in self.ends}
        for job_id in self.stage.results.keys() - found.keys():
            self.stage.faults.append(f"P1: {job_id} is gone")
        for job in self.ends:
            how, wanted = (job.state, job.failures), (state, failures)
            if self._has_spent_its_last_crash(job.id):
                wanted = (JobState.DEAD, 0)
            self.stage.require(how == wanted, f"P1: {job.id} is {how[0]} after {how[1]} failures")
            if job.state is JobState.SUCCEEDED and job.id in self.stage.results:
                handle: Job[object] = self.stage.queue.job(job.id)
                result = handle.outcome(job)
                self.stage.require(result == self.stage.results[job.id], f"P1: {job.id} returned {result!r}")

    async def check_costs(self) -> None:
        """P2, P4: who had ended does not begin again, and a kill costs those that ran one crash, the others nothing."""
        starts, before = self._starts(), {job.id: job for job in self.jobs_at_kill}
        price = 0 if self.gate.executed("abandon") else 1  # it was said beforehand that this attempt cannot be ended
        for job in self.ends:
            was = before.get(job.id)
            is_spared = was is not None and _is_suspect(was) and not self._has_spent_its_last_crash(job.id)
            crashes = was.crashes + price * (was.state is JobState.RUNNING and not is_spared) if was else 0
            self.stage.require(job.crashes == crashes, f"P4: {job.id} has {job.crashes} crashes, and should {crashes}")
            if was and was.is_finished:
                again = starts[job.id] - self.starts_at_kill[job.id]
                self.stage.require(not again, f"P2: {job.id} was started again after its end")

    def _has_spent_its_last_crash(self, job_id: str) -> bool:
        """A suspect that its worker ran itself, as it had said."""
        found = [job for job in self.jobs_at_kill if job.id == job_id]
        is_there = bool(found) and found[0].state is JobState.RUNNING and _is_suspect(found[0])
        return is_there and self.gate.executed("blame") > 0

    async def replay(self, commands: Sequence[Command]) -> None:
        """P2: whatever the dead process sent comes once more, and late: it changes nothing."""
        before = await self._contents()
        for each in commands:
            if each.name in NOT_REPLAYED:
                continue
            with contextlib.suppress(NoScript):  # then it changes nothing indeed
                await command(self.stage.store, *each.words)
            after = await self._contents()
            changed = sorted(key.decode() for key in before.keys() | after if before.get(key) != after.get(key))
            self.stage.require(not changed, f"P2: a late {each.name} {each.nth} changed {changed}")
            before = after

    async def judge(self) -> Point:
        """P5, P6, and the sum of it all."""
        stage, struck = self.stage, self.gate.struck
        self.ends = await jobs_of(stage.store)
        stage.faults += [f"P5: {fault}" for fault in await disagreements(stage.store, stage.past)]
        with closing(redis.Redis.from_url(self.killer.url)) as client:
            stage.faults += [f"P6: {leak}" for leak in leaked_keys(client, self.namespace)]
        succeeded = sum(job.state is JobState.SUCCEEDED for job in [*self.ends, *stage.past])
        totals, starts = await counted(stage.store), self._starts()
        meant = sum(totals.get(word, 0) for word in ("retry", "snooze", "release"))
        unfinished = sum(not job.is_finished for job in self.ends)
        return Point(
            name=struck.name if struck else "",
            nth=struck.nth if struck else 0,
            phase=self.gate.phase,
            commands=tuple(each.key for each in self.gate.commands),
            faults=tuple(stage.faults),
            lost_count=unfinished + len(stage.results.keys() - {job.id for job in self.ends}),
            started_twice_count=max(0, starts.total() - len(starts) - meant),
            accepted_twice_count=max(0, totals.get("complete", 0) - succeeded),
            recovery_s=self._recovery_s() if struck else None,
        )

    def clean_up(self) -> None:
        """Leave no key of this life."""
        with closing(redis.Redis.from_url(self.killer.url)) as client:
            delete_keys(client, self.namespace)

    async def _stop(self, victim: Forked, is_over: Fact) -> None:
        await _within(LIFE_LIMIT_S, is_over, self.stage)
        victim.send(signal.SIGTERM)

    async def _contents(self) -> dict[bytes, object]:
        """All that must not change; a worker's last claim is noted for a minute, whatever it took."""
        last_claims = self.stage.store.base + b"k:"
        found = await snapshot(self.stage.store)
        return {key: value for key, value in found.items() if not key.startswith(last_claims)}

    def _starts(self) -> Counter[str]:
        return Counter(entry.job_id for entry in self._entries())

    def _entries(self) -> list[Entry]:
        """What the tasks of this life noted; they name their queue, which is this life's own."""
        prefix = f"{self.stage.queue.name}/"
        entries = read_journal(self.killer.folder / "journal")
        return [replace(e, job_id=e.job_id.removeprefix(prefix)) for e in entries if e.job_id.startswith(prefix)]

    def _recovery_s(self) -> float | None:
        """From the kill until the last one of those that ran had been claimed again."""
        ran = {job.id: job.attempt for job in self.jobs_at_kill if job.state is JobState.RUNNING}
        again = [job.started_at_ms or 0 for job in self.ends if job.attempt > ran.get(job.id, job.attempt)]
        return (max(again) - self.gate.struck_at_ms) / 1000 if again else None


Fact = Callable[[Stage], Awaitable[bool]]


async def _within(limit_s: float, fact: Fact, stage: Stage) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            while not await fact(stage):  # noqa: ASYNC110 - it is a fact of Redis
                await asyncio.sleep(POLL_S)
            return True
    return False


def _is_suspect(job: JobInfo) -> bool:
    return 0 < job.crashes == job.max_crashes - 1
