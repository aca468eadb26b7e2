"""How-to: sync code."""

# --8<-- [start:tasks]
from arq_web import task


@task
def make_thumbnail(path: str, width: int) -> str:  # a plain def runs in a thread
    return resized(path, width)


@task(run_in="process", timeout=60)
def render(pages: int) -> int:  # for code that holds the GIL, or may crash
    return sum(n * n for n in range(pages))
    # --8<-- [end:tasks]


def resized(path: str, width: int) -> str:
    return f"{path}@{width}"
