"""How-to: test your jobs, with Litestar. Pytest collects this file itself."""

from collections.abc import Iterator
from typing import Any

import pytest
from litestar.testing import TestClient

from arq_web.testing import JobTester
from tests.docs.examples.first_job_litestar import app, send_welcome


# --8<-- [start:litestar]
@pytest.fixture
def client(jobs: JobTester) -> Iterator[TestClient[Any]]:  # litestar.testing's
    with TestClient(app) as client:
        yield client


def test_signing_up_sends_a_welcome(client: TestClient[Any], jobs: JobTester) -> None:
    client.post("/signup/42")

    jobs.assert_enqueued(send_welcome, 42)
    [job] = jobs.run_all_sync()
    assert job.result == "sent a welcome to user 42"
    # --8<-- [end:litestar]


@pytest.fixture
def jobs_app() -> object:
    return app
