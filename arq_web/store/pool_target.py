"""A target out of somebody's redis-py connection pool: the engine then runs on whatever that client was given.

Whatever the pool knows of the server, the login and TLS comes along, credential providers and other people's connection
classes (a fake server inside this process, for example) included.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import redis
import redis.connection as redis_connection
from redis.asyncio.connection import AbstractConnection, Connection, ConnectionPool, SSLConnection
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from arq_web.store.target import CLIENT_NAME, Login, Node, RedisTarget


@dataclass(frozen=True, slots=True, repr=False)
class PoolTarget(RedisTarget):
    """The Redis of a pool. Its text shows nothing secret."""

    connection_class: type[AbstractConnection] = Connection
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of a connection: where to, who we are, how to verify the server."""
    of_sentinels: Mapping[str, Any] = field(default_factory=dict)
    """The same, of a connection to one of the sentinels."""

    def make_connection(self, node: Node | None = None, *, timeout_s: float) -> AbstractConnection:
        """Make (not open) a connection of the pool's own class; to ``node`` where sentinels named one."""
        options = {**self.options, **_session(timeout_s), "retry": AsyncRetry(NoBackoff(), 0)}
        if node is not None:
            options["host"], options["port"] = node
        return self.connection_class(**options)

    def make_sentinel_connection(self, node: Node, *, timeout_s: float) -> AbstractConnection:
        """Make (not open) a connection to one of the sentinels, as the pool itself asks them."""
        host, port = node
        options = {**self.of_sentinels, **_session(timeout_s), "retry": AsyncRetry(NoBackoff(), 0)}
        kind = SSLConnection if any(name.startswith("ssl_") for name in self.of_sentinels) else Connection
        return kind(**{**options, "host": host, "port": port})

    def make_sync_client(self, socket_timeout_s: float) -> redis.Redis:
        """Make a blocking client for a thread of its own: one connection, no retries of redis-py's, RESP2."""
        options = {**self.options, **_session(socket_timeout_s), "retry": Retry(NoBackoff(), 0)}
        if self.kind == "sentinel":
            is_tls = issubclass(self.connection_class, SSLConnection)
            of_sentinels = {**self.of_sentinels, **_session(socket_timeout_s)}
            if any(name.startswith("ssl_") for name in self.of_sentinels):
                of_sentinels["ssl"] = True
            sentinel = Sentinel(list(self.nodes), sentinel_kwargs=of_sentinels)  # type: ignore[no-untyped-call]
            # A word that a pool understands only where it is given.
            tls: dict[str, Any] = {"ssl": True} if is_tls else {}
            master: redis.Redis = sentinel.master_for(  # type: ignore[no-untyped-call]
                self.master, max_connections=1, **options, **tls
            )
            return master
        pool = redis.ConnectionPool(connection_class=_sync_class(self.connection_class), max_connections=1, **options)
        return redis.Redis.from_pool(pool)


def from_pool(pool: ConnectionPool) -> PoolTarget:
    """The target that ``pool`` connects to. Nothing is opened, and the pool itself is not used."""
    options = _options_of(pool)
    login = Login(options.get("username"), options.get("password"))
    db = int(options.get("db") or 0)
    if isinstance(pool, SentinelConnectionPool):
        nodes, of_sentinels = _sentinels_of(pool)
        kind = SSLConnection if issubclass(pool.connection_class, SSLConnection) else Connection
        return PoolTarget(
            "sentinel",
            nodes,
            db=db,
            login=login,
            master=str(pool.service_name),
            sentinel_login=Login(of_sentinels.get("username"), of_sentinels.get("password")),
            connection_class=kind,
            options=options,
            of_sentinels=of_sentinels,
        )
    path = str(options.get("path") or "")
    node = (str(options.get("host", "localhost")), int(options.get("port", 6379)))
    nodes = () if path else (node,)
    return PoolTarget("single", nodes, path, db, login, connection_class=pool.connection_class, options=options)


def _session(timeout_s: float) -> dict[str, Any]:
    # RESP2: push frames of RESP3 would shift the replies of a pipelined connection.
    return {
        "protocol": 2,
        "client_name": CLIENT_NAME,
        "decode_responses": False,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "health_check_interval": 0,
    }


# What a pool says of its own connections that would be wrong, or mean nothing, for ours.
_NOT_OURS: Final = frozenset(
    {"client_name", "connection_pool", "decode_responses", "encoder_class", "encoding", "encoding_errors"}
    | {
        "event_dispatcher",
        "health_check_interval",
        "himport_registry",
        "legacy_responses",
        "maint_notifications_config",
    }
    | {"maint_notifications_pool_handler", "parser_class", "protocol", "redis_connect_func", "retry"}
    | {"retry_on_error", "retry_on_timeout", "socket_connect_timeout", "socket_read_size", "socket_timeout"}
    | {"max_connections", "orig_host_address", "orig_socket_timeout", "orig_socket_connect_timeout"}
)


def _options_of(pool: ConnectionPool) -> dict[str, Any]:
    # A bare object is redis-py's word for "not given", and another one in each of its modules.
    return {
        name: value
        for name, value in pool.connection_kwargs.items()
        if name not in _NOT_OURS and type(value) is not object
    }


def _sentinels_of(pool: SentinelConnectionPool) -> tuple[tuple[Node, ...], dict[str, Any]]:
    known = [_options_of(each.connection_pool) for each in pool.sentinel_manager.sentinels]
    nodes = tuple((str(each.get("host", "localhost")), int(each.get("port", 26379))) for each in known)
    first = known[0] if known else {}
    return nodes, {name: value for name, value in first.items() if name not in ("host", "port", "db")}


def _sync_class(kind: type[AbstractConnection]) -> type[redis.Connection]:
    """The blocking counterpart of a connection class, by its name: redis-py's own, or that of another library."""
    for base in kind.__mro__:
        found = _counterpart(base)
        if found is not None:
            return found
    return redis.Connection


def _counterpart(kind: type) -> type[redis.Connection] | None:
    package = kind.__module__.partition(".")[0]
    if package == "redis":
        return getattr(redis_connection, kind.__name__, None)
    if package == "fakeredis":
        return _fake_connection()
    return None


def _fake_connection() -> type[redis.Connection]:
    import fakeredis  # noqa: PLC0415 - it is there: a pool of its connections was given

    found: type[redis.Connection] = fakeredis.FakeRedis().connection_pool.connection_class
    return found
