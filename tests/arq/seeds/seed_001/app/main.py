# app/main.py — set up ARQ pool during FastAPI startup
from contextlib import asynccontextmanager
from typing import Annotated  # filled in

from arq_web.arq import create_pool
from arq_web.arq.connections import RedisSettings

from fastapi import APIRouter, Depends, FastAPI, Request  # filled in

from app import settings  # filled in
from app.stand_ins import RegisterRequest, Session, UserResponse, create_user, get_db  # filled in


@asynccontextmanager
async def lifespan(app: FastAPI):
    # Create ARQ Redis pool shared across all requests
    app.state.arq_pool = await create_pool(RedisSettings(host=settings.redis_host))
    yield
    await app.state.arq_pool.close()


app = FastAPI(lifespan=lifespan)


# Dependency: inject ARQ pool into route handlers
def get_arq_pool(request: Request):
    return request.app.state.arq_pool


ArqPool = Annotated[object, Depends(get_arq_pool)]

router = APIRouter()  # filled in


# ── Enqueue jobs from route handlers ─────────────────────────────────────────
@router.post("/auth/register", response_model=UserResponse, status_code=201)
async def register(
    data: RegisterRequest,
    db: Session = Depends(get_db),
    arq_pool: ArqPool = None,
):
    user = create_user(db, data)

    # Enqueue a durable background job
    # Job persists in Redis — survives server crashes
    await arq_pool.enqueue_job(
        "send_welcome_email",  # matches the function name in WorkerSettings
        user.id,
        user.email,
        user.name,
        _job_id=f"welcome:{user.id}",  # idempotent: same ID = dedup
        _defer_by=2,  # delay 2 seconds (let transaction commit first)
    )

    return user


app.include_router(router)  # filled in

# ── Run the worker (separate process) ────────────────────────────────────────
# python -m arq_web.arq app.tasks.worker.WorkerSettings
# Or in Dockerfile: CMD ["python", "-m", "arq_web.arq", "app.tasks.worker.WorkerSettings"]
