"""Where the shop keeps its things and whom it sends its mail through: from the environment, ``SHOP_...``."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Settings:
    """What differs between a laptop and a server."""

    data: Path
    """The database, uploads and thumbnails. Web and worker must see the same directory."""
    smtp_host: str
    smtp_port: int
    owner_email: str

    @property
    def database_url(self) -> str:
        """The orders and customers, as SQLAlchemy names them."""
        return f"sqlite+aiosqlite:///{self.data / 'shop.sqlite'}"

    @property
    def uploads(self) -> Path:
        """The pictures as they came."""
        return self.data / "uploads"

    @property
    def thumbnails(self) -> Path:
        """What the worker made of them."""
        return self.data / "thumbnails"


def settings() -> Settings:
    """Read the environment. Not cached: it is cheap, and tests change it."""
    return Settings(
        data=Path(os.environ.get("SHOP_DATA") or ROOT / "var").absolute(),
        smtp_host=os.environ.get("SHOP_SMTP_HOST", "127.0.0.1"),
        smtp_port=int(os.environ.get("SHOP_SMTP_PORT", "8025")),
        owner_email=os.environ.get("SHOP_OWNER_EMAIL", "owner@shop.example"),
    )


def make_directories() -> None:
    """Make what the shop writes into, if it is not there yet."""
    for directory in (settings().uploads, settings().thumbnails):
        directory.mkdir(parents=True, exist_ok=True)
