"""The loader: a script's own lines are its signature."""

from __future__ import annotations

from importlib import resources

import pytest

from arq_web.store import scripts
from arq_web.store.connection import Connections
from arq_web.store.scripts import Verb, bind
from arq_web.store.store import Store
from tests.support.store_helpers import claim_one, command, enqueue_one

HEAD = "-- verb: does something.\n"
VERBS = [verb for verb in vars(scripts).values() if isinstance(verb, Verb)]


def test_the_binding_lines_name_the_arguments_in_order() -> None:
    verb = bind(
        "verb", HEAD + "local id = ARGV[1]\nlocal limit_ms = tonumber(ARGV[2])\nlocal jobs_from = 3 -- ARGV[3..]: id\n"
    )

    assert (verb.names, verb.rest) == (("id", "limit_ms"), "jobs")
    assert verb.arguments(["x", "y"], limit_ms=5, id="a") == ["a", 5, "x", "y"]
    assert verb.arguments(limit_ms=5, id="a") == ["a", 5]


@pytest.mark.parametrize(
    "arguments",
    [{"id": "a"}, {"id": "a", "limit_ms": 5, "more": 1}, {"id": "a", "limit": 5}, {}],
    ids=["missing", "too many", "misspelt", "none"],
)
def test_a_name_that_does_not_fit_is_a_type_error(arguments: dict[str, str | int]) -> None:
    """Two swapped arguments of one type would never be noticed."""
    verb = bind("verb", HEAD + "local id = ARGV[1]\nlocal limit_ms = tonumber(ARGV[2])\n")

    with pytest.raises(TypeError, match="'verb'"):
        verb.arguments((), **arguments)


def test_a_list_for_a_script_without_one_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="'verb'"):
        bind("verb", HEAD + "local id = ARGV[1]\n").arguments(["x"], id="a")


@pytest.mark.parametrize(
    "lines",
    [
        "local a = ARGV[2]\nlocal b = ARGV[1]\n",
        "local a = ARGV[1]\nlocal b = ARGV[1]\n",
        "local a = ARGV[1]\nlocal b = ARGV[3]\n",
        "local a = ARGV[0]\n",
        "local a = ARGV[1]\nlocal jobs_from = 3 -- ARGV[3..]\n",
        "local jobs_from = 1 -- ARGV[1..]\nlocal more_from = 2 -- ARGV[2..]\n",
    ],
    ids=["swapped", "twice", "a gap", "from zero", "a gap before the list", "two lists"],
)
def test_numbers_that_do_not_count_from_one_are_refused(lines: str) -> None:
    with pytest.raises(ValueError, match=r"verb\.lua must bind"):
        bind("verb", HEAD + lines)


def test_a_script_gets_the_preludes_that_its_head_names_in_that_order() -> None:
    verb = bind("verb", "-- verb: does something.\n-- Returns 1. Uses _end, _promote.\npromote()\n")

    text = verb.script.text.decode()
    places = [text.index(name) for name in ("local base", "local function finish", "local function promote", "-- verb")]
    assert places == sorted(places)


def test_what_a_script_does_not_use_of_its_preludes_is_left_out() -> None:
    """Redis makes every function anew at each call."""
    verb = bind("verb", "-- verb: does something.\n-- Returns 1. Uses _end, _promote.\nexpired('a', {})\n")

    text = verb.script.text.decode()
    assert "local function finish" in text  # expired() uses it
    assert "local function promote" not in text
    assert "local function crash" not in text


def test_a_script_may_try_a_short_way_before_everything_else() -> None:
    text = bind("verb", "-- verb: does something. Tries _lone first.\nreturn 1\n").script.text.decode()

    assert text.startswith("-- _lone")
    assert text.endswith("return 1\n")


def test_a_prelude_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        bind("verb", "-- verb: does something. Uses _nothing.\nreturn 1\n")


def test_every_script_is_loaded() -> None:
    folder = resources.files("arq_web.store").joinpath("lua")
    files = {path.name.removesuffix(".lua") for path in folder.iterdir() if not path.name.startswith("_")}

    assert {verb.script.name for verb in VERBS} == files


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.script.name)
async def test_redis_compiles_every_script_and_calls_it_as_we_do(connections: Connections, verb: Verb) -> None:
    reply = await connections.get().execute("SCRIPT", "LOAD", verb.script.text)

    assert reply == verb.script.sha.encode()


async def test_a_script_that_redis_has_forgotten_is_sent_again(store: Store) -> None:
    """After a restart or a failover, Redis knows none of them."""
    await enqueue_one(store, "a")
    await command(store, "SCRIPT", "FLUSH")

    assert (await claim_one(store)).id == "a"
