"""The links of every answer, whatever prefix a proxy or a mount has said."""

from __future__ import annotations

import asyncio
import json

import pytest

from arq_web.http.paths import encoded_path
from tests.http.site import Site
from tests.http.streaming import Stream, scope_of

HOSTILE = [
    ("/日本", "/%E6%97%A5%E6%9C%AC"),
    ('/a>; rel="next", <b', "/a%3E%3B%20rel%3D%22next%22%2C%20%3Cb"),
    ("/a\r\nset-cookie: b", "/a%0D%0Aset-cookie%3A%20b"),
    ("//evil.example", "/evil.example"),
    ("/\\evil.example", "/%5Cevil.example"),
    ("/100%", "/100%25"),
    ("/\ud800", "/%3F"),
]


@pytest.mark.parametrize(("path", "shown"), HOSTILE)
def test_what_is_no_path_is_encoded(path: str, shown: str) -> None:
    assert encoded_path(path) == shown


@pytest.mark.parametrize("path", ["", "/jobs", "/v1/my%20jobs", "/a;b=1/~c@d:e(f)!$&'*+,", "/a//b/"])
def test_a_path_stays_as_it_is(path: str) -> None:
    assert encoded_path(path) == path


@pytest.mark.parametrize(("root_path", "shown"), HOSTILE[:4])
async def test_any_prefix_can_be_said_in_the_202(site: Site, root_path: str, shown: str) -> None:
    """It is said after the job was enqueued: an error here would make the client send it again."""
    stream = Stream()

    scope = {**scope_of("/loose", method="POST"), "root_path": root_path}
    scope["path"] = root_path + "/loose" if site.name == "fastapi" else "/loose"
    await asyncio.wait_for(site.app(scope, stream.receive, stream.send), 2)

    where = f"{shown}/jobs/{json.loads(stream.body)['id']}"
    assert (stream.status, stream.headers["location"]) == (202, where)
    assert stream.headers["link"].count("<") == stream.headers["link"].count("; rel=") == 2
    assert json.loads(stream.body)["links"]["self"] == where
