"""What a server says of itself (INFO, CONFIG GET, CLUSTER INFO), and what the sentinels say: facts for ``doctor``.

None is a fact that the server did not tell: managed ones refuse CONFIG, some users may not ask for INFO.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, cast

from redis.exceptions import RedisError

from arq_web.errors import StoreError, StoreRefused, StoreUnavailable
from arq_web.store.connection import Connection, Reply
from arq_web.store.replies import ErrorReply
from arq_web.store.target import Node, RedisTarget, node_text


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A question that led to nothing, and why. ``is_refused``: for want of a right, or of the command itself."""

    why: str
    is_refused: bool = False

    @classmethod
    def because(cls, error: StoreError) -> Unanswered:
        """As the store words it."""
        return cls(error.why, isinstance(error, StoreRefused))


@dataclass(frozen=True, slots=True)
class MemoryFacts:
    """``limit_bytes`` is 0 where there is no limit."""

    policy: str | None = None
    limit_bytes: int | None = None
    used_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """What survives a restart. The three words are ``ok``, or what the last try came to."""

    has_aof: bool | None = None
    appendfsync: str | None = None
    save: str | None = None
    """The rule for snapshots, ``3600 1 300 100``; empty when none are taken."""
    aof_write: str | None = None
    aof_rewrite: str | None = None
    snapshot: str | None = None


@dataclass(frozen=True, slots=True)
class ReplicationFacts:
    """``master`` is where a replica copies from."""

    role: str | None = None
    master: str = ""
    replica_count: int | None = None
    min_replica_count: int | None = None


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """``shard_count`` counts the masters that serve slots."""

    state: str | None = None
    shard_count: int | None = None


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """One server, and the queues that are on it."""

    queues: tuple[str, ...]
    product: str | None = None
    version: str = ""
    run_id: str = ""
    uptime_s: int = 0
    memory: MemoryFacts = MemoryFacts()
    disk: DiskFacts = DiskFacts()
    replication: ReplicationFacts = ReplicationFacts()
    cluster: ClusterFacts | None = None
    """None for a server that is in no cluster."""
    key_count: int | None = None
    info_refused: str = ""
    config_refused: str = ""


@dataclass(frozen=True, slots=True)
class SentinelAnswer:
    """Whom one sentinel names as the master: its address, or why none."""

    sentinel: str
    master: str = ""
    why: str = ""


async def ask_server(connection: Connection, queues: tuple[str, ...]) -> ServerFacts:
    """What the server behind ``connection`` tells of itself.

    Raises:
        StoreError: it does not answer at all. What it merely refuses to tell is None.
    """
    info, settings, keys, cluster = await asyncio.gather(
        _ask(connection, "INFO"),
        _settings(connection),
        _ask(connection, "DBSIZE"),
        _ask(connection, "CLUSTER", "INFO"),
    )
    about = _lines(info)
    product, version = _product(about)
    return ServerFacts(
        queues=queues,
        product=product,
        version=version,
        run_id=about.get("run_id", ""),
        uptime_s=_number(about, "uptime_in_seconds") or 0,
        memory=MemoryFacts(about.get("maxmemory_policy"), _number(about, "maxmemory"), _number(about, "used_memory")),
        disk=_disk(about, settings),
        replication=_replication(about, settings),
        cluster=_cluster(about, _lines(cluster)),
        key_count=keys if isinstance(keys, int) else None,
        info_refused=info.why if isinstance(info, Unanswered) else "",
        config_refused=settings.why if isinstance(settings, Unanswered) else "",
    )


async def ask_sentinels(target: RedisTarget, timeout_s: float) -> list[SentinelAnswer]:
    """What each sentinel of the URL answers, all asked at once; takes ``timeout_s`` at most."""
    return await asyncio.gather(*(_ask_sentinel(target, node, timeout_s) for node in target.nodes))


_SETTINGS: Final = ("appendfsync", "save", "min-replicas-to-write")


async def _ask(connection: Connection, *args: str) -> Reply | Unanswered:
    try:
        return await connection.execute(*args)
    except StoreUnavailable:
        raise  # silence is not a refusal
    except StoreError as error:
        return Unanswered.because(error)


async def _settings(connection: Connection) -> Mapping[str, str] | Unanswered:
    # One by one: several in one CONFIG GET are known since Redis 7.
    replies = await asyncio.gather(*(_ask(connection, "CONFIG", "GET", name) for name in _SETTINGS))
    found: dict[str, str] = {}
    for reply in replies:
        if isinstance(reply, Unanswered):
            return reply
        match reply:
            case [bytes() as name, bytes() as value]:
                found[name.decode()] = value.decode(errors="replace")
            case _:
                pass
    return found


async def _ask_sentinel(target: RedisTarget, node: Node, timeout_s: float) -> SentinelAnswer:
    name = node_text(node)
    connection = target.make_sentinel_connection(node, timeout_s=timeout_s)
    try:
        async with asyncio.timeout(timeout_s):
            await connection.connect()  # type: ignore[no-untyped-call]
            await connection.send_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", target.master, check_health=False)
            found = cast("Reply", await connection.read_response())
    except (RedisError, OSError) as error:
        why = target.scrub(ErrorReply(error).text)
        return SentinelAnswer(name, why=why or f"no answer within {timeout_s:g} s")
    finally:
        await connection.disconnect(nowait=True)
    match found:
        case [bytes() as host, bytes() as port]:
            return SentinelAnswer(name, node_text((host.decode(), int(port))))
        case _:
            return SentinelAnswer(name, why=f"it knows no master named {target.master!r}")


def _lines(reply: Reply | Unanswered) -> Mapping[str, str]:
    """``name:value`` lines, as INFO and CLUSTER INFO answer."""
    if not isinstance(reply, bytes):
        return {}
    return dict(re.findall(r"^([^#:\r\n]+):([^\r\n]*)", reply.decode(errors="replace"), re.MULTILINE))


def _number(about: Mapping[str, str], name: str) -> int | None:
    text = about.get(name, "")
    return int(text) if text.isascii() and text.isdigit() else None


def _product(about: Mapping[str, str]) -> tuple[str | None, str]:
    """Whose server it is. All of them also give the version of the Redis that they resemble."""
    for name in ("valkey", "dragonfly"):
        if version := about.get(f"{name}_version"):
            return name.capitalize(), version.removeprefix("df-v")
    version = about.get("redis_version", "")
    return ("Redis" if version else None), version


def _disk(about: Mapping[str, str], settings: Mapping[str, str] | Unanswered) -> DiskFacts:
    known = {} if isinstance(settings, Unanswered) else settings
    aof = about.get("aof_enabled")
    return DiskFacts(
        has_aof=None if aof is None else aof == "1",
        appendfsync=known.get("appendfsync"),
        save=known.get("save"),
        aof_write=about.get("aof_last_write_status"),
        aof_rewrite=about.get("aof_last_bgrewrite_status"),
        snapshot=about.get("rdb_last_bgsave_status"),
    )


def _replication(about: Mapping[str, str], settings: Mapping[str, str] | Unanswered) -> ReplicationFacts:
    known = {} if isinstance(settings, Unanswered) else settings
    host, port = about.get("master_host", ""), about.get("master_port", "")
    return ReplicationFacts(
        role=about.get("role"),
        master=f"{host}:{port}" if host else "",
        replica_count=_number(about, "connected_slaves"),
        min_replica_count=_number(known, "min-replicas-to-write"),
    )


def _cluster(about: Mapping[str, str], cluster: Mapping[str, str]) -> ClusterFacts | None:
    """CLUSTER INFO answers only where there is a cluster; INFO may be refused."""
    if about.get("cluster_enabled", "1") != "1" or not (cluster or "cluster_enabled" in about):
        return None
    return ClusterFacts(cluster.get("cluster_state"), _number(cluster, "cluster_size"))
