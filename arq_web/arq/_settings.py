"""Where Redis is, in every way that arq's users (and the documents about arq) say it, and the client made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar, cast
from urllib.parse import parse_qsl, unquote, urlsplit

import redis.exceptions
from redis.asyncio import Redis
from redis.asyncio.connection import SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff

if TYPE_CHECKING:
    from typing import Self

R = TypeVar("R", bound=Redis)
_SCHEMES = ("redis", "rediss", "unix")


@dataclass(repr=False)
class RedisSettings:
    """Where Redis is, and how to log in there. ``repr`` shows no password.

    ``host`` is a list of ``(host, port)`` of the sentinels where ``sentinel`` is true. ``conn_timeout``,
    ``conn_retries`` and ``conn_retry_delay`` (seconds) are those of the first connection; workers wait for a Redis that
    is lost later.
    """

    host: str | list[tuple[str, int]] = "localhost"
    port: int = 6379
    unix_socket_path: str | None = None
    database: int = 0
    username: str | None = None
    password: str | None = None
    ssl: bool = False
    ssl_keyfile: str | None = None
    ssl_certfile: str | None = None
    ssl_cert_reqs: str = "required"
    ssl_ca_certs: str | None = None
    ssl_ca_data: str | None = None
    ssl_check_hostname: bool = False
    conn_timeout: int = 1
    conn_retries: int = 5
    conn_retry_delay: int = 1
    max_connections: int | None = None
    sentinel: bool = False
    sentinel_master: str = "mymaster"
    retry_on_timeout: bool = False
    retry_on_error: list[Exception] | None = None
    retry: Retry | None = None

    @classmethod
    def from_dsn(cls, dsn: str) -> Self:
        """Read ``redis://``, ``rediss://`` or ``unix://``; user, password and path are percent-encoded.

        The database is the path or ``?db=``; for ``rediss`` the ``ssl_…`` fields may be given as ``?ssl_…=``.

        Raises:
            RuntimeError: another scheme.
        """
        parts = urlsplit(dsn)
        if parts.scheme not in _SCHEMES:
            raise RuntimeError("invalid DSN scheme")
        query = dict(parse_qsl(parts.query))
        is_unix = parts.scheme == "unix"
        database = query.get("db") or ("" if is_unix else parts.path.strip("/"))
        return cls(
            host=parts.hostname or "localhost",
            port=parts.port or 6379,
            unix_socket_path=unquote(parts.path) if is_unix else None,
            database=int(database or 0),
            username=unquote(parts.username) if parts.username is not None else query.get("username"),
            password=unquote(parts.password) if parts.password is not None else query.get("password"),
            ssl=parts.scheme == "rediss",
            **_ssl_of(query),
        )

    def __repr__(self) -> str:
        words = ((each.name, getattr(self, each.name)) for each in fields(self))
        shown = ((name, "***" if name == "password" and value else value) for name, value in words)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown)})"


def as_settings(given: object) -> RedisSettings:
    """Settings out of what stands in their place: settings, a URL, a redis client, or None for the defaults.

    A URL may be an object that is one as text. Of a client only its address and login are taken: it may belong to
    another event loop.

    Raises:
        TypeError: it is none of these.
        RuntimeError: the URL's scheme is unknown.
    """
    if given is None:
        return RedisSettings()
    if isinstance(given, str):
        return RedisSettings.from_dsn(given)
    pool = getattr(given, "connection_pool", None)
    options = getattr(pool, "connection_kwargs", None)
    if isinstance(options, Mapping):
        return _of_pool(pool, options)
    if isinstance(given, RedisSettings) or hasattr(given, "conn_retries"):
        return given  # type: ignore[return-value]  # a look-alike: a settings class of the user's own
    text = str(given)  # pydantic's RedisDsn, yarl's URL, ...
    if text.partition("://")[0] in _SCHEMES:
        return RedisSettings.from_dsn(text)
    # Its type alone: its repr may show a password.
    kind = type(given)
    words = f"an object of {kind.__module__}.{kind.__qualname__}"
    raise TypeError(f"redis_settings is {words}: give RedisSettings(...), a URL, or a redis client")


def make_client(kind: type[R], settings: RedisSettings) -> R:
    """A client (not connected) for these settings.

    Raises:
        RuntimeError: sentinels are asked for, but not named.
    """
    if settings.sentinel and isinstance(settings.host, str):
        raise RuntimeError("str provided for 'host' but 'sentinel' is true; list of sentinels expected")
    options: dict[str, Any] = {
        "db": settings.database,
        "username": settings.username,
        "password": settings.password,
        "encoding": "utf8",
        "socket_connect_timeout": settings.conn_timeout,
        "max_connections": settings.max_connections,
        **_retry_options(settings),
    }
    if settings.sentinel:
        # A word that these connections only understand where it is meant.
        tls = {"ssl": True, **_ssl_options(settings)} if settings.ssl else {}
        sentinel = Sentinel(settings.host, **options, **tls)  # type: ignore[no-untyped-call]
        return cast("R", sentinel.master_for(settings.sentinel_master, redis_class=kind))
    where: dict[str, Any] = {
        "host": settings.host,
        "port": settings.port,
        "unix_socket_path": settings.unix_socket_path,
    }
    return kind(**options, **where, ssl=settings.ssl, **_ssl_options(settings))


_SSL_FIELDS = ("ssl_keyfile", "ssl_certfile", "ssl_cert_reqs", "ssl_ca_certs", "ssl_ca_data", "ssl_check_hostname")


def _ssl_of(query: Mapping[str, str]) -> dict[str, Any]:
    given: dict[str, Any] = {name: query[name] for name in _SSL_FIELDS if name in query}
    if "ssl_check_hostname" in given:
        given["ssl_check_hostname"] = given["ssl_check_hostname"].lower() in ("1", "true", "yes", "on")
    return given


def _ssl_options(settings: RedisSettings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in _SSL_FIELDS}


def _retry_options(settings: RedisSettings) -> dict[str, Any]:
    """arq's, for every redis-py: since 6 it warns of ``retry_on_timeout``, and retries by itself if nothing is said."""
    errors = list(settings.retry_on_error or ())
    if settings.retry_on_timeout:
        errors.append(redis.exceptions.TimeoutError)  # type: ignore[arg-type]
    options: dict[str, Any] = {"retry": settings.retry or Retry(NoBackoff(), 1 if errors else 0)}
    if errors:
        options["retry_on_error"] = errors
    return options


def _of_pool(pool: Any, options: Mapping[str, Any]) -> RedisSettings:
    kind = pool.connection_class
    settings = RedisSettings(
        host=options.get("host", "localhost"),
        port=int(options.get("port", 6379)),
        unix_socket_path=options.get("path") if issubclass(kind, UnixDomainSocketConnection) else None,
        database=int(options.get("db") or 0),
        username=options.get("username"),
        password=options.get("password"),
        ssl=issubclass(kind, SSLConnection),
        **{name: options[name] for name in _SSL_FIELDS if name in options},
    )
    if isinstance(pool, SentinelConnectionPool):
        known = [each.connection_pool.connection_kwargs for each in pool.sentinel_manager.sentinels]
        settings.host = [(each["host"], int(each["port"])) for each in known]
        settings.sentinel, settings.sentinel_master = True, str(pool.service_name)
    return settings
