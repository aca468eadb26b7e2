"""Mail over SMTP: what the shop writes, and whether the server took it."""

from __future__ import annotations

from email.message import EmailMessage
from email.utils import formatdate

import aiosmtplib

from example_app.shop.settings import settings

SENDER = "Photo shop <hello@shop.example>"
TIMEOUT_S = 10.0


class MailDelayed(Exception):
    """The server was not there, or said to come back: later it may go."""


class MailRefused(Exception):
    """The server said no, and would say so again."""


def compose(to: str, subject: str, text: str, *, unique: str) -> EmailMessage:
    """Write a mail. ``unique`` becomes its Message-ID.

    A job may run twice, if its worker dies between the server's "250 OK" and the record of it. The same id both times
    lets the receiver's mail system recognise the second one.
    """
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = SENDER, to, subject
    message["Date"] = formatdate()
    message["Message-ID"] = f"<{unique}@shop.example>"
    message.set_content(text)
    return message


async def send(message: EmailMessage) -> None:
    """Hand a mail to the server of the settings.

    Raises:
        MailDelayed: not now.
        MailRefused: never.
    """
    host, port = settings().smtp_host, settings().smtp_port
    try:
        await aiosmtplib.send(message, hostname=host, port=port, timeout=TIMEOUT_S)
    except (aiosmtplib.SMTPException, OSError) as error:
        kind = MailRefused if _is_final(error) else MailDelayed
        raise kind(f"{host}:{port}: {error}") from error


def _is_final(error: Exception) -> bool:
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        return all(_is_final(each) for each in error.recipients)
    return isinstance(error, aiosmtplib.SMTPResponseException) and 500 <= error.code < 600
