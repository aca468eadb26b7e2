"""All that ``app-worker doctor`` asks of a Redis, in bounded time, as facts. Judges nothing; changes nothing.

Every question may stay unanswered without spoiling the others: managed servers refuse some, and a Redis that is ill in
one way is the very one to be examined.
"""

from __future__ import annotations

import asyncio
import socket
import statistics
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from arq_web.errors import StoreError
from arq_web.job import JobInfo
from arq_web.store.connection import Connection, Connections, Reply
from arq_web.store.inspection import Inspector, QueueCounts, Reject
from arq_web.store.keys import FORMAT_VERSION, base_key
from arq_web.store.record import UnreadableRecord, read_info
from arq_web.store.server_facts import SentinelAnswer, ServerFacts, Unanswered, ask_sentinels, ask_server
from arq_web.store.store import Store
from arq_web.store.target import Node, RedisTarget, node_text
from arq_web.store.trial import PushTrial, Trial, try_commands, try_push

T = TypeVar("T")
LONGEST_S: Final = 7.0
"""For the whole examination, whatever hangs."""
LOOKUP_S: Final = 2.0
LOOK_COUNT: Final = 20
SAMPLE_COUNT: Final = 200
"""How many of the jobs that are due next are looked at."""
SCAN_COUNT: Final = 100_000
"""How many keys of a server are looked at, about."""
_SCAN_STEP: Final = 1000
_PAGE_COUNT: Final = 50
_PARKED: Final = ("unknown_task", "undecodable")
_NOT_ASKED: Final = Unanswered("not asked")


@dataclass(frozen=True, slots=True)
class Line:
    """How fast Redis answers, and what its clock says."""

    answers_ms: tuple[float, ...]
    clock_ahead_ms: float
    """Of this host's; negative when it is behind."""

    @property
    def median_ms(self) -> float:
        """Of all answers."""
        return statistics.median(self.answers_ms)

    @property
    def worst_ms(self) -> float:
        """Of all answers."""
        return max(self.answers_ms)


@dataclass(frozen=True, slots=True)
class ParkedJobs:
    """Jobs of one task that no worker can run."""

    task: str
    reason: str
    count: int


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """What is in a queue, and who works for it."""

    name: str
    is_declared: bool
    counts: QueueCounts
    worker_count: int = 0
    newest_reject: Reject | None = None
    due_looked_at: int = 0
    parked: tuple[ParkedJobs, ...] = ()


@dataclass(frozen=True, slots=True)
class NamespaceFacts:
    """What a bounded SCAN found under ``<namespace>:``."""

    looked_at_count: int = 0
    is_complete: bool = True
    key_count: int = 0
    """Keys of this namespace, of any version."""
    other_versions: Mapping[str, int] = field(default_factory=dict)
    """What stands where the format's version should, and how many keys have it."""
    queues: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Examination:
    """The facts. ``unreached`` says why there are no others but the sentinels' answers."""

    target: RedisTarget
    namespace: str
    unreached: Unanswered | None = None
    user: str | None = None
    addresses: tuple[str, ...] = ()
    """What the hosts' names stand for."""
    sentinels: Sequence[SentinelAnswer] = ()
    line: Line | Unanswered = _NOT_ASKED
    servers: Sequence[ServerFacts] | Unanswered = ()
    trials: Mapping[str, Trial | Unanswered] = field(default_factory=dict)
    """By queue."""
    push: PushTrial | Unanswered = _NOT_ASKED
    keys: NamespaceFacts | Unanswered = _NOT_ASKED
    queues: Mapping[str, QueueFacts | Unanswered] = field(default_factory=dict)
    """By name: those of the app, then others in its namespace."""


async def examine(target: RedisTarget, namespace: str, queues: Sequence[str], *, deadline_s: float) -> Examination:
    """Ask ``target`` everything; takes about seven seconds at most.

    Args:
        target: which Redis.
        namespace: of the app.
        queues: those that the app declares.
        deadline_s: for one answer; at most two seconds are given.
    """
    until = asyncio.get_running_loop().time() + LONGEST_S
    deadline_s = min(deadline_s, 2.0)
    addresses = await _look_up(target.nodes)
    if isinstance(addresses, Unanswered):
        return Examination(target, namespace, addresses)
    # What a replica or a failing disk answers to a write costs the connection, and the others' questions on it.
    connections, of_trials = (Connections(target, deadline_s=deadline_s) for _ in range(2))
    try:
        return await _Examiner(connections, of_trials, namespace, queues, until).run(addresses, deadline_s)
    finally:
        await connections.aclose()
        await of_trials.aclose()


class _Examiner:
    def __init__(
        self, connections: Connections, of_trials: Connections, namespace: str, queues: Sequence[str], until: float
    ) -> None:
        self._connections, self._of_trials, self._namespace = connections, of_trials, namespace
        self._queues, self._until = tuple(queues), until

    async def run(self, addresses: tuple[str, ...], deadline_s: float) -> Examination:
        target, connection = self._connections.target, self._connection(self._queues[0])
        is_sentinel = target.kind == "sentinel"
        reached, sentinels = await asyncio.gather(
            self._ask(connection.execute("TIME")), ask_sentinels(target, deadline_s) if is_sentinel else _nothing()
        )
        if isinstance(reached, Unanswered):
            return Examination(target, self._namespace, reached, addresses=addresses, sentinels=sentinels)
        line = await self._ask(_time_line(connection))
        user, servers, trials, push = await asyncio.gather(
            self._ask(connection.execute("ACL", "WHOAMI")),
            self._ask(self._ask_servers()),
            self._try_all(),
            self._ask(try_push(self._connections, self._namespace, self._queues[0], deadline_s)),
        )
        # Not with the others: what a broken cluster answers to these costs the connection too.
        keys, queues = await self._look_at_keys()
        return Examination(
            target,
            self._namespace,
            user=user.decode(errors="replace") if isinstance(user, bytes) else None,
            addresses=addresses,
            sentinels=sentinels,
            line=line,
            servers=servers,
            trials=trials,
            push=push,
            keys=keys,
            queues=queues,
        )

    async def _ask(self, answer: Awaitable[T]) -> T | Unanswered:
        try:
            async with asyncio.timeout_at(self._until):
                return await answer
        except TimeoutError:
            return Unanswered(f"no answer in the {LONGEST_S:g} s that an examination may take")
        except StoreError as error:
            return Unanswered.because(error)

    def _connection(self, queue: str) -> Connection:
        return self._connections.get(base_key(self._namespace, queue))

    async def _ask_servers(self) -> list[ServerFacts]:
        """One server; in a cluster those that have the queues."""
        groups: dict[int, tuple[str, ...]] = {}
        for name in self._queues:
            of_connection = id(self._connection(name))
            groups[of_connection] = (*groups.get(of_connection, ()), name)
        found = await asyncio.gather(*(ask_server(self._connection(names[0]), names) for names in groups.values()))
        # In a cluster each queue has a connection; several may lead to the same node.
        servers: dict[str, ServerFacts] = {}
        for each in found:
            servers.setdefault(each.run_id or each.queues[0], each)
        return list(servers.values())

    async def _try_all(self) -> dict[str, Trial | Unanswered]:
        # One after the other: where writes fail, each costs the connection.
        return {name: await self._ask(try_commands(self._of_trials, self._namespace, name)) for name in self._queues}

    async def _look_at_keys(self) -> tuple[NamespaceFacts | Unanswered, dict[str, QueueFacts | Unanswered]]:
        keys = await self._ask(_scan(self._connection(self._queues[0]), self._namespace))
        if isinstance(keys, NamespaceFacts) and self._connections.target.kind == "cluster":
            keys = replace(keys, is_complete=False)  # other nodes have keys too
        found = () if isinstance(keys, Unanswered) else keys.queues
        others = [name for name in found if name not in self._queues]
        names = (*self._queues, *others[:_PAGE_COUNT])
        looks = await asyncio.gather(*(self._ask(self._look_at_queue(name)) for name in names))
        return keys, dict(zip(names, looks, strict=True))

    async def _look_at_queue(self, name: str) -> QueueFacts:
        store = Store(self._connections, self._namespace, name)
        inspector = Inspector(store)
        counts, workers, rejects, due = await asyncio.gather(
            inspector.counts(), store.workers(), inspector.rejects(limit=1), _due_next(store)
        )
        parked = Counter((info.task, info.error.reason) for info in due if info.error and info.error.reason in _PARKED)
        return QueueFacts(
            name,
            name in self._queues,
            counts,
            len(workers),
            rejects[0] if rejects else None,
            len(due),
            tuple(ParkedJobs(task, reason, count) for (task, reason), count in parked.most_common()),
        )


async def _nothing() -> list[SentinelAnswer]:
    return []


async def _look_up(nodes: Sequence[Node]) -> tuple[str, ...] | Unanswered:
    """The addresses of all names that are known; Unanswered when none is.

    In threads that nobody waits for: a name server that is silent would keep the loop's own from ending.
    """
    found = await asyncio.gather(*(_look_up_one(node) for node in nodes))
    addresses = tuple(address for each in found if isinstance(each, tuple) for address in each)
    whys = [each.why for each in found if isinstance(each, Unanswered)]
    return Unanswered("; ".join(whys)) if whys and not addresses else addresses


async def _look_up_one(node: Node) -> tuple[str, ...] | Unanswered:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[tuple[str, ...] | Unanswered] = loop.create_future()

    def tell(found: tuple[str, ...] | Unanswered) -> None:
        if not answer.done():
            answer.set_result(found)

    def look() -> None:
        try:
            infos = socket.getaddrinfo(*node, type=socket.SOCK_STREAM)
            found: tuple[str, ...] | Unanswered = tuple(dict.fromkeys(str(info[4][0]) for info in infos))
        except (OSError, UnicodeError) as error:
            found = Unanswered(f"the name {node[0]!r} cannot be resolved ({error})")
        if not loop.is_closed():
            loop.call_soon_threadsafe(tell, found)

    threading.Thread(target=look, daemon=True).start()
    try:
        async with asyncio.timeout(LOOKUP_S):
            return await answer
    except TimeoutError:
        return Unanswered(f"the name {node_text(node)!r} was not resolved within {LOOKUP_S:g} s")


async def _time_line(connection: Connection) -> Line:
    """Questions one after the other, fewer where each takes long. The fastest one tells the clock best.

    Not PING: a Redis whose disk fails answers that with an error.
    """
    looks: list[tuple[float, float]] = []
    while len(looks) < LOOK_COUNT and (len(looks) < 3 or sum(took_ms for took_ms, _ in looks) < 1000):
        looks.append(await _look_at_clock(connection))
    return Line(tuple(took_ms for took_ms, _ in looks), min(looks)[1])


async def _look_at_clock(connection: Connection) -> tuple[float, float]:
    """How long the look took, and how far Redis is ahead, ms; both ways are taken to last the same."""
    asked_ms, asked_at = time.time() * 1000, time.perf_counter()
    reply = await connection.execute("TIME")
    took_ms = (time.perf_counter() - asked_at) * 1000
    match reply:
        case [bytes() as seconds, bytes() as microseconds]:
            return took_ms, int(seconds) * 1000 + int(microseconds) / 1000 - (asked_ms + took_ms / 2)
        case _:
            return took_ms, 0.0


async def _scan(connection: Connection, namespace: str) -> NamespaceFacts:
    """In a cluster: of the first queue's node only."""
    start, position, looked_at = f"{namespace}:".encode(), 0, 0
    seen: set[bytes] = set()
    while True:
        reply = await connection.execute("SCAN", position, "MATCH", start + b"*", "COUNT", _SCAN_STEP)
        match reply:
            case [bytes() as following, list() as keys]:
                position = int(following)
                seen.update(key for key in keys if isinstance(key, bytes))
            case _:
                position = 0
        looked_at += _SCAN_STEP
        if not position or looked_at >= SCAN_COUNT:
            break
    versions: Counter[str] = Counter()
    queues: set[str] = set()
    for key in seen:
        version, _, rest = key[len(start) :].partition(b":")
        if version != str(FORMAT_VERSION).encode():
            versions[version[:40].decode(errors="backslashreplace")] += 1
        elif rest.startswith(b"{") and b"}:" in rest:
            queues.add(rest[1 : rest.index(b"}:")].decode(errors="replace"))
    return NamespaceFacts(looked_at, not position, len(seen), versions, tuple(sorted(queues)))


async def _due_next(store: Store) -> list[JobInfo]:
    """The jobs that are due next, a sample: a parked one is due again within a minute."""
    connection = store.connections.get(store.base)
    reply = await connection.execute("ZRANGE", store.base + b"due", 0, SAMPLE_COUNT - 1)
    ids = [job_id for job_id in reply if isinstance(job_id, bytes)] if isinstance(reply, list) else []
    found: list[JobInfo] = []
    for first in range(0, len(ids), _PAGE_COUNT):
        page = ids[first : first + _PAGE_COUNT]
        raws: Reply = await connection.execute("MGET", *(store.base + b"j:" + job_id for job_id in page))
        for job_id, raw in zip(page, raws if isinstance(raws, list) else (), strict=False):
            try:
                found.append(read_info(job_id.decode(), store.queue, raw if isinstance(raw, bytes) else b""))
            except (UnreadableRecord, UnicodeDecodeError):
                continue  # the next claim rejects it, and then it is counted there
    return found
