"""Which Redis to speak to, read from a URL. Pure: nothing here opens a socket before it is asked to.

The URL is the one place that holds credentials, so what leaves this module as text (``masked``, ``address``,
``repr``, every error message) never contains a password.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import parse_qsl, unquote

import redis
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.retry import Retry
from redis.sentinel import Sentinel

from arq_web.errors import InvalidRedisUrl

try:
    from redis.maint_notifications import MaintNotificationsConfig
except ImportError:  # redis-py before 7 knows no such notices
    _no_notices: dict[str, Any] = {}
else:
    _no_notices = {"maint_notifications_config": MaintNotificationsConfig(enabled=False)}

Kind: TypeAlias = Literal["single", "sentinel", "cluster"]
Node: TypeAlias = tuple[str, int]

CLIENT_NAME: Final = "arq_web"


@dataclass(frozen=True, slots=True)
class Login:
    """Who we are to a server. Its repr shows nothing secret."""

    username: str | None = None
    password: str | None = field(default=None, repr=False)

    def for_redis_py(self) -> dict[str, Any]:
        """The keyword arguments that redis-py wants."""
        return {"username": self.username, "password": self.password}


@dataclass(frozen=True, slots=True)
class Tls:
    """How to verify the server, and how to show who we are."""

    cert_reqs: str = "required"
    check_hostname: bool = True
    ca_certs: str | None = None
    certfile: str | None = None
    keyfile: str | None = None

    def for_redis_py(self) -> dict[str, Any]:
        """The keyword arguments that redis-py wants."""
        return {
            "ssl_cert_reqs": self.cert_reqs,
            "ssl_check_hostname": self.check_hostname,
            "ssl_ca_certs": self.ca_certs,
            "ssl_certfile": self.certfile,
            "ssl_keyfile": self.keyfile,
        }


@dataclass(frozen=True, slots=True, repr=False)
class RedisTarget:
    """A Redis (one server, a master known to sentinels, or a cluster), and how to log in there.

    ``nodes`` are the server, the sentinels, or the cluster's seeds; empty for a unix socket, whose ``path`` is
    set then. ``master`` is the sentinels' name for the master.
    """

    kind: Kind
    nodes: tuple[Node, ...]
    path: str = ""
    db: int = 0
    login: Login = Login()
    tls: Tls | None = None
    master: str = ""
    sentinel_login: Login = Login()

    @classmethod
    def from_url(cls, url: str) -> RedisTarget:
        """Read a URL: redis, rediss, unix, redis+sentinel, rediss+sentinel, redis+cluster, rediss+cluster.

        User and password are percent-encoded. The database is the path or ``?db=``. Sentinels take their own
        ``?sentinel_username=&sentinel_password=``; those before the ``@`` are for the Redis behind them.

        Raises:
            InvalidRedisUrl: the URL means nothing to us; never shows its password.
        """
        return _Reading(url).target()

    @property
    def masked(self) -> str:
        """The URL with ``***`` for the password: what may be shown and logged."""
        user = self.login.username or ""
        secret = ":***" if self.login.password is not None else ""
        userinfo = f"{user}{secret}@" if user or secret else ""
        if self.path:
            return f"unix://{userinfo}{self.path}?db={self.db}"
        scheme = ("rediss" if self.tls else "redis") + ("" if self.kind == "single" else f"+{self.kind}")
        return f"{scheme}://{userinfo}{self.address}"

    @property
    def address(self) -> str:
        """Where it is, without who we are: ``host:port/db`` or the socket's path."""
        if self.path:
            return self.path
        nodes = ",".join(node_text(node) for node in self.nodes)
        return f"{nodes}/{self.master}/{self.db}" if self.master else f"{nodes}/{self.db}"

    def __repr__(self) -> str:
        return f"RedisTarget({self.masked!r})"

    def scrub(self, text: str) -> str:
        """Take our passwords out of ``text``: some servers' error replies repeat what they were sent."""
        for secret in (self.login.password, self.sentinel_login.password):
            text = text.replace(secret, "***") if secret else text
        return text

    def make_connection(self, node: Node | None = None, *, timeout_s: float) -> AbstractConnection:
        """Make (not open) a redis-py connection to ``node``, by default the first one.

        ``timeout_s`` bounds connecting and each step of logging in.
        """
        options: dict[str, Any] = {**self._session(timeout_s), "retry": AsyncRetry(NoBackoff(), 0)}
        if self.path:
            return UnixDomainSocketConnection(path=self.path, **options)
        host, port = node or self.nodes[0]
        if self.tls:
            return SSLConnection(host=host, port=port, **self.tls.for_redis_py(), **options)
        return Connection(host=host, port=port, **options)

    def make_sentinel_connection(self, node: Node, *, timeout_s: float) -> AbstractConnection:
        """Make (not open) a connection to one of the sentinels, with the sentinels' own login."""
        return RedisTarget("single", (node,), login=self.sentinel_login, tls=self.tls).make_connection(
            timeout_s=timeout_s
        )

    def make_sync_client(self, socket_timeout_s: float) -> redis.Redis | RedisCluster:
        """Make a blocking client for a thread of its own: one connection, no retries of redis-py's, RESP2.

        It connects at its first command (a cluster's at once, to learn its nodes), and asks the sentinels for
        the master at every connect.
        """
        options: dict[str, Any] = {**self._session(socket_timeout_s), **_no_notices, "retry": Retry(NoBackoff(), 0)}
        if self.path:
            return redis.Redis(unix_socket_path=self.path, max_connections=1, **options)
        if self.tls:
            options |= {**self.tls.for_redis_py(), "ssl": True}
        if self.kind == "sentinel":
            of_sentinels: dict[str, Any] = {**options, **self.sentinel_login.for_redis_py(), "db": 0}
            sentinel = Sentinel(list(self.nodes), sentinel_kwargs=of_sentinels, **options)  # type: ignore[no-untyped-call]
            master: redis.Redis = sentinel.master_for(self.master, max_connections=1)  # type: ignore[no-untyped-call]
            return master
        if self.kind == "cluster":
            seeds = [ClusterNode(host, port) for host, port in self.nodes]  # type: ignore[no-untyped-call]
            del options["db"]  # a cluster has only database 0, and redis-py refuses the word
            return RedisCluster(startup_nodes=seeds, **options)
        host, port = self.nodes[0]
        return redis.Redis(host=host, port=port, max_connections=1, **options)

    def _session(self, timeout_s: float) -> dict[str, Any]:
        # RESP2: push frames of RESP3 would shift the replies of a pipelined connection.
        return {
            "db": self.db,
            **self.login.for_redis_py(),
            "protocol": 2,
            "client_name": CLIENT_NAME,
            "decode_responses": False,
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
            "health_check_interval": 0,
        }


def node_text(node: Node) -> str:
    """``host:port``, with brackets around an IPv6 address."""
    host, port = node
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# -- reading a URL ------------------------------------------------------------------------

_SCHEME: Final = re.compile(r"(?P<tls>redis|rediss)(?:\+(?P<kind>sentinel|cluster))?|(?P<unix>unix)")
_NODE: Final = re.compile(r"(?:\[(?P<ip6>[0-9A-Fa-f:.%]+)\]|(?P<host>[^\[\]:]*))(?::(?P<port>[^:]*))?")
_FALSE: Final = frozenset({"0", "f", "false", "n", "no", "off"})
_TRUE: Final = frozenset({"1", "t", "true", "y", "yes", "on"})

_OF_LOGIN: Final = frozenset({"db", "username", "password"})
_OF_SENTINELS: Final = frozenset({"sentinel_username", "sentinel_password"})
_OF_TLS: Final = frozenset({"ssl_cert_reqs", "ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_check_hostname"})
# A REDIS_URL is often shared with other libraries. What concerns only redis-py's pool says nothing to us;
# any other unknown word is an error, so that a misspelt ssl_ option cannot pass in silence.
_OF_REDIS_PY: Final = frozenset(
    {"client_name", "decode_responses", "encoding", "encoding_errors", "health_check_interval", "max_connections"}
    | {"protocol", "retry_on_timeout", "timeout"}
    | {"socket_connect_timeout", "socket_keepalive", "socket_read_size", "socket_timeout"}
)


class _Reading:
    """One URL while it is read."""

    def __init__(self, url: str) -> None:
        self._url = url
        scheme, separator, rest = url.partition("://")
        found = _SCHEME.fullmatch(scheme.lower())
        if not separator or not found:
            raise self._invalid("the scheme is unknown")
        self._is_unix = found["unix"] is not None
        self._is_tls = found["tls"] == "rediss"
        self._kind: Kind = "sentinel" if found["kind"] == "sentinel" else "cluster" if found["kind"] else "single"
        rest, _, query = rest.partition("?")
        authority, slash, path = rest.partition("/")
        if "@" in path + query and "@" not in authority and not self._is_unix:
            raise self._invalid("special characters in the user name or password must be percent-encoded")
        self._userinfo, _, self._hosts = authority.rpartition("@")
        self._path = slash + path
        self._query = self._read_query(query)

    def target(self) -> RedisTarget:
        login = self._login()
        if self._is_unix:
            return self._unix(login)
        master, db_text = self._split_path()
        db = self._db(db_text)
        if self._kind == "cluster" and db:
            raise self._invalid("a cluster has only database 0")
        if self._kind == "single" and "," in self._hosts:
            raise self._invalid("several hosts need redis+sentinel:// or redis+cluster://")
        default_port = 26379 if self._kind == "sentinel" else 6379
        nodes = tuple(self._node(text, default_port) for text in self._hosts.split(","))
        of_sentinels = Login(self._query.get("sentinel_username"), self._query.get("sentinel_password"))
        return RedisTarget(self._kind, nodes, "", db, login, self._tls(), master, of_sentinels)

    def _unix(self, login: Login) -> RedisTarget:
        if self._hosts:
            raise self._invalid("a unix socket needs an absolute path, with three slashes: unix:///path/redis.sock")
        if len(self._path) < 2:
            raise self._invalid("the path of the socket is missing")
        return RedisTarget("single", (), unquote(self._path), self._db(""), login)

    def _split_path(self) -> tuple[str, str]:
        parts = self._path.strip("/").split("/")
        if self._kind == "sentinel":
            if not parts[0]:
                raise self._invalid("the name of the master is missing: redis+sentinel://host:26379/mymaster/0")
            master, parts = unquote(parts[0]), parts[1:] or [""]
        else:
            master = ""
        if len(parts) > 1:
            raise self._invalid("the path is more than a database number")
        return master, parts[0]

    def _login(self) -> Login:
        user, colon, password = self._userinfo.partition(":")
        username = unquote(user) or self._query.get("username")
        return Login(username, (unquote(password) if colon and password else None) or self._query.get("password"))

    def _db(self, in_path: str) -> int:
        in_query = self._query.get("db", "")
        if in_path and in_query and in_path != in_query:
            raise self._invalid("the database is given twice, and differs")
        text = in_query or in_path or "0"
        if not (text.isascii() and text.isdigit()):
            raise self._invalid("the database is not a number")
        return int(text)

    def _node(self, text: str, default_port: int) -> Node:
        found = _NODE.fullmatch(text)
        if not found:
            raise self._invalid("the host cannot be read (an IPv6 address needs brackets)")
        port = found["port"]
        if port is not None and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
            raise self._invalid("the port is not a number from 1 to 65535")
        return unquote(found["ip6"] or found["host"] or "localhost"), int(port or default_port)

    def _tls(self) -> Tls | None:
        if not self._is_tls:
            return None
        cert_reqs = self._query.get("ssl_cert_reqs", "required").lower().removeprefix("cert_")
        if cert_reqs not in ("none", "optional", "required"):
            raise self._invalid("ssl_cert_reqs must be none, optional or required")
        check_hostname = self._query.get("ssl_check_hostname", "true").lower()
        if check_hostname not in _TRUE | _FALSE:
            raise self._invalid("ssl_check_hostname must be true or false")
        return Tls(
            cert_reqs=cert_reqs,
            # Without a verified certificate there is no name to check, and ssl refuses the combination.
            check_hostname=check_hostname in _TRUE and cert_reqs != "none",
            ca_certs=self._query.get("ssl_ca_certs"),
            certfile=self._query.get("ssl_certfile"),
            keyfile=self._query.get("ssl_keyfile"),
        )

    def _read_query(self, text: str) -> dict[str, str]:
        query = dict(parse_qsl(text, keep_blank_values=False))
        known = {
            *_OF_LOGIN,
            *(_OF_TLS if self._is_tls else ()),
            *(_OF_SENTINELS if self._kind == "sentinel" else ()),
        }
        for name in query.keys() - known - _OF_REDIS_PY:
            if name in _OF_TLS:
                raise self._invalid(f"{name} needs TLS: rediss://")
            # What does not look like an option's name may be the tail of a password with a ? in it.
            shown = f" {name!r}" if re.fullmatch(r"[a-z_]+", name) else ""
            raise self._invalid(f"the option{shown} is unknown; known are {', '.join(sorted(known))}")
        return query

    def _invalid(self, why: str) -> InvalidRedisUrl:
        return InvalidRedisUrl(_mask(self._url), why)


def _mask(url: str) -> str:
    """Hide what may be a password in a URL that could not be read: rather too much than too little."""
    scheme, separator, rest = url.partition("://") if re.match(r"[\w+]*://", url) else ("", "", url)
    before, at, after = rest.rpartition("@")
    if at:
        user, colon, _ = before.partition(":")
        rest = f"{user}{':***' if colon else ''}@{after}"
    elif re.match(r"[^/?,]*:[^/?,]*[^/?,\d\]]", rest) and not rest.startswith("["):
        # redis://:secret, where the host was forgotten: what stands in the port's place may be the password.
        rest = re.sub(r":[^/?,]*", ":***", rest, count=1)
    rest = re.sub(r"(?i)([?&][^=&]*pass[^=&]*=)[^&]*", r"\1***", rest)
    return f"{scheme}{separator}{rest}"
