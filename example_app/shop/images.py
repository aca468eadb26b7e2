"""Pictures: an upload is kept as a file, thumbnails and metadata are made of it later."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from uuid import UUID, uuid4

import anyio.to_thread
import msgspec
from PIL import ExifTags, Image, ImageOps

from example_app.shop.settings import settings

THUMBNAIL_SIZES_PX = (64, 256)
MAX_UPLOAD_BYTES = 10 << 20


class UploadTooLarge(Exception):
    """More than ``MAX_UPLOAD_BYTES``."""


class NotAnImage(Exception):
    """Pillow cannot read it, today or tomorrow."""


class Upload(Protocol):
    """What both frameworks' UploadFile can do. It never leaves the route: a job gets the id of the stored bytes."""

    async def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        ...


@dataclass(frozen=True)
class ImageInfo:
    """A picture's metadata, and the files of its thumbnails (in the directory of thumbnails)."""

    id: UUID
    format: str
    width_px: int
    height_px: int
    size_bytes: int
    camera: str | None
    taken_at: str | None
    """As the camera wrote it: local time, of a zone that most cameras do not tell."""
    thumbnails: list[str]


async def store(upload: Upload) -> UUID:
    """Keep the bytes of an upload under a new id.

    Raises:
        UploadTooLarge: it has more than ``MAX_UPLOAD_BYTES``.
    """
    data = await upload.read(MAX_UPLOAD_BYTES + 1)
    if len(data) > MAX_UPLOAD_BYTES:
        raise UploadTooLarge(f"a picture may have {MAX_UPLOAD_BYTES} bytes")
    image_id = uuid4()
    await anyio.to_thread.run_sync(_write, _upload_path(image_id), data)
    return image_id


def make_thumbnails(image_id: UUID) -> ImageInfo:
    """Make the thumbnails of a stored picture and note its metadata. Again gives the same files.

    Raises:
        NotAnImage: the upload is none.
    """
    data = _upload_path(image_id).read_bytes()
    try:
        with Image.open(io.BytesIO(data)) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
            info = _describe(image_id, image, upright, len(data))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise NotAnImage(f"the upload {image_id} is no picture that Pillow can read") from error
    for size_px, name in zip(THUMBNAIL_SIZES_PX, info.thumbnails, strict=True):
        _write(settings().thumbnails / name, _thumbnail(upright, size_px))
    _write(settings().thumbnails / f"{image_id}.json", msgspec.json.encode(info))  # last: now it is there
    return info


def newest(limit: int = 10) -> list[ImageInfo]:
    """The pictures that are ready, the latest first."""
    notes = sorted(settings().thumbnails.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    return [msgspec.json.decode(path.read_bytes(), type=ImageInfo) for path in notes[:limit]]


def write_sample(path: Path) -> None:
    """Draw a picture to try the shop with, in a camera's words."""
    image = Image.merge("RGB", [Image.linear_gradient("L").rotate(angle).resize((1200, 800)) for angle in (0, 90, 180)])
    exif = Image.Exif()
    exif[ExifTags.Base.Model] = "Pinhole 1"
    exif[ExifTags.Base.DateTime] = "2026:05:17 12:30:00"
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, "JPEG", exif=exif)


def _describe(image_id: UUID, image: Image.Image, upright: Image.Image, size_bytes: int) -> ImageInfo:
    exif = image.getexif()
    return ImageInfo(
        id=image_id,
        format=image.format or "unknown",
        width_px=upright.width,
        height_px=upright.height,
        size_bytes=size_bytes,
        camera=_text(exif.get(ExifTags.Base.Model)),
        taken_at=_text(exif.get(ExifTags.Base.DateTime)),
        thumbnails=[f"{image_id}-{size_px}.jpg" for size_px in THUMBNAIL_SIZES_PX],
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value).strip("\0 ") or None


def _thumbnail(image: Image.Image, size_px: int) -> bytes:
    small, buffer = image.copy(), io.BytesIO()
    small.thumbnail((size_px, size_px))
    small.save(buffer, "JPEG")
    return buffer.getvalue()


def _upload_path(image_id: UUID) -> Path:
    return settings().uploads / str(image_id)


def _write(path: Path, data: bytes) -> None:
    """Write a file that is there wholly or not at all, whoever is killed meanwhile."""
    aside = path.with_name(f".{path.name}.{uuid4().hex}")
    aside.write_bytes(data)
    aside.replace(path)
