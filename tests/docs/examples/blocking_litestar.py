"""How-to: sync code, Litestar."""

# --8<-- [start:imports]
from litestar import Litestar, post
from litestar.params import FromQuery

from arq_web.litestar import ArqWeb, SyncQueue

# --8<-- [end:imports]
from tests.docs.examples.blocking import make_thumbnail


# --8<-- [start:app]
@post("/thumbnails", sync_to_thread=True)
def thumbnails(path: FromQuery[str], sync_queue: SyncQueue) -> dict[str, str]:
    job = sync_queue.enqueue(make_thumbnail, path, 200)
    return {"job": job.id}


app = Litestar([thumbnails], plugins=[ArqWeb(tasks=[make_thumbnail])])
# --8<-- [end:app]
