"""The how-to about transactions: its apps, its statements, its numbers."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import MetaData, event
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.schema import CreateTable

from arq_web import Hub
from arq_web.outbox import outbox_table
from arq_web.outbox.database import BATCH_COUNT
from arq_web.outbox.relay import UNKNOWN_AFTER_MS
from tests.docs.apps import app_on
from tests.docs.examples import transaction_fastapi, transaction_litestar
from tests.docs.examples.transaction_shop import Base, engine, send_receipt
from tests.docs.pages import DOCS, code_blocks, read

PAGE = "how-to/enqueue-with-your-transaction.md"


@pytest.fixture(params=[transaction_fastapi.app, transaction_litestar.app], ids=["fastapi", "litestar"])
async def client(
    request: pytest.FixtureRequest, redis_url: str, namespace: str, tmp_path: Path
) -> AsyncIterator[tuple[Hub, httpx.AsyncClient]]:
    """The page's app, with a database in a folder of its own."""

    def connect_there(_dialect: object, _record: object, arguments: list[str], _options: object) -> None:
        arguments[0] = str(tmp_path / "shop.sqlite")

    event.listen(engine.sync_engine, "do_connect", connect_there)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    async with app_on(request.param, redis_url, namespace) as (hub, client):
        yield hub, client
    await engine.dispose()
    event.remove(engine.sync_engine, "do_connect", connect_there)


@pytest.mark.parametrize("path", ["/orders", "/orders/quick", "/orders/1/receipt"])
async def test_each_way_leads_to_a_receipt(client: tuple[Hub, httpx.AsyncClient], path: str) -> None:
    """The job finds the order that its request has written."""
    hub, web = client
    await web.post("/orders/quick", params={"email": "first@example.org"})
    response = await web.post(path, params={"email": "ada@example.org"})
    assert response.is_success, response.text
    await hub.worker(burst=True).run()

    receipt = await hub.queue().job(response.json()["job"], send_receipt).result(timeout=5)

    assert receipt == f"receipt for {'first' if 'receipt' in path else 'ada'}@example.org"


@pytest.mark.parametrize("dialect", [sqlite, postgresql, mysql])
def test_the_statements_of_the_page_are_those_of_the_table(dialect: Any) -> None:
    shown = {block.title: block.text for block in code_blocks(DOCS / PAGE) if block.language == "sql"}
    made = str(CreateTable(outbox_table(MetaData())).compile(dialect=dialect.dialect()))

    assert words(shown[dialect.dialect.name]) == [*words(made), ";"]


def test_the_numbers_of_the_page_are_those_of_the_code() -> None:
    page = read(PAGE)

    assert f"{BATCH_COUNT} at a time" in page
    assert f"more than {UNKNOWN_AFTER_MS // 86_400_000} days" in page


def words(sql: str) -> list[str]:
    return re.findall(r"\w+|[^\s\w]", sql)
