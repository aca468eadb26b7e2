"""How-to: metrics of one's own on the same page."""

# --8<-- [start:own]
from prometheus_client import REGISTRY, Counter

from arq_web import task
from arq_web.metrics import Metrics

PIXELS = Counter("pixels_resized", "Pixels of all pictures that were resized.")


@task
async def resize(width: int, height: int) -> None:
    PIXELS.inc(width * height)


metrics = Metrics(REGISTRY)  # ArqWeb(app, metrics=metrics)
# --8<-- [end:own]
