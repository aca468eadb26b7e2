"""How-to: sync code, FastAPI."""

# --8<-- [start:imports]
from fastapi import FastAPI

from arq_web.fastapi import ArqWeb, SyncQueue

# --8<-- [end:imports]
from tests.docs.examples.blocking import make_thumbnail

# --8<-- [start:app]
app = FastAPI()
ArqWeb(app, tasks=[make_thumbnail])


@app.post("/thumbnails")
def thumbnails(path: str, queue: SyncQueue) -> dict[str, str]:
    job = queue.enqueue(make_thumbnail, path, 200)
    return {"job": job.id}


# --8<-- [end:app]
