"""docs/reference/wire-format.md says what the scripts do: every key, field, argument and word."""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast

import pytest
import redis.asyncio as redis_async

from arq_web.store import scripts
from arq_web.store.connection import Connections
from arq_web.store.record import DEFAULT_KEEP_S, DEFAULT_MAX_CRASHES, STATES, Note, encode_note
from arq_web.store.scripts import Verb
from arq_web.store.store import NewJob, Settlement, Store, WorkerKind
from arq_web.store.target import RedisTarget
from tests.docs.pages import DOCS, ROOT, code, code_blocks, headings, read, section, table

LUA = ROOT / "arq_web" / "store" / "lua"
PAGE = read("reference/wire-format.md")
VERBS = sorted(path.stem for path in LUA.glob("*.lua") if not path.stem.startswith("_"))
WORKER = "web-1:4242:9f2c11ab"


def lua(name: str) -> str:
    return (LUA / f"{name}.lua").read_text(encoding="utf-8")


def all_lua() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(LUA.glob("*.lua")))


def arguments_on_the_page(verb: str) -> list[str]:
    return [code(row[0])[0] for row in table(section(PAGE, verb), "argument")]


def test_every_script_has_a_section() -> None:
    """One verb, five places: this is the fifth."""
    assert sorted(headings(section(PAGE, "Scripts"), 3)) == VERBS


def test_every_file_that_scripts_share_is_named() -> None:
    shared = {f"{path.name}" for path in LUA.glob("_*.lua")}

    assert {word for word in code(section(PAGE, "Scripts")) if word.startswith("_")} == shared


@pytest.mark.parametrize("verb", VERBS)
def test_the_arguments_of_a_script_are_listed_in_their_order(verb: str) -> None:
    """Whoever sends a script by hand must not swap two."""
    loaded = getattr(scripts, verb.upper())
    assert isinstance(loaded, Verb)

    rest = [f"{loaded.rest}…"] if loaded.rest else []
    assert arguments_on_the_page(verb) == [*loaded.names, *rest]


@pytest.mark.parametrize("verb", ["enqueue", "settle", "renew", "relay"])
def test_the_fields_of_a_list_argument_are_listed_in_their_order(verb: str) -> None:
    """The binding line in the script names them."""
    [comment] = re.findall(r"^local \w+_from = \d+ -- ARGV\[\d+\.\.\]: (.+)$", lua(verb), re.MULTILINE)
    in_script = [field.strip() for field in re.sub(r"\([^)]*\)", "", comment).split(",")]
    [row] = [row for row in table(section(PAGE, verb), "argument") if row[0].endswith("…`")]

    assert code(row[1]) == in_script


def test_the_fields_of_a_new_job_are_those_of_its_script() -> None:
    """Python's order, Lua's order and the page's order are one."""
    body = lua("_create").partition("local function arguments(from)")[2].partition("\nend")[0]
    by_number = {int(n or 0): name for name, n in re.findall(r"(\w+) = (?:\w+\()?ARGV\[from(?: \+ (\d+))?\]", body)}
    [row] = [row for row in table(section(PAGE, "enqueue"), "argument") if row[0] == "`jobs…`"]

    assert code(row[1]) == [by_number[n] for n in sorted(by_number)]
    assert len(NewJob(id="a", task="b", payload=b"").arguments()) == len(by_number)


def test_every_key_is_listed_and_no_other() -> None:
    """A key that nobody documented is a key that nobody cleans up."""
    in_scripts = set(re.findall(r"base \.\. '(\w+:?)'", all_lua()))
    in_python = {
        name
        for path in (ROOT / "arq_web").rglob("*.py")
        for name in re.findall(r"base \+ b\"(\w+:?)\"", path.read_text(encoding="utf-8"))
    }
    on_page = {re.sub(r"<\w+>$", "", code(row[0])[0]) for row in table(section(PAGE, "Keys"), "key")}

    assert on_page == in_scripts
    assert in_python <= on_page


def test_the_first_line_of_a_record_is_described_in_its_order() -> None:
    """As the script writes it."""
    body = lua("_record").partition("local function save(")[2].partition("\\n")[0]
    written = re.findall(r"j\.(\w+)", body)

    assert [code(row[0])[0] for row in table(section(PAGE, "First line"), "field")] == written


def test_the_second_line_of_a_record_is_described_in_its_order() -> None:
    """As the script writes it, by the letters with which it reads it."""
    text = lua("_record")
    letters = dict(
        re.findall(r"\b([a-z]) = '(\w+)'", text.partition("local NUMBER")[2].partition("\nlocal DEFAULT")[0])
    )
    written = re.findall(r"' ([a-z])1?'", text.partition("local function spec_of(")[2].partition("\nend")[0])

    rows = table(section(PAGE, "Second line"), "letter")
    assert [(code(row[0])[0], code(row[1])[0]) for row in rows] == [(letter, letters[letter]) for letter in written]
    assert set(written) == set(letters)


def test_the_defaults_that_a_record_leaves_out_are_named() -> None:
    """Python and Lua must agree on what is not there."""
    rows = {code(row[1])[0]: row[2] for row in table(section(PAGE, "Second line"), "letter")}
    [in_lua] = re.findall(r"local DEFAULT_MAX_CRASHES, DEFAULT_KEEP_S = (\d+), (\d+)", lua("_record"))

    assert in_lua == (str(DEFAULT_MAX_CRASHES), str(DEFAULT_KEEP_S))
    assert f"; {DEFAULT_MAX_CRASHES} if not named" in rows["max_crashes"]
    assert f"; {DEFAULT_KEEP_S} if not named" in rows["keep_s"]


def test_the_fields_of_a_note_are_named() -> None:
    """All but those of a result."""
    text = section(PAGE, "Note and payload")

    assert {f"`{field}`" for field in Note.__struct_fields__} <= set(re.findall(r"`\w+`", text))


def test_the_letters_of_the_states_are_those_of_the_code() -> None:
    """They are what one sees first in a record."""
    rows = table(section(PAGE, "Letters of states"), "letter")

    assert {code(row[0])[0].encode(): row[1] for row in rows} == {k: v.value for k, v in STATES.items()}


def test_every_flag_is_explained() -> None:
    """A letter in the record means one thing."""
    [row] = [row for row in table(section(PAGE, "First line"), "field") if code(row[0]) == ["flags"]]

    assert set(code(row[1])) == set(re.findall(r"flag(?:ged)?\(j, '(\w)'\)", all_lua()))


def test_every_outcome_of_a_settle_is_listed() -> None:
    """Outcomes are words, not scripts."""
    outcomes = re.findall(r"^  (\w+) = function\(id, j", lua("settle"), re.MULTILINE)

    assert [code(row[0])[0] for row in table(section(PAGE, "settle"), "outcome")] == outcomes


def test_every_counter_is_listed() -> None:
    """They are counted by the outcomes of settle, and by name elsewhere."""
    outcomes = re.findall(r"^  (\w+) = function\(id, j", lua("settle"), re.MULTILINE)
    counted = set(re.findall(r"count\('(\w+)'", all_lua())) | set(outcomes)

    counted |= set(re.findall(r"\b[a-z] = '(\w+)'", lua("_end").partition("local COUNTED")[2].partition("}")[0]))

    assert set(code(section(PAGE, "Counters"))) - {"m:<minute>"} == counted


@pytest.mark.parametrize("verb", ["cancel", "dismiss", "redrive", "watch", "fire"])
def test_every_word_that_a_script_answers_is_listed(verb: str) -> None:
    """Words are the contract; numbers would be looked up."""
    answered = set(re.findall(r"return \{? ?'(\w+)'", lua(verb)))
    text = section(PAGE, verb)

    assert answered <= set(re.findall(r"[`']([a-z]+)['`]", text)), text


def test_the_reply_channel_is_the_one_described() -> None:
    """It is no key, but others see it in MONITOR."""
    source = (ROOT / "arq_web" / "store" / "reply_channel.py").read_text(encoding="utf-8")

    assert 'f"{namespace}:1:reply:{' in source
    assert "<namespace>:1:reply:<random>" in PAGE


async def test_the_example_is_what_redis_holds(redis_url: str, namespace: str, redis: redis_async.Redis) -> None:
    """Byte for byte, but for the times."""
    shown = {block.title: block.text for block in code_blocks(DOCS / "reference" / "wire-format.md") if block.title}
    connections = Connections(RedisTarget.from_url(redis_url))
    store = Store(connections, namespace, "default")
    seen: dict[str, str] = {}

    async def look(title: str) -> None:
        raw = cast("bytes", await redis.get(store.base + b"j:welcome:42"))
        seen[title] = re.sub(r"\b\d{13}\b", "<ms>", raw.decode())

    payload = b'{"user_id":42,"email":"ada@example.org"}'
    await store.enqueue([NewJob(id="welcome:42", task="tasks:send_welcome", payload=payload, nonce="mWkrWjpXwEk")])
    await look("enqueued")
    await store.claim(WORKER, WorkerKind.EXTERNAL, "kT3nB0c2VxE", 1, 8000)
    await look("claimed")
    note = encode_note(Note(reason="failed", type="OSError", message="no route"))
    await store.settle(WORKER, [Settlement("welcome:42", 1, "kT3nB0c2VxE", "retry", 2000, note)])
    await look("settled: retry")
    await redis.zadd(store.base + b"due", {"welcome:42": 1})
    await store.claim(WORKER, WorkerKind.EXTERNAL, "Zb81hYq0Wc4", 1, 8000)
    await store.settle(WORKER, [Settlement("welcome:42", 2, "Zb81hYq0Wc4", "complete", 3_600_000, b'{"r":"sent"}')])
    await look("settled: complete")
    await connections.aclose()

    assert seen == shown


def test_the_page_names_no_script_file_that_is_gone() -> None:
    """A prelude that was renamed would send readers into the void."""
    for name in re.findall(r"`(_?\w+)\.lua`", PAGE):
        assert Path(LUA, f"{name}.lua").exists(), name
