"""A trial of all that we ask of a Redis, in scratch keys that go by themselves: may we, and does it work?

The commands are really run: what ACL DRYRUN would say is a guess about the same, needs a right that few have, and says
nothing of a full disk, a replica, or a command that was renamed away.
"""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from dataclasses import dataclass
from enum import Enum
from typing import Final

from arq_web.errors import StoreError, StoreRefused
from arq_web.store.connection import Arg, Connections, Script
from arq_web.store.keys import FORMAT_VERSION, base_key
from arq_web.store.replies import NoScript
from arq_web.store.server_facts import Unanswered

SCRATCH_MS = 10_000
"""How long a scratch key lives if it cannot be deleted."""


class Lack(Enum):
    """What a refused command is short of."""

    COMMAND = "the right to the command"
    KEY = "the right to the key"
    CHANNEL = "the right to the channel"
    SERVER = "a server that has the command"


@dataclass(frozen=True, slots=True)
class Refusal:
    """One command that we were not allowed to run."""

    command: str
    lack: Lack
    why: str


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one queue's commands."""

    queue: str
    refusals: tuple[Refusal, ...] = ()
    write_failure: str = ""
    """Why nothing can be written at the moment: a replica, a full memory, a failing disk. Empty: it can."""
    script_failure: str = ""
    """Why a script like ours failed, or what it answered instead. Empty: it ran, or it was refused."""


@dataclass(frozen=True, slots=True)
class PushTrial:
    """Whether word of a job's end arrives: a message to ourselves through Redis."""

    subscribe: Unanswered | None = None
    publish: Unanswered | None = None
    round_trip_ms: float | None = None
    """None: no message came."""


async def try_commands(connections: Connections, namespace: str, queue: str) -> Trial:
    """Run each command that the scripts and this package use, in scratch keys of ``queue``; one write, no waiting."""
    base = base_key(namespace, queue)
    connection = connections.get(base)
    steps = _steps(base, secrets.token_hex(8))
    answers = await asyncio.gather(*(connection.submit(*step) for step in steps), return_exceptions=True)
    refusals: dict[tuple[str, Lack], Refusal] = {}
    write_failure = script_failure = ""
    for step, answer in zip(steps, answers, strict=True):
        command = str(step[0])
        match answer:
            case StoreRefused() if command in _SCRIPTS and " script" in answer.why:
                script_failure = script_failure or answer.why  # a command in it was refused
            case StoreRefused():
                lack = _lack(answer.why)
                refusals.setdefault((command, lack), Refusal(command, lack, answer.why))
            case NoScript():
                pass  # what EVAL came to says it
            case StoreError() if command in _SCRIPTS:
                script_failure = script_failure or answer.why
            case StoreError():
                write_failure = write_failure or answer.why
            case BaseException():
                raise answer
            case _ if command in _SCRIPTS and answer != b"1":
                script_failure = script_failure or f"it answered {answer!r} instead of {b'1'!r}"
            case _:
                pass
    return Trial(queue, tuple(refusals.values()), write_failure, script_failure)


async def try_push(connections: Connections, namespace: str, queue: str, timeout_s: float) -> PushTrial:
    """Subscribe to a channel like those on which results are awaited, publish there, and wait for the message."""
    channel = f"{namespace}:{FORMAT_VERSION}:reply:{secrets.token_hex(8)}".encode()
    heard = asyncio.Event()
    subscriber = connections.subscriber()
    subscribing: Unanswered | None = None
    try:
        await subscriber.subscribe(channel, lambda _: heard.set())
    except StoreError as error:
        subscribing = Unanswered.because(error)
    try:
        sent_at = time.perf_counter()
        try:
            await connections.get(base_key(namespace, queue)).execute("PUBLISH", channel, b"doctor")
        except StoreError as error:
            return PushTrial(subscribing, Unanswered.because(error))
        if subscribing is not None:
            return PushTrial(subscribing)
        try:
            async with asyncio.timeout(timeout_s):
                await heard.wait()
        except TimeoutError:
            return PushTrial()
        return PushTrial(round_trip_ms=(time.perf_counter() - sent_at) * 1000)
    finally:
        subscriber.unsubscribe(channel)


# Like ours: it names keys that it was not given, only what they begin with; and it reads the clock before it writes.
_LIKE_OURS: Final = Script(
    "doctor",
    b"""
local key = KEYS[1] .. ARGV[1]
redis.call('TIME')
redis.call('SET', key, '1', 'PX', ARGV[2])
local found = redis.call('MGET', key)[1]
redis.call('DEL', key)
return found
""",
)
_SCRIPTS: Final = ("EVAL", "EVALSHA")
_OF_KEY: Final = re.compile(r"access (?:one of the|a) keys?\b", re.IGNORECASE)
_OF_CHANNEL: Final = re.compile(r"access (?:one of the|a) channels?\b", re.IGNORECASE)


def _lack(why: str) -> Lack:
    if "unknown command" in why:
        return Lack.SERVER
    if _OF_KEY.search(why):
        return Lack.KEY
    return Lack.CHANNEL if _OF_CHANNEL.search(why) else Lack.COMMAND


def _steps(base: bytes, mark: str) -> list[tuple[Arg, ...]]:
    """The commands, each new key with its end at once."""
    text, line, ranks, group, tally = (base + f"doctor:{mark}:{kind}".encode() for kind in "tlrgc")
    script = (1, base, f"doctor:{mark}:s", SCRATCH_MS)
    return [
        ("TIME",),
        ("PING",),
        ("SET", text, "1", "PX", SCRATCH_MS),
        *((name, text) for name in ("GET", "MGET", "EXISTS", "DUMP", "PTTL", "PERSIST")),
        ("GETRANGE", text, 0, 0),
        ("PEXPIREAT", text, int(time.time() * 1000) + SCRATCH_MS),
        ("PEXPIRE", text, SCRATCH_MS),
        ("RPUSH", line, "1"),
        ("PEXPIRE", line, SCRATCH_MS),
        ("LPUSH", line, "1"),
        ("LTRIM", line, 0, 9),
        ("LRANGE", line, 0, 0),
        ("LLEN", line),
        ("BLPOP", line, "0.01"),
        ("LTRIM", line, 1, 0),  # empty, and so gone, for a user who may neither expire nor delete it
        ("ZADD", ranks, 1, "a", 2, "b"),
        ("PEXPIRE", ranks, SCRATCH_MS),
        ("ZCARD", ranks),
        ("ZRANK", ranks, "doctor"),
        ("ZCOUNT", ranks, "-inf", 1),
        ("ZRANGE", ranks, 0, 0),
        ("ZREVRANGE", ranks, 0, 0),
        ("ZRANGEBYSCORE", ranks, "-inf", 1),
        ("ZREM", ranks, "a"),
        ("ZPOPMIN", ranks, 1),
        ("ZREMRANGEBYSCORE", ranks, "-inf", 1),
        ("SADD", group, "1"),
        ("PEXPIRE", group, SCRATCH_MS),
        ("SMEMBERS", group),
        ("SREM", group, "1"),
        ("HINCRBY", tally, "n", 1),
        ("PEXPIRE", tally, SCRATCH_MS),
        ("SCAN", 0, "COUNT", 1),
        ("EVAL", _LIKE_OURS.text, *script),
        ("EVALSHA", _LIKE_OURS.sha, *script),
        ("MSET", text, "1"),
        ("DEL", text, line, ranks, group, tally),
    ]


def tried_commands() -> frozenset[str]:
    """The names of all commands of a trial."""
    return frozenset(str(step[0]) for step in _steps(b"", "")) | {"PUBLISH", "SUBSCRIBE"}
