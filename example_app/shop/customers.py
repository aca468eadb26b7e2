"""Customers sign up; the same address again is the same customer."""

from __future__ import annotations

import re
from dataclasses import dataclass
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.ext.asyncio import AsyncSession

from example_app.shop.database import Customer

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


@dataclass(frozen=True)
class SignUp:
    """What somebody tells who signs up."""

    name: str
    email: str

    def __post_init__(self) -> None:
        """Refuse what can be no address: a request with it is answered by a 4xx, and leaves no job."""
        if not _EMAIL.fullmatch(self.email) or "\n" in self.name or "\r" in self.name:
            raise ValueError("name or email is not one")


async def sign_up(session: AsyncSession, form: SignUp) -> Customer:
    """Store a new customer, or find the one who has this address already."""
    values = {"id": uuid4(), "name": form.name, "email": form.email}
    await session.execute(insert(Customer).values(values).on_conflict_do_nothing())
    await session.commit()
    return (await session.execute(select(Customer).where(Customer.email == form.email))).scalar_one()
