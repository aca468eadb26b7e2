"""The OpenAPI document: valid, the same in both frameworks, and enough for a generated client."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from openapi_spec_validator import validate
from typer.testing import CliRunner

from arq_web.http.problems import ProblemType
from tests.http.site import MakeSite, Site

ALL = ["status", "result", "events", "cancel", "list", "delete"]
Json = dict[str, Any]


def nobody(request: object) -> None:
    return None


async def document_of(site: Site) -> Json:
    response = await site.ask("GET", site.openapi_path)
    assert response.status_code == 200, response.text
    found: Json = response.json()
    return found


@pytest.fixture
async def document(make_site: MakeSite) -> Json:
    return await document_of(make_site(routes=ALL, owner=nobody))


async def test_the_document_is_valid(document: Json) -> None:
    """By its standard: tools reject what is not."""
    validate(document)


async def test_a_second_look_is_the_same_document(site: Site) -> None:
    """It is kept where it was made, and must not be described twice."""
    assert await document_of(site) == await document_of(site)


async def test_both_frameworks_describe_our_routes_alike(make_sites: Callable[..., list[Site]]) -> None:
    """But for the names that each gives to operations."""
    documents = [await document_of(site) for site in make_sites(routes=ALL, owner=nobody)]

    described = [
        {
            (path, method): {key: said for key, said in operation.items() if key not in ("operationId", "deprecated")}
            for path, operations in document["paths"].items()
            if path.startswith("/jobs")
            for method, operation in operations.items()
        }
        for document in documents
    ]
    assert described[0] == described[1]
    assert described[0].keys() == {
        ("/jobs", "get"),
        ("/jobs/{job_id}", "get"),
        ("/jobs/{job_id}", "delete"),
        ("/jobs/{job_id}/result", "get"),
        ("/jobs/{job_id}/events", "get"),
        ("/jobs/{job_id}/cancel", "post"),
    }


async def test_both_frameworks_describe_a_202_alike(make_sites: Callable[..., list[Site]]) -> None:
    first, second = [await document_of(site) for site in make_sites()]

    for path in ("/greet", "/loose", "/note"):
        said = [{**accepted(document, path), "x-result": None} for document in (first, second)]
        assert said[0] == said[1]
        assert headers(first, path) == headers(second, path)


async def test_routes_that_the_app_has_not_are_not_described(make_site: MakeSite) -> None:
    document = await document_of(make_site(routes=["status"]))

    assert {path for path in document["paths"] if path.startswith("/jobs")} == {"/jobs/{job_id}"}
    assert accepted(document, "/greet")["links"].keys() == {"status"}


async def test_a_202_leads_to_the_routes_of_its_job(document: Json) -> None:
    """By links, which a generated client can follow."""
    links = accepted(document, "/greet")["links"]

    assert links.keys() == {"status", "result", "events", "cancel"}
    for link in links.values():
        operation = at(document, link["operationRef"])
        names = {each["name"] for each in operation["parameters"] if each["in"] in ("path", "query")}
        assert link["parameters"].keys() <= names


async def test_the_result_has_the_handlers_own_schema(document: Json) -> None:
    result = accepted(document, "/greet")["x-result"]

    assert result["status"] == 200
    schema = at(document, result["content"]["application/json"]["schema"]["$ref"])
    assert schema["properties"].keys() == {"words", "length"}


async def test_the_expiry_of_an_idempotency_key_is_published(document: Json) -> None:
    """As its draft demands: a client must know until when it may repeat."""
    key = next(each for each in parameters(document, "/greet") if each["name"] == "Idempotency-Key")

    assert (key["in"], key["required"]) == ("header", False)
    assert "24 h" in key["description"]
    assert key["schema"]["maxLength"] == 255


async def test_a_route_that_grants_a_wait_says_what_may_come_of_it(document: Json) -> None:
    """The handler's own answer, in the place of the 202."""
    operation = document["paths"]["/greet"]["post"]

    assert "Prefer" in {each["name"] for each in operation["parameters"]}
    own = operation["responses"]["200"]
    assert own["content"] == accepted(document, "/greet")["x-result"]["content"]
    assert own["headers"].keys() == {"Preference-Applied", "Content-Location"}
    assert "Prefer" not in {each["name"] for each in parameters(document, "/note")}
    assert "200" not in document["paths"]["/note"]["post"]["responses"]


async def test_every_problem_is_in_some_description(document: Json) -> None:
    """By its slug, where it can come."""
    from arq_web.http import problems  # noqa: PLC0415 - looked through

    text = json.dumps(document)
    optional = {"queue-full", "idempotency-key-missing"}  # where the app has asked for them
    kinds = [each for each in vars(problems).values() if isinstance(each, ProblemType)]
    missing = {kind.slug for kind in kinds if f"`{kind.slug}`" not in text}

    assert len(kinds) > 10
    assert missing <= optional


async def test_a_full_queue_is_described_where_there_is_a_limit(make_site: MakeSite) -> None:
    document = await document_of(make_site(max_queued=5))

    assert "`queue-full`" in document["paths"]["/greet"]["post"]["responses"]["503"]["description"]


class TestGeneratedClient:
    """What openapi-python-client makes of the document: typed, and it works."""

    @pytest.fixture
    async def site(self, make_site: MakeSite) -> Site:
        return make_site(routes=ALL, owner=lambda request: "ann")

    @pytest.fixture
    async def package(self, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ModuleType]:
        from openapi_python_client.cli import app  # noqa: PLC0415 - slow

        document = tmp_path / "openapi.json"
        document.write_text(json.dumps(await document_of(site)), encoding="utf-8")
        name = f"client_of_{site.name}"
        command = ["generate", "--path", str(document), "--output-path", str(tmp_path / name), "--meta", "none"]
        made = CliRunner().invoke(app, command)
        assert made.exit_code == 0, made.output
        monkeypatch.syspath_prepend(tmp_path)
        yield importlib.import_module(name)
        for module in [each for each in sys.modules if each.partition(".")[0] == name]:
            del sys.modules[module]

    async def test_it_submits_looks_waits_lists_and_cancels(self, site: Site, package: ModuleType) -> None:
        """Only by what was generated."""
        client = package.Client(base_url="http://web")
        client.set_async_httpx_client(site.client)
        models = importlib.import_module(f"{package.__name__}.models")

        greeting = models.Greeting(name="Ann")
        posted = await operation(package, "greet", "greet").asyncio(client=client, body=greeting, idempotency_key="k1")
        again = await operation(package, "greet", "greet").asyncio(client=client, body=greeting, idempotency_key="k1")
        assert (posted.id, posted.created, again.id, again.created) == (again.id, True, posted.id, False)
        await site.run()

        job = await operation(package, "job_status").asyncio(posted.id, client=client)
        result = await operation(package, "job_result").asyncio_detailed(posted.id, client=client)
        listed = await operation(package, "job_list").asyncio(client=client)
        refused = await operation(package, "job_cancel").asyncio(posted.id, client=client)
        unknown = await operation(package, "job_status").asyncio("0123456789ab4def8123456789abcdef", client=client)

        assert (job.state, job.done, job.result) == (
            models.JobState.SUCCEEDED,
            True,
            {"words": "Hello, Ann.", "length": 11},
        )
        assert models.Greeted.from_dict(json.loads(result.content)).words == "Hello, Ann."
        assert [each.id for each in listed.jobs] == [posted.id]
        assert (refused.status, refused.job) == (409, posted.id)
        assert (unknown.status, unknown.title) == (404, "No such job")


def operation(package: ModuleType, name: str, path: str = "") -> Any:
    """The module of an operation: each framework names them otherwise."""
    root = Path(str(package.__file__)).parent / "api"
    words = name.replace("_", "")
    for file in sorted(root.rglob("*.py")):
        if words in file.stem.replace("_", "") and "plain" not in file.stem:
            return importlib.import_module(f"{package.__name__}.api.{file.parent.name}.{file.stem}")
    pytest.fail(f"no operation {name}")


def accepted(document: Json, path: str) -> Json:
    found: Json = document["paths"][path]["post"]["responses"]["202"]
    return found


def parameters(document: Json, path: str) -> list[Json]:
    found: list[Json] = document["paths"][path]["post"]["parameters"]
    return found


def headers(document: Json, path: str) -> list[Json]:
    return [each for each in parameters(document, path) if each["in"] == "header"]


def at(document: Json, pointer: str) -> Json:
    """What a ``#/...`` leads to."""
    found: Any = document
    for step in pointer.removeprefix("#/").split("/"):
        found = found[step.replace("~1", "/").replace("~0", "~")]
    assert isinstance(found, dict)
    return found
