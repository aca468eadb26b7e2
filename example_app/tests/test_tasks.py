"""The tasks, called as the functions they are; mail goes over a real SMTP connection."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from arq_web import DoNotRetry, Retry
from example_app.shop import database, orders, tasks
from example_app.tests.conftest import Inbox

CUSTOMER = UUID(int=7)


async def test_a_welcome_mail_arrives(inbox: Inbox) -> None:
    message_id = await tasks.send_welcome(CUSTOMER, "Änn", "ann@example.com")

    [mail] = inbox.mails
    assert (mail["To"], mail["Subject"], mail["Message-ID"]) == ("ann@example.com", "Welcome", message_id)
    assert "Hello Änn" in mail.get_payload(decode=True).decode()  # type: ignore[union-attr]


async def test_a_mail_server_that_is_away_means_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_SMTP_PORT", "1")

    with pytest.raises(Retry) as caught:
        await tasks.send_welcome(CUSTOMER, "Ann", "ann@example.com")

    assert caught.value.delay


async def test_a_mail_server_that_is_busy_means_again_later(inbox: Inbox) -> None:
    inbox.answer = "451 come back later"

    with pytest.raises(Retry, match="come back later"):
        await tasks.send_welcome(CUSTOMER, "Ann", "ann@example.com")


async def test_an_address_that_does_not_exist_is_not_tried_again(inbox: Inbox) -> None:
    inbox.answer = "550 no such mailbox"

    with pytest.raises(DoNotRetry, match="no such mailbox"):
        await tasks.send_welcome(CUSTOMER, "Ann", "ann@example.com")


async def test_a_receipt_names_what_was_ordered(shop_data: Path, inbox: Inbox) -> None:
    async with database.lifespan(), database.open_session() as session:
        order = await orders.place(session, orders.OrderForm("canvas", "ann@example.com"))
        await session.commit()
        message_id = await tasks.send_receipt(order.id, "ann@example.com")

    [mail] = inbox.mails
    assert (mail["To"], mail["Message-ID"]) == ("ann@example.com", message_id)
    assert "one canvas, 49.00 euros" in str(mail.get_payload())


async def test_the_nightly_digest_goes_to_the_owner(shop_data: Path, inbox: Inbox) -> None:
    async with database.lifespan():
        await tasks.nightly_digest()

    [mail] = inbox.mails
    assert mail["To"] == "owner@shop.example"
    assert "Yesterday brought" in str(mail.get_payload())


def test_the_digest_is_due_at_three_in_the_shops_own_zone() -> None:
    [nightly] = tasks.SCHEDULES
    berlin = ZoneInfo("Europe/Berlin")
    noon_ms = int(datetime(2026, 7, 1, 12, tzinfo=berlin).timestamp() * 1000)

    due = datetime.fromtimestamp(nightly.times.next_after_ms(noon_ms) / 1000, berlin)

    assert (due.day, due.hour, due.minute) == (2, 3, 0)


def test_the_shop_knows_no_web_framework() -> None:
    """It would be one shop less to compare: each front door adds its framework, and nothing else."""
    code = "import sys, example_app.shop.tasks; print({'fastapi', 'litestar', 'starlette'} & set(sys.modules))"

    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert answer.stdout.strip() == "set()"
