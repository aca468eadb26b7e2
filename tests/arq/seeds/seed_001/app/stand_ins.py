"""Filled in: what the document calls but does not define. The mail server and the image tool are files of the test."""

import os
import time
from pathlib import Path

from pydantic import BaseModel

FOLDER = Path(os.environ["TEST_FOLDER"])


class Session:
    """A database session of the web process: it cannot travel."""

    def __init__(self):
        self.lock = __import__("threading").Lock()


class RegisterRequest(BaseModel):
    email: str
    name: str


class UserResponse(BaseModel):
    id: int
    email: str
    name: str


def get_db():
    return Session()


def create_user(db, data):
    return UserResponse(id=len(data.name), email=data.email, name=data.name)


async def send_email(email, subject, body):
    """One line per call with its time; fails while the file ``mail-is-down`` exists, hangs while ``mail-hangs`` does."""
    with (FOLDER / "mail").open("a") as mail:
        mail.write(f"{time.monotonic():.3f} {email} {subject} {body}\n")
    while (FOLDER / "mail-hangs").exists():
        await __import__("asyncio").sleep(0.05)
    if (FOLDER / "mail-is-down").exists():
        raise ConnectionError("the mail server is down")


async def process_and_resize(image_path):
    return image_path.replace(".png", ".small.png")
