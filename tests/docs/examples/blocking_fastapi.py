"""How-to: sync code, FastAPI."""

from tests.docs.examples.blocking import make_thumbnail

# --8<-- [start:app]
from fastapi import FastAPI

from arq_web.fastapi import ArqWeb, SyncQueue

app = FastAPI()
ArqWeb(app, tasks=[make_thumbnail])


@app.post("/thumbnails")
def thumbnails(path: str, queue: SyncQueue) -> dict[str, str]:
    job = queue.enqueue(make_thumbnail, path, 200)
    return {"job": job.id}
    # --8<-- [end:app]
