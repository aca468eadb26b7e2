"""Opening connections: TCP, TLS, unix sockets, sentinels, clusters; for the loop and for the renewal thread."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import redis

from arq_web.errors import StoreRefused, StoreUnavailable
from arq_web.store.dial import Dialer
from arq_web.store.pipelined import Connection
from arq_web.store.target import RedisTarget
from tests.support.ports import free_port
from tests.support.redis_server import RedisServer, find_redis_server, running_redis

PASSWORD = "never-shown/cr:et@?"
ESCAPED = "never-shown%2Fcr%3Aet%40%3F"


async def name_and_db(url: str) -> tuple[object, object]:
    """Log in and ask the server whom it sees."""
    connection = Connection(RedisTarget.from_url(url))
    try:
        info = await connection.execute("CLIENT", "INFO")
        assert isinstance(info, bytes)
        fields = {name: value for name, _, value in (pair.partition(b"=") for pair in info.split())}
        return fields[b"name"], fields[b"db"]
    finally:
        await connection.aclose()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A throwaway authority and a certificate for ``localhost``."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    folder = tmp_path_factory.mktemp("tls")
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    more = ["-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run([*make, *more], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def tls_port(certificates: Path) -> Iterator[int]:
    """A server that also speaks TLS, and asks for no client certificate."""
    with ExitStack() as stack:
        port = free_port()
        options = (
            "--tls-port",
            str(port),
            "--tls-auth-clients",
            "no",
            "--tls-ca-cert-file",
            str(certificates / "cert.pem"),
        )
        files = ("--tls-cert-file", str(certificates / "cert.pem"), "--tls-key-file", str(certificates / "key.pem"))
        try:
            stack.enter_context(running_redis(*options, *files))
        except RuntimeError:
            pytest.skip("this server was built without TLS")
        yield port


async def test_a_login_has_a_name_and_a_database(redis_server: RedisServer) -> None:
    """``CLIENT LIST`` is how an operator tells whose connections these are."""
    assert await name_and_db(f"redis://127.0.0.1:{redis_server.port}/3") == (b"arq_web", b"3")


async def test_a_unix_socket_serves_as_well(redis_server: RedisServer) -> None:
    """The development broker listens on one."""
    assert await name_and_db(f"unix://{redis_server.socket_path}?db=2") == (b"arq_web", b"2")


@pytest.mark.parametrize("where", ["redis://{login}@127.0.0.1:{port}/1", "unix://{login}@{path}?db=1"])
async def test_acl_users_log_in_with_any_password(redis_server: RedisServer, where: str) -> None:
    """The characters mean something in a URL; a wrong password is refused without being shown."""
    admin = Connection(RedisTarget.from_url(redis_server.url))
    await admin.execute("ACL", "SETUSER", "app", "on", ">" + PASSWORD, "~*", "&*", "+@all")
    parts = {"port": redis_server.port, "path": redis_server.socket_path}
    right, wrong = where.format(login=f"app:{ESCAPED}", **parts), where.format(login=f"app:{ESCAPED}x", **parts)

    assert (await name_and_db(right))[1] == b"1"
    with pytest.raises(StoreRefused) as caught:
        await name_and_db(wrong)

    await admin.execute("ACL", "DELUSER", "app")
    await admin.aclose()
    assert "never-shown" not in f"{caught.value} {caught.value!r}"


async def test_a_database_that_does_not_exist_is_refused(redis_server: RedisServer) -> None:
    """It is a mistake in the URL: waiting for it to pass would hide it."""
    with pytest.raises(StoreRefused, match="DB index is out of range"):
        await name_and_db(f"redis://127.0.0.1:{redis_server.port}/99")


async def test_tls_carries_large_values_both_ways(tls_port: int, certificates: Path) -> None:
    """We took over the transport of redis-py; with TLS it is another one."""
    connection = Connection(RedisTarget.from_url(f"rediss://localhost:{tls_port}?ssl_ca_certs={certificates}/cert.pem"))

    replies = await asyncio.gather(*(connection.execute("ECHO", b"x" * 500_000) for _ in range(10)))

    await connection.aclose()
    assert replies == [b"x" * 500_000] * 10


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("rediss://localhost:{port}", "certificate verify failed"),
        ("rediss://127.0.0.1:{port}?ssl_ca_certs={folder}/cert.pem", "certificate verify failed"),
        ("rediss://localhost:{port}?ssl_ca_certs=/no/such/file.pem", "No such file"),
    ],
)
async def test_tls_refuses_what_it_cannot_verify(tls_port: int, certificates: Path, url: str, why: str) -> None:
    """An unknown authority, and a certificate for another name."""
    target = RedisTarget.from_url(url.format(port=tls_port, folder=certificates))
    connection = Connection(target, deadline_s=0.5)

    with pytest.raises(StoreUnavailable, match=why):
        await connection.execute("PING")

    await connection.aclose()


async def test_tls_without_verification_must_be_asked_for(tls_port: int) -> None:
    """Some hosted Redis has a self-signed certificate."""
    connection = Connection(RedisTarget.from_url(f"rediss://127.0.0.1:{tls_port}?ssl_cert_reqs=none"))

    assert await connection.execute("PING") == b"PONG"

    await connection.aclose()


@pytest.fixture
def sentinel(redis_server: RedisServer, tmp_path: Path) -> Iterator[int]:
    """A sentinel that watches the session's server as ``main``."""
    port = free_port()
    config = tmp_path / "sentinel.conf"
    config.write_text(f"port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {redis_server.port} 1\n")
    process = subprocess.Popen(
        [find_redis_server(), config, "--sentinel"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    with closing(redis.Redis(port=port)) as client:
        while True:
            try:
                client.ping()
                break
            except redis.ConnectionError:
                assert process.poll() is None
    yield port
    process.kill()
    process.wait()


async def test_the_sentinels_are_asked_for_the_master(redis_server: RedisServer, sentinel: int) -> None:
    """One of them may be gone: the next is asked."""
    connection = Connection(RedisTarget.from_url(f"redis+sentinel://127.0.0.1:1,127.0.0.1:{sentinel}/main/2"))

    info = await connection.execute("INFO", "server")

    await connection.aclose()
    assert isinstance(info, bytes)
    assert f"tcp_port:{redis_server.port}".encode() in info


async def test_a_master_that_no_sentinel_knows_is_named(sentinel: int) -> None:
    """Most often a misspelt name in the URL."""
    connection = Connection(RedisTarget.from_url(f"redis+sentinel://127.0.0.1:{sentinel}/mian"), deadline_s=0.3)

    with pytest.raises(StoreUnavailable, match="the master 'mian'"):
        await connection.execute("PING")

    await connection.aclose()


async def test_what_a_sentinel_takes_for_the_master_must_be_one(redis_server: RedisServer, sentinel: int) -> None:
    """A sentinel that lags names the old one, which would answer reads with old data."""
    admin = Connection(RedisTarget.from_url(redis_server.url))
    await admin.execute("REPLICAOF", "127.0.0.1", "1")
    connection = Connection(RedisTarget.from_url(f"redis+sentinel://127.0.0.1:{sentinel}/main"), deadline_s=0.5)

    with pytest.raises(StoreUnavailable, match="no longer the master"):
        await connection.execute("GET", "k")

    await admin.execute("REPLICAOF", "NO", "ONE")
    assert await connection.execute("GET", "k") is None
    await connection.aclose()
    await admin.aclose()


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[int]]:
    """Two nodes, half of the slots each."""
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
    with ExitStack() as stack:
        ports = [stack.enter_context(running_redis(*options)).port for _ in range(2)]
        clients = [stack.enter_context(closing(redis.Redis(port=port))) for port in ports]
        for client, slots in zip(clients, (range(8192), range(8192, 16384)), strict=True):
            ask(client, "CLUSTER ADDSLOTS", *slots)
        ask(clients[0], "CLUSTER MEET", "127.0.0.1", ports[1])
        while any(ask(client, "CLUSTER INFO")["cluster_state"] != "ok" for client in clients):
            pass
        while any(len(ask(client, "CLUSTER SLOTS")) < 2 for client in clients):
            pass
        yield ports


def ask(client: redis.Redis, *command: str | int) -> Any:
    return client.execute_command(*command)  # type: ignore[no-untyped-call]


async def test_in_a_cluster_the_connection_goes_to_the_node_of_its_key(cluster: list[int]) -> None:
    """``{queue}`` keeps all keys of a queue in one slot; whichever seed is asked."""
    for seed in cluster:
        for key in (b"{a}", b"{b}", b"{c}", b"{d}"):
            connection = Connection(RedisTarget.from_url(f"redis+cluster://127.0.0.1:{seed}"), key_hint=key)
            assert await connection.execute("SET", key, "v", "PX", 60_000) == b"OK"
            await connection.aclose()


async def test_a_slot_that_moved_is_followed(cluster: list[int]) -> None:
    """MOVED names the new node; the command is sent there. Here the connection was opened for another key."""
    connection = Connection(RedisTarget.from_url(f"redis+cluster://127.0.0.1:{cluster[0]}"), key_hint=b"{a}")
    await connection.execute("PING")

    replies = [await connection.execute("SET", key, "v", "PX", 60_000) for key in (b"{a}", b"{b}", b"{a}")]

    await connection.aclose()
    assert replies == [b"OK"] * 3


async def test_a_server_that_is_no_cluster_says_so(redis_url: str) -> None:
    """A mistake in the URL's scheme."""
    connection = Connection(RedisTarget.from_url(redis_url.replace("redis://", "redis+cluster://")), key_hint=b"k")

    with pytest.raises(StoreRefused, match="cluster support disabled"):
        await connection.execute("PING")

    await connection.aclose()


def test_the_renewal_thread_gets_one_connection_without_retries(redis_server: RedisServer) -> None:
    """It has its own deadline, and must know at once when a renewal failed."""
    for url in (redis_server.url, redis_server.unix_url):
        with closing(RedisTarget.from_url(url).make_sync_client(0.5)) as client:
            assert client.ping() is True
            assert client.client_getname() in (b"arq_web", "arq_web")
            assert client.echo("x") == b"x"
    nobody = RedisTarget.from_url("redis://127.0.0.1:1").make_sync_client(0.5)
    with closing(nobody), pytest.raises(redis.ConnectionError):
        nobody.ping()


def test_the_renewal_thread_speaks_tls(tls_port: int, certificates: Path) -> None:
    """With the same options as the loop's connections."""
    target = RedisTarget.from_url(f"rediss://localhost:{tls_port}?ssl_ca_certs={certificates}/cert.pem")
    with closing(target.make_sync_client(0.5)) as client:
        assert client.ping() is True
    wary = RedisTarget.from_url(f"rediss://localhost:{tls_port}").make_sync_client(0.5)
    with closing(wary), pytest.raises(redis.ConnectionError, match="certificate verify failed"):
        wary.ping()


def test_the_renewal_thread_asks_sentinels_and_clusters(sentinel: int, cluster: list[int]) -> None:
    """Failover must not stop renewals."""
    with closing(RedisTarget.from_url(f"redis+sentinel://127.0.0.1:{sentinel}/main").make_sync_client(0.5)) as client:
        assert client.ping() is True
    with closing(RedisTarget.from_url(f"redis+cluster://127.0.0.1:{cluster[0]}").make_sync_client(0.5)) as client:
        assert client.eval("return KEYS[1]", 1, "{b}") == b"{b}"


class _Nobody:
    """Who gets the replies of a connection that is closed at once."""

    def on_replies(self, replies: object) -> None: ...

    def on_writable(self) -> None: ...

    def on_lost(self, why: str) -> None: ...


@pytest.mark.parametrize("turns", range(1, 24))
async def test_a_dial_that_is_cancelled_ends_wherever_it_is(redis_url: str, turns: int) -> None:
    """Else whoever closes the app while a connection is being opened waits for it: for ever, in asyncio.run."""
    dialing = asyncio.create_task(Dialer(RedisTarget.from_url(redis_url), deadline_s=5).dial(_Nobody()))
    for _ in range(turns):
        await asyncio.sleep(0)
    if dialing.done():
        dialing.result().abort()
        return

    dialing.cancel()

    with pytest.raises(asyncio.CancelledError):
        await dialing
