"""Uploads become files, files become thumbnails and metadata."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import ExifTags, Image

from example_app.shop import images


@dataclass
class Upload:
    """Bytes that can be read once, as both frameworks' uploads."""

    data: bytes

    async def read(self, size: int = -1) -> bytes:
        return self.data[:size]


async def test_an_upload_becomes_thumbnails_and_metadata(shop_data: Path) -> None:
    images.write_sample(shop_data / "sample.jpg")
    image_id = await images.store(Upload((shop_data / "sample.jpg").read_bytes()))

    info = images.make_thumbnails(image_id)

    assert [size_of(shop_data / "thumbnails" / name) for name in info.thumbnails] == [(64, 43), (256, 171)]
    assert (info.format, info.width_px, info.height_px) == ("JPEG", 1200, 800)
    assert (info.camera, info.taken_at) == ("Pinhole 1", "2026:05:17 12:30:00")
    assert images.newest() == [info]


async def test_a_picture_is_described_the_way_up_that_its_camera_held_it(shop_data: Path) -> None:
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[ExifTags.Base.Orientation] = 6  # the camera was turned by a quarter
    Image.new("RGB", (300, 200)).save(buffer, "JPEG", exif=exif)

    info = images.make_thumbnails(await images.store(Upload(buffer.getvalue())))

    assert (info.width_px, info.height_px) == (200, 300)
    assert size_of(shop_data / "thumbnails" / info.thumbnails[0]) == (43, 64)


async def test_making_thumbnails_again_changes_nothing(shop_data: Path) -> None:
    """A job may run twice, when its worker is killed at the wrong moment."""
    images.write_sample(shop_data / "sample.jpg")
    image_id = await images.store(Upload((shop_data / "sample.jpg").read_bytes()))

    first, second = images.make_thumbnails(image_id), images.make_thumbnails(image_id)

    assert first == second
    assert len(list((shop_data / "thumbnails").iterdir())) == 3


async def test_a_transparent_picture_gets_thumbnails_too(shop_data: Path) -> None:
    """JPEG has no transparency: such a picture must be flattened first."""
    buffer = io.BytesIO()
    Image.new("RGBA", (100, 100)).save(buffer, "PNG")

    info = images.make_thumbnails(await images.store(Upload(buffer.getvalue())))

    assert (info.format, info.camera) == ("PNG", None)


@pytest.mark.parametrize("cut", [0, 20, 2000], ids=["nothing", "a broken head", "a broken body"])
async def test_what_is_no_picture_is_refused_for_good(shop_data: Path, cut: int) -> None:
    images.write_sample(shop_data / "sample.jpg")
    image_id = await images.store(Upload((shop_data / "sample.jpg").read_bytes()[:cut]))

    with pytest.raises(images.NotAnImage):
        images.make_thumbnails(image_id)

    assert images.newest() == []


async def test_an_upload_that_is_too_large_is_not_kept(shop_data: Path) -> None:
    with pytest.raises(images.UploadTooLarge):
        await images.store(Upload(bytes(images.MAX_UPLOAD_BYTES + 1)))

    assert list((shop_data / "uploads").iterdir()) == []


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size
