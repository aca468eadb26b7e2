"""Reading a Redis URL: what it means, and that its password never shows."""

from __future__ import annotations

import contextlib
import re
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arq_web.errors import InvalidRedisUrl
from arq_web.store.target import RedisTarget, Tls

SECRET = "p@ss:w/rd?#%5&[é"


@pytest.mark.parametrize(
    ("url", "nodes", "db"),
    [
        ("redis://localhost", (("localhost", 6379),), 0),
        ("redis://localhost:7000/3", (("localhost", 7000),), 3),
        ("redis://localhost?db=4", (("localhost", 6379),), 4),
        ("redis://localhost/5?db=5", (("localhost", 6379),), 5),
        ("redis://:7000", (("localhost", 7000),), 0),
        ("REDIS://Example.org/", (("Example.org", 6379),), 0),
        ("redis://[::1]:7000/1", (("::1", 7000),), 1),
        ("redis+sentinel://a,b:2/mymaster/2", (("a", 26379), ("b", 2)), 2),
        ("redis+sentinel://a/mymaster", (("a", 26379),), 0),
        ("redis+cluster://a:1,b:2", (("a", 1), ("b", 2)), 0),
    ],
)
def test_a_url_names_hosts_ports_and_a_database(url: str, nodes: tuple[tuple[str, int], ...], db: int) -> None:
    """Every form that the documentation shows, and what is left out."""
    target = RedisTarget.from_url(url)

    assert (target.nodes, target.db) == (nodes, db)


@pytest.mark.parametrize(
    ("url", "path", "db"),
    [
        ("unix:///run/redis.sock", "/run/redis.sock", 0),
        ("unix:///run/redis.sock?db=2", "/run/redis.sock", 2),
        ("unix://user:secret@/run/a%20b.sock?db=1", "/run/a b.sock", 1),
    ],
)
def test_a_unix_url_names_a_path(url: str, path: str, db: int) -> None:
    """The path is the address; the database can only be in the query."""
    target = RedisTarget.from_url(url)

    assert (target.path, target.db, target.address) == (path, db, path)


def test_user_and_password_are_percent_decoded() -> None:
    """Generated passwords are full of characters that mean something in a URL."""
    target = RedisTarget.from_url(f"redis://{quote('an app', safe='')}:{quote(SECRET, safe='')}@host/0")

    assert (target.login.username, target.login.password) == ("an app", SECRET)


def test_a_password_may_be_in_the_query_as_redis_py_has_it_for_sockets() -> None:
    """``unix:///path?password=`` is what redis-py documents; a shared REDIS_URL may look like that."""
    target = RedisTarget.from_url("unix:///run/redis.sock?username=app&password=secret")

    assert (target.login.username, target.login.password) == ("app", "secret")


def test_sentinels_have_a_login_of_their_own() -> None:
    """The data nodes' password is seldom that of the sentinels."""
    target = RedisTarget.from_url("redis+sentinel://app:data@s1,s2/main/0?sentinel_password=guard")

    assert target.kind == "sentinel"
    assert target.master == "main"
    assert (target.login.password, target.sentinel_login.password) == ("data", "guard")


def test_tls_verifies_certificate_and_name_unless_told_otherwise() -> None:
    """The safe thing must be the one that needs no words."""
    plain = RedisTarget.from_url("rediss://host")
    told = RedisTarget.from_url(
        "rediss://host?ssl_ca_certs=/ca.pem&ssl_certfile=/c&ssl_keyfile=/k&ssl_check_hostname=no"
    )
    lax = RedisTarget.from_url("rediss://host?ssl_cert_reqs=CERT_NONE")

    assert plain.tls == Tls(cert_reqs="required", check_hostname=True)
    assert told.tls == Tls("required", False, "/ca.pem", "/c", "/k")
    assert lax.tls == Tls("none", check_hostname=False)
    assert RedisTarget.from_url("redis://host").tls is None


def test_options_of_redis_pys_pool_are_accepted_and_mean_nothing() -> None:
    """One REDIS_URL serves several libraries."""
    assert RedisTarget.from_url("redis://h?max_connections=5&decode_responses=1") == RedisTarget.from_url("redis://h")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("", "scheme is unknown"),
        ("localhost:6379", "scheme is unknown"),
        ("http://localhost", "scheme is unknown"),
        ("redis+sentry://localhost", "scheme is unknown"),
        ("redis://localhost:port", "port is not a number"),
        ("redis://localhost:0", "port is not a number"),
        ("redis://localhost:65536", "port is not a number"),
        ("redis://localhost:", "port is not a number"),
        ("redis://localhost/zero", "database is not a number"),
        ("redis://localhost/-1", "database is not a number"),
        ("redis://localhost?db=one", "database is not a number"),
        ("redis://localhost/1?db=2", "given twice"),
        ("redis://localhost/1/2", "more than a database number"),
        ("redis://a,b/0", "several hosts"),
        ("redis://::1/0", "IPv6 address needs brackets"),
        ("redis://localhost?ssl_ca_certs=/ca.pem", "needs TLS"),
        ("redis://localhost?sll=1", "'sll' is unknown"),
        ("rediss://localhost?ssl_cert_reqs=maybe", "none, optional or required"),
        ("rediss://localhost?ssl_check_hostname=perhaps", "true or false"),
        ("redis+sentinel://localhost", "name of the master is missing"),
        ("redis+cluster://localhost/1", "only database 0"),
        ("unix://relative/redis.sock", "three slashes"),
        ("unix://", "path of the socket is missing"),
        ("redis://user:pa/ss@host", "must be percent-encoded"),
    ],
)
def test_a_url_that_means_nothing_says_why(url: str, why: str) -> None:
    """The message names the part that is wrong."""
    with pytest.raises(InvalidRedisUrl, match=re.escape(why)):
        RedisTarget.from_url(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:{}@host:6379/1",
        "rediss://:{}@host",
        "unix://user:{}@/run/redis.sock?db=2",
        "unix:///run/redis.sock?password={}",
        "redis+sentinel://app:{}@s1,s2/main?sentinel_password={}",
        "redis+cluster://:{}@a:1,b:2",
    ],
)
def test_nothing_that_shows_a_target_shows_its_password(url: str) -> None:
    """What is logged, printed in a traceback or put into an error must be safe to paste into an issue."""
    target = RedisTarget.from_url(url.format(*[quote(SECRET, safe="")] * 2))

    shown = f"{target} {target!r} {target.masked} {target.address} {target.login} {target.sentinel_login!r}"

    assert SECRET not in shown
    assert quote(SECRET, safe="") not in shown
    assert target.login.password == SECRET


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:hunter2@host:port/0",
        "redis://user:hun/ter2@host/0",
        "redis://user:hun?ter2@host/0",
        "redis://user:hun#ter2@host:x/0",
        "redis://user:hun@ter2@host:x/0",
        "redis:/user:hunter2@host",
        "user:hunter2@host:6379",
        "redis://:hunter2",
        "redis://host:hunter2/0",
        "ftp://user:hunter2@host",
        "unix://user:hunter2@relative",
        "unix://user:hun?ter2@/run/redis.sock",
        "redis://host/zero?password=hunter2",
        "redis+sentinel://host?sentinel_password=hunter2",
        "redis://user:hun://ter2@host/zero",
    ],
)
def test_a_url_that_cannot_be_read_is_shown_without_what_may_be_its_password(url: str) -> None:
    """A typing error must not put the password into the log: these are the URLs that get printed."""
    with pytest.raises(InvalidRedisUrl) as caught:
        RedisTarget.from_url(url)

    assert not re.search("hun|ter2", f"{caught.value} {caught.value!r}")


@given(user=st.text(min_size=1), password=st.text(min_size=1), db=st.integers(0, 99))
def test_any_user_and_password_survive_the_way_through_a_url(user: str, password: str, db: int) -> None:
    """Percent-encoding is all that is asked of them."""
    target = RedisTarget.from_url(f"redis://{quote(user, safe='')}:{quote(password, safe='')}@host:1/{db}")

    assert (target.login.username, target.login.password, target.db) == (user, password, db)
    assert target.address == f"host:1/{db}"


@given(st.text(alphabet="redis:/@?,.[]=&%#019sx+unl", max_size=40))
def test_any_other_text_is_read_or_refused_with_our_error(text: str) -> None:
    """No text may end in a ValueError from somewhere below."""
    for scheme in ("redis://", "rediss://", "unix://", "redis+sentinel://", ""):
        with contextlib.suppress(InvalidRedisUrl):
            assert RedisTarget.from_url(scheme + text).address
