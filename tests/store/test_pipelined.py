"""The shared connection: order, one write per tick, deadlines, sending once again."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import AsyncIterator

import pytest

from arq_web.errors import StoreRefused, StoreUnavailable
from arq_web.store import link
from arq_web.store.pipelined import Connection, Script
from arq_web.store.replies import ErrorReply, Reply
from arq_web.store.target import RedisTarget
from tests.support.proxy import Proxy, running_proxy
from tests.support.redis_server import RedisServer, running_redis
from tests.support.waiting import wait_until

DEADLINE_S = 0.3
COUNT = Script("count", b"return redis.call('INCR', KEYS[1]) + ARGV[1]")


@pytest.fixture(params=["socket", "stream"])
def any_link(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways to use a redis-py connection: on its transport, and by its public methods."""
    if request.param == "stream":
        monkeypatch.setattr(link, "_hiredis", None)


@pytest.fixture
async def proxy(redis_server: RedisServer) -> AsyncIterator[Proxy]:
    async with running_proxy(redis_server.port) as proxy:
        yield proxy


@pytest.fixture
async def connection(redis_url: str, any_link: None) -> AsyncIterator[Connection]:
    # Here nothing is to go wrong: a deadline that a busy machine does not miss.
    connection = Connection(RedisTarget.from_url(redis_url), deadline_s=10.0)
    yield connection
    await connection.aclose()


@pytest.fixture
async def proxied(proxy: Proxy, any_link: None) -> AsyncIterator[Connection]:
    connection = Connection(RedisTarget.from_url(proxy.url), deadline_s=DEADLINE_S)
    yield connection
    await connection.aclose()


async def require_password(server: RedisServer) -> None:
    connection = Connection(RedisTarget.from_url(server.url))
    await connection.execute("CONFIG", "SET", "requirepass", "right")
    await connection.aclose()


async def test_a_thousand_callers_get_their_own_replies(connection: Connection) -> None:
    """Replies carry no name: only their order says whose they are."""
    replies = await asyncio.gather(*(connection.execute("ECHO", f"{number}") for number in range(1000)))

    assert replies == [b"%d" % number for number in range(1000)]


async def test_every_kind_of_argument_and_reply_travels(connection: Connection) -> None:
    """Bytes stay bytes, numbers become text, nothing is decoded."""
    script = "return {ARGV[1], ARGV[2], ARGV[3], 7, false, {'nested'}}"

    reply = await connection.execute("EVAL", script, 0, b"\xff\r\n", 42, 1.5)

    assert reply == [b"\xff\r\n", b"42", b"1.5", 7, None, [b"nested"]]


async def test_a_large_value_comes_back_whole(connection: Connection) -> None:
    """It takes many reads and fills every buffer on the way."""
    value = bytes(range(256)) * 32_768

    replies = await asyncio.gather(*(connection.execute("ECHO", value) for _ in range(4)))

    assert replies == [value] * 4


async def test_the_commands_of_one_tick_leave_in_one_write(proxy: Proxy) -> None:
    """That is where the speed for concurrent callers comes from."""
    connection = Connection(RedisTarget.from_url(proxy.url))
    await connection.execute("PING")
    before = proxy.request_count

    await asyncio.gather(*(connection.execute("ECHO", number) for number in range(100)))

    await connection.aclose()
    assert proxy.request_count == before + 1


async def test_one_opening_serves_all_who_wait_for_it(proxy: Proxy, proxied: Connection) -> None:
    """A burst at start-up must not open a connection each."""
    await asyncio.gather(*(proxied.execute("ECHO", number) for number in range(100)))

    assert proxy.connection_count == 1
    assert proxied.is_connected


async def test_a_silent_redis_is_given_up_on_in_time(proxy: Proxy, proxied: Connection) -> None:
    """The web request that enqueues must not hang: one deadline for the command, one to connect again."""
    await proxied.execute("PING")
    proxy.black_hole()
    began = time.monotonic()

    with pytest.raises(StoreUnavailable, match="no reply within"):
        await proxied.execute("PING")

    assert time.monotonic() - began < 2 * DEADLINE_S + 1


async def test_a_redis_that_cannot_be_reached_is_given_up_on_after_one_deadline(
    proxy: Proxy, proxied: Connection
) -> None:
    """And it is tried again meanwhile: a restart of less than a deadline goes unnoticed."""
    proxy.refuse()
    began = time.monotonic()

    with pytest.raises(StoreUnavailable) as caught:
        await proxied.execute("PING")

    assert DEADLINE_S / 2 < time.monotonic() - began < DEADLINE_S + 1
    assert caught.value.address == f"127.0.0.1:{proxy.port}/0"


async def test_a_restart_shorter_than_the_deadline_goes_unnoticed(proxy: Proxy, any_link: None) -> None:
    """A command waits for Redis to come back."""
    connection = Connection(RedisTarget.from_url(proxy.url), deadline_s=5.0)
    await connection.execute("PING")
    proxy.refuse()
    await wait_until(lambda: not connection.is_connected, description="the loss is noticed")

    waiting = asyncio.gather(*(connection.execute("ECHO", number) for number in range(10)))
    await proxy.accept()

    assert await waiting == [b"%d" % number for number in range(10)]
    await connection.aclose()


async def test_a_killed_connection_loses_no_command(connection: Connection) -> None:
    """``CLIENT KILL`` in the middle of a batch: those without a reply are sent once again, in order."""
    own_id = await connection.execute("CLIENT", "ID")
    assert isinstance(own_id, int)

    before = [connection.submit("ECHO", number) for number in range(50)]
    killing = connection.submit("CLIENT", "KILL", "ID", own_id, "SKIPME", "no")
    after = [connection.submit("ECHO", number) for number in range(50)]

    assert await asyncio.gather(*before, *after) == [b"%d" % number for number in range(50)] * 2
    assert await killing in (0, 1)
    assert await connection.execute("CLIENT", "ID") != own_id


@pytest.mark.parametrize("fate", ["swallow_reply_to", "cut_reply_to"])
async def test_a_command_whose_reply_was_lost_is_sent_once_again(
    proxy: Proxy, proxied: Connection, namespace: str, fate: str
) -> None:
    """It ran already: that is why every script is idempotent. Here INCR counts how often it ran."""
    key = f"{namespace}:runs"
    await proxied.execute("SET", key, 0, "PX", 60_000)
    getattr(proxy, fate)(b"INCR")

    reply = await proxied.execute("INCR", key)

    await proxied.execute("DEL", key)
    assert reply == 2


async def test_a_command_is_sent_twice_at_most(proxy: Proxy, proxied: Connection, namespace: str) -> None:
    """What kills two connections would kill the third."""
    key = f"{namespace}:runs"
    await proxied.execute("SET", key, 0, "PX", 60_000)
    proxy.cut_reply_to(b"INCR", times=5)

    with pytest.raises(StoreUnavailable):
        await proxied.execute("INCR", key)

    assert await proxied.execute("GET", key) == b"2"
    await proxied.execute("DEL", key)


@pytest.mark.parametrize("cause", ["lost", "loading"])
async def test_what_is_sent_again_keeps_its_order(connection: Connection, namespace: str, cause: str) -> None:
    """Also before what was submitted since: a cancel must not overtake the enqueue that it is for."""
    key = f"{namespace}:order"
    await connection.execute("PING")
    first = [connection.submit("RPUSH", key, number) for number in (1, 2, 3)]
    await asyncio.sleep(0)  # they leave
    last = connection.submit("RPUSH", key, 4)

    if cause == "lost":
        connection.on_lost("as the link says when the connection is lost")
    else:
        connection.on_replies([ErrorReply("LOADING Redis is loading the dataset in memory")])

    await asyncio.gather(*first, last)
    assert await connection.execute("LRANGE", key, -4, -1) == [b"1", b"2", b"3", b"4"]
    await connection.execute("DEL", key)


async def test_a_slow_reply_is_not_taken_for_a_lost_one(proxy: Proxy, proxied: Connection) -> None:
    """The deadline is that of the oldest command; answered ones must not set it off."""
    await proxied.execute("PING")
    proxy.delay_s = DEADLINE_S / 3

    for number in range(5):
        assert await proxied.execute("ECHO", number) == b"%d" % number

    assert proxy.connection_count == 1


async def test_an_idle_connection_stays_open(proxy: Proxy, proxied: Connection) -> None:
    """The login's timeout must not go on to count afterwards."""
    await proxied.execute("PING")

    await asyncio.sleep(2 * DEADLINE_S)

    assert proxied.is_connected
    assert proxy.connection_count == 1


async def test_a_loop_that_stood_still_does_not_blame_redis(proxy: Proxy, redis_url: str) -> None:
    """The reply is there, unread. To send again would be needless, and under load it would never end."""
    connection = Connection(RedisTarget.from_url(redis_url), deadline_s=DEADLINE_S)
    before = await connection.execute("CLIENT", "ID")
    commands = [connection.submit("ECHO", b"x" * 100_000) for _ in range(50)]
    await asyncio.sleep(0)  # they leave

    time.sleep(2 * DEADLINE_S)  # noqa: ASYNC251  this is the fault under test

    assert len(await asyncio.gather(*commands)) == 50
    assert await connection.execute("CLIENT", "ID") == before
    await connection.aclose()


async def test_cancelled_callers_do_not_shift_the_replies_of_others(connection: Connection) -> None:
    """A cancelled caller drops its own reply and nothing else; the connection stays."""
    before = await connection.execute("CLIENT", "ID")
    callers = [asyncio.ensure_future(connection.execute("ECHO", number)) for number in range(100)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for caller in callers[::3]:
        caller.cancel()

    replies = await asyncio.gather(*callers, return_exceptions=True)

    assert [reply for reply in replies if isinstance(reply, bytes)] == [b"%d" % n for n in range(100) if n % 3]
    assert await connection.execute("CLIENT", "ID") == before


async def test_a_peer_that_does_not_read_slows_its_callers_down(proxy: Proxy) -> None:
    """Commands wait for room instead of piling up in memory, and none is lost.

    Not on redis-py's public methods: their ``writelines`` never pauses on Python 3.12.0 to 3.13.1 (gh-127655).
    """
    connection = Connection(RedisTarget.from_url(proxy.url), deadline_s=10.0)
    await connection.execute("PING")
    proxy.black_hole()
    value = b"x" * 1_000_000
    commands: list[asyncio.Task[Reply]] = []
    for _ in range(40):
        commands.append(asyncio.ensure_future(connection.execute("ECHO", value)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    accepted_count = len(connection._in_flight) + len(connection._unsent)
    proxy.heal()

    assert accepted_count < 40
    assert await asyncio.gather(*commands) == [value] * 40
    await connection.aclose()


async def test_a_wrong_password_is_refused_at_once_and_never_shown() -> None:
    """No retry helps, and the message goes into a log."""
    with running_redis() as server:
        await require_password(server)
        target = RedisTarget.from_url(server.url.replace("redis://", "redis://:wr0ng%21@"))
        connection = Connection(target, deadline_s=30.0)
        began = time.monotonic()

        with pytest.raises(StoreRefused) as caught:
            await connection.execute("PING")
        with pytest.raises(StoreRefused):
            await Connection(RedisTarget.from_url(server.url)).execute("PING")

        await connection.aclose()
        assert time.monotonic() - began < 5
        assert "wr0ng" not in f"{caught.value} {caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"


async def test_a_server_that_repeats_the_login_in_its_error_does_not_make_us_show_it() -> None:
    """``unknown command 'AUTH', with args beginning with: 'app' 'wr0ng'``: where AUTH was renamed."""
    with running_redis("--rename-command", "AUTH", "LOGIN") as server:
        connection = Connection(RedisTarget.from_url(server.url.replace("redis://", "redis://app:wr0ng@")))

        with pytest.raises(StoreRefused, match="unknown command") as caught:
            await connection.execute("PING")

        await connection.aclose()
        assert "wr0ng" not in "".join(traceback.format_exception(caught.value))


async def test_refusals_come_no_faster_than_the_pause_allows() -> None:
    """A worker that asks again and again must not become a storm of logins."""
    with running_redis() as server:
        await require_password(server)
        async with running_proxy(server.port) as proxy:
            connection = Connection(RedisTarget.from_url(proxy.url), deadline_s=2.0)
            began = time.monotonic()
            for _ in range(6):
                with pytest.raises(StoreRefused):
                    await connection.execute("PING")
            await connection.aclose()
            assert proxy.connection_count == 6
            assert time.monotonic() - began > 0.5


async def test_a_script_is_loaded_where_redis_forgot_it(connection: Connection, namespace: str) -> None:
    """A restart or failover empties the script cache; each of many concurrent calls still runs exactly once."""
    key = f"{namespace}:runs".encode()
    await connection.execute("SCRIPT", "FLUSH")

    replies = await asyncio.gather(*(connection.run_script(COUNT, [key], [1000]) for _ in range(50)))

    await connection.execute("DEL", key)
    assert sorted(reply for reply in replies if isinstance(reply, int)) == list(range(1001, 1051))


async def test_a_closed_connection_fails_what_waits_and_takes_nothing_more(proxy: Proxy, proxied: Connection) -> None:
    """Nobody may wait for ever for a reply that cannot come."""
    await proxied.execute("PING")
    proxy.black_hole()
    waiting = proxied.submit("PING")
    await asyncio.sleep(0)

    await proxied.aclose()

    with pytest.raises(StoreUnavailable, match="closed by this process"):
        await waiting
    with pytest.raises(StoreUnavailable, match="closed by this process"):
        await proxied.execute("PING")


async def test_closing_while_opening_leaves_nothing_behind(proxy: Proxy, proxied: Connection) -> None:
    """The login that is under way is given up, with its socket."""
    proxy.black_hole()
    waiting = proxied.submit("PING")
    await wait_until(lambda: proxy.connection_count == 1, description="a connection is being opened")

    await proxied.aclose()

    with pytest.raises(StoreUnavailable):
        await waiting
