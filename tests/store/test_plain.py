"""The two transitions that are made on a record's bytes write what the long way writes, of whatever record.

Both scripts are the real ones, with the clock stopped; in one of them nothing is plain.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import cast

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from arq_web.store import scripts
from arq_web.store.connection import Reply
from arq_web.store.scripts import Argument, Verb
from arq_web.store.store import Store
from tests.support.store_helpers import LEASE_MS, WORKER, command, keys, new_job, put_record

NOW_MS = 1_800_000_000_000
KEEP_DEAD_MS = 604_800_000
TOKEN = "1.token"
MS = [3_600_000, 60_000, 59_999, 0, -1, 99_999_999_999_999, 100_000_000_000_000]

Prepare = Callable[[], Awaitable[None]]


def variant(name: str, *lines: str) -> Verb:
    """The script with its clock stopped, and with ``lines`` run before its own first one."""
    first = "local worker = ARGV[1]"
    head, rest = scripts.source(name).split(first)
    stopped = f"now_ms, now_us = {NOW_MS}, {NOW_MS - 1_735_689_600_000} * 1000"
    return scripts.bind(name, "\n".join([head.rstrip("\n"), stopped, *lines, first]) + rest)


AS_IT_IS = {name: variant(name) for name in ("claim", "settle")}
THE_LONG_WAY = {
    "claim": variant("claim", "plainly_claimed = function() end"),
    "settle": variant("settle", "plainly_completed = function() end"),
}
ONLY_PLAIN = {name: variant(name, "read = function() error('the long way') end") for name in ("claim", "settle")}

# -- records: those of ours in every combination, and what is nearly one ------------------------------------------

OPTIONS = [
    "nNONCE",
    "n-",
    "n",
    "p5",
    "p-1",
    "p+1",
    "p007",
    "p" + "9" * 11,
    "p" + "9" * 12,
    "p" + "9" * 15,
    "e1",
    "c1",
    "c",
]
OPTIONS += ["e4102444800000", "k0", "k60", "kx", "u42", "a1", "zfuture", "", "\t", "{", "{}", '{"keep_ms":5}', "nA{"]
OPTIONS += ["k60 nNONCE", "nA nB", "nA k60", "nA e1", "nA u42", 'nA {"keep_ms":5}']
OPTIONS += [
    '{"h":{"tenant":"a b"}}',
    'k60 {"h":{"x":"u42 {"}}',
    'nA p5 {"h":{}}',
    "nA{ {}",
    "u42 {}",
    " {}",
    "{} {}",
    "k60{}",
    "p5{",
    "nA c1{",
]
TASKS = [b"shop.tasks:send_mail", b"t", b"{", b"a{b}", b"a\x0bb"]
CREATED = [b"1763640000000", b"1", b"01", b"9" * 14, b"9" * 15, b"", b"-1"]

tasks = st.sampled_from(TASKS) | st.from_regex(rb"[!-~]{1,20}", fullmatch=True)
words = st.sampled_from([word.encode() for word in OPTIONS])
created = st.just(CREATED[0]) | st.sampled_from(CREATED)
bodies = st.sampled_from([b"", b"{}", b"note{}", b"\n\n", b"{\n}"]) | st.binary(max_size=12)
ORDINARY = (
    b"r",
    b"1",
    b"0",
    b"0",
    b"0",
    TOKEN.encode(),
    b"1763640000002",
    b"1763640000001",
    b"0",
    b"-",
    WORKER.encode(),
)
ODD = (
    [b"q", b"s", b"t", b"c", b"x", b"R"],
    [b"01", b"2", b"9" * 20],  # attempt
    [b"1", b"00", b"9" * 20, b"x"],  # failures
    [b"1", b"00", b"12"],  # crashes
    [b"1", b"00", b"99"],  # bytes of the note
    [b"2.other", b"-"],
    [b"0", b"007"],  # since
    [b"0", b"007", b"9" * 20],  # started
    [b"1763640000009", b"00", b"x"],  # due
    [b"c", b"w", b"cw", b"n", b"a"],  # flags
    [b"-", b"other"],
)


@st.composite
def first_lines(draw: st.DrawFn) -> bytes:
    """That of an ordinary running job, or one that differs a little."""
    fields = list(ORDINARY)
    for at in draw(st.sampled_from([[], []]) | st.lists(st.integers(0, 10), max_size=2)):
        fields[at] = draw(st.sampled_from(ODD[at]))
    return b" ".join(fields)


@st.composite
def records(draw: st.DrawFn, heads: st.SearchStrategy[bytes]) -> bytes:
    """Two lines and a body; now and then with some bytes changed."""
    options = b"".join(b" " + word for word in draw(st.lists(words, max_size=1) | st.lists(words, max_size=3)))
    raw = bytearray(b"\n".join([draw(heads), draw(created) + b" " + draw(tasks) + options, draw(bodies)]))
    for _ in range(draw(st.sampled_from([0, 0, 0, 0, 1]))):
        start = draw(st.integers(0, len(raw)))
        end = min(len(raw), start + draw(st.integers(0, 3)))
        raw[start:end] = draw(st.binary(max_size=3) | st.sampled_from([b" ", b"\n", b"9" * 20, b"-", b"{"]))
    return bytes(raw)


@dataclass(frozen=True)
class Entry:
    """One settlement, as the script gets it."""

    id: str
    attempt: int
    outcome: str
    ms: int
    note: bytes

    def arguments(self) -> list[Argument]:
        return [self.id, self.attempt, TOKEN, self.outcome, self.ms, self.note]


names = st.sampled_from(["a", "b", "c"])
entries = st.builds(
    Entry,
    names,
    st.sampled_from([1, 1, 1, 1, 2]),
    st.sampled_from(["complete"] * 8 + ["retry", "bury", "cancel", "release", "crash", "reject"]),
    st.just(MS[0]) | st.sampled_from(MS),
    st.sampled_from([b'{"r":1}', b""]) | st.binary(max_size=8),
)
queued = records(st.just(b"q") | st.just(b"q") | first_lines())
running = records(first_lines())


def second_lines() -> list[bytes]:
    """Each that differs in one thing from an ordinary one."""
    ends = [b" " + word.encode() for word in OPTIONS]
    return [
        *(at + b" t" for at in CREATED),
        *(CREATED[0] + b" " + task for task in TASKS),
        *(CREATED[0] + b" t" + end for end in ends),
    ]


def odd_first_lines() -> list[bytes]:
    """The ordinary one, and each that differs from it in one field."""
    odd = [[*ORDINARY[:at], field, *ORDINARY[at + 1 :]] for at, fields in enumerate(ODD) for field in fields]
    return [b" ".join(fields) for fields in (ORDINARY, *odd)]


with_redis = settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


async def test_both_ways_claim_alike_whatever_is_odd(store: Store) -> None:
    raws = [b"q\n" + line + b"\n{}" for line in second_lines()]
    raws += [line + b"\n1763640000000 t\n{}" for line in (b"q", b"q ", *odd_first_lines())]

    async def prepare() -> None:
        for place, raw in enumerate(raws):
            await put_record(store, f"job-{place}", raw, score=place)
        await surround(store, set(), {"job-0"})

    await assert_alike(store, "claim", claim_arguments(1000), prepare)


@pytest.mark.parametrize("ms", MS)
async def test_both_ways_settle_alike_whatever_is_odd(store: Store, ms: int) -> None:
    raws = [b" ".join(ORDINARY) + b"\n" + line + b"\n{}" for line in second_lines()]
    raws += [line + b"\n1763640000000 t\n{}" for line in odd_first_lines()]
    place_of_unique = next(place for place, raw in enumerate(raws) if b" t u42\n" in raw)
    ended = [Entry(f"job-{place}", 1, "complete", ms, b'{"r":1}') for place in range(len(raws))]

    async def prepare() -> None:
        for place, raw in enumerate(raws):
            await put_record(store, f"job-{place}", raw, index="leases", score=place)
        await surround(store, set(), {"job-0"}, holder=f"job-{place_of_unique}")

    await assert_alike(store, "settle", settle_arguments(ended), prepare)


@with_redis
@given(ready=st.dictionaries(names, queued, min_size=1), aside=st.sets(names), watched=st.sets(names))
@example(ready={"a": b"q\n1763640000000 t nNONCE k60\n{}"}, aside=set(), watched=set())
@example(ready={"a": b"q\n1763640000000 t\n{}", "b": b"q", "c": b"q\n1763640000000 t a1\n"}, aside={"c"}, watched={"a"})
async def test_both_ways_claim_alike(store: Store, ready: dict[str, bytes], aside: set[str], watched: set[str]) -> None:
    async def prepare() -> None:
        for place, (name, raw) in enumerate(ready.items()):
            await put_record(store, name, raw, score=place)
        await surround(store, aside, watched)

    await assert_alike(store, "claim", claim_arguments(10), prepare)


@with_redis
@given(
    held=st.dictionaries(names, running, min_size=1),
    ended=st.lists(entries, min_size=1, max_size=4),
    aside=st.sets(names),
    watched=st.sets(names),
)
@example(
    held={"a": b"r 1 0 0 0 1.token 1 2 0 - w\n1763640000000 t nNONCE k60\n{}"},
    ended=[Entry("a", 1, "complete", 3_600_000, b"1")],
    aside=set(),
    watched=set(),
)
@example(
    held={"a": b"r 1 0 0 0 1.token 1 2 0 - w\n1763640000000 t\n{}"},
    ended=[
        Entry("a", 1, "complete", 60_000, b"1"),
        Entry("a", 1, "complete", 60_000, b"2"),
        Entry("a", 1, "bury", 0, b""),
    ],
    aside=set(),
    watched=set(),
)
@example(
    held={"a": b"r 01 00 1 0 1.token 1 2 0 - w\n1763640000000 t\n{}"},
    ended=[Entry("a", 1, "complete", 60_000, b"1")],
    aside=set(),
    watched=set(),
)
async def test_both_ways_settle_alike(
    store: Store, held: dict[str, bytes], ended: list[Entry], aside: set[str], watched: set[str]
) -> None:
    """The same job may be twice among the entries: the second finds it ended."""

    async def prepare() -> None:
        for name, raw in held.items():
            await put_record(store, name, raw, index="leases", score=NOW_MS + LEASE_MS)
            await command(store, "SADD", store.base + f"h:{WORKER}".encode(), name)
        await surround(store, aside, watched)

    await assert_alike(store, "settle", settle_arguments(ended), prepare)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"nonce": "-"},
        {"keep_s": 60},
        {"max_crashes": 1},
        {"priority": 5},
        {"extra": b'{"h":{"tenant":"acme"}}'},
        {"nonce": "-", "keep_s": 60, "extra": b'{"timeout_ms":5,"h":{"tenant":"a {b"}}'},
    ],
    ids=str,
)
async def test_nearly_every_job_is_plain(store: Store, options: dict[str, int | str | bytes]) -> None:
    """Else all this is for nothing: nobody would notice but by the time it takes."""
    await store.enqueue([new_job("a", **options)])

    claimed = await run(store, ONLY_PLAIN["claim"], claim_arguments(1))
    settled = await run(store, ONLY_PLAIN["settle"], settle_arguments([Entry("a", 1, "complete", 60_000, b"1")]))

    assert (cast("list[Reply]", claimed)[5], settled) == (b"a", [1])


@pytest.mark.parametrize(
    "line",
    [
        b"q\n1 " + b"a" * 500_000,
        b"q\n1 t" + b" {}" * 200_000,
        b"q\n1 t" + b" nA {" * 100_000,
        b"q\n1 t " + b"a" * 500_000,
        b"r 1 0 0 0 " + b"9" * 500_000,
    ],
)
async def test_a_long_line_without_an_end_does_not_keep_redis(store: Store, line: bytes) -> None:
    """Whose bytes they are is found out in one pass. If each letter began another, it would take minutes."""
    await put_record(store, "a", line)
    await put_record(store, "b", b"q\n1763640000000 t\n{}", score=1)

    reply = await run(store, AS_IT_IS["claim"], claim_arguments(10))  # within the connection's deadline

    assert cast("list[Reply]", reply)[5] == b"b"


# -- the two ways ---------------------------------------------------------------------------------------------------


def claim_arguments(limit: int) -> list[Argument]:
    return scripts.CLAIM.arguments(
        worker=WORKER,
        kind="x",
        token=TOKEN,
        limit=limit,
        lease_ms=LEASE_MS,
        alive_ms=LEASE_MS,
        slots=1,
        keep_dead_ms=KEEP_DEAD_MS,
    )


def settle_arguments(ended: Sequence[Entry]) -> list[Argument]:
    rest = [argument for entry in ended for argument in entry.arguments()]
    return scripts.SETTLE.arguments(rest, worker=WORKER, keep_dead_ms=KEEP_DEAD_MS)


async def surround(store: Store, aside: set[str], watched: set[str], holder: str = "a") -> None:
    """Payloads of their own, watchers, and a unique key."""
    for name in sorted(aside):
        await command(store, "SET", store.base + b"p:" + name.encode(), "aside")
    for name in sorted(watched):
        await command(store, "SADD", store.base + b"w:" + name.encode(), "channel")
    await command(store, "SET", store.base + b"u:42", holder)


async def assert_alike(store: Store, name: str, arguments: list[Argument], prepare: Prepare) -> None:
    """From the same beginning, both ways answer the same and leave the same."""
    found = []
    for verb in (AS_IT_IS[name], THE_LONG_WAY[name]):
        await prepare()
        answer = await run(store, verb, arguments)
        found.append((answer, await contents(store)))
        await command(store, "DEL", *await keys(store))
    (answer, left), (long_answer, long_left) = found

    assert answer == long_answer
    assert left.keys() == long_left.keys()
    for key, (value, end_ms) in left.items():
        long_value, long_end_ms = long_left[key]
        assert (key, value) == (key, long_value)
        assert (end_ms < 0) is (long_end_ms < 0)
        assert abs(end_ms - long_end_ms) < 5_000


async def run(store: Store, verb: Verb, arguments: list[Argument]) -> Reply:
    return await store.connections.get(store.base).run_script(verb.script, (store.base,), arguments)


async def contents(store: Store) -> dict[bytes, tuple[Reply, int]]:
    """Every key: its bytes, and the rest of its life, ms."""
    return {
        key: (await command(store, "DUMP", key), cast("int", await command(store, "PTTL", key)))
        for key in await keys(store)
    }
