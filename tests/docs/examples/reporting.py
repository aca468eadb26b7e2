"""How-to: show progress."""

from pathlib import Path

# --8<-- [start:tasks]
from arq_web import INJECTED, Progress, task


@task
async def import_customers(rows: list[str], progress: Progress = INJECTED) -> int:
    for number, row in enumerate(rows, start=1):
        await store(row)
        await progress(number, "storing", total=len(rows))  # 37 of 120, and when it will be done
    return len(rows)


@task
def make_thumbnails(picture: str, progress: Progress = INJECTED) -> list[str]:
    names = []
    for done, width in enumerate((100, 400, 1600)):
        progress.report(done / 3, f"{width} pixels")  # in a def there is nothing to await
        names.append(scale(picture, width))
    return names
    # --8<-- [end:tasks]


stored: list[str] = []


async def store(row: str) -> None:
    stored.append(row)


def scale(picture: str, width: int) -> str:
    return f"{Path(picture).stem}-{width}.jpg"
