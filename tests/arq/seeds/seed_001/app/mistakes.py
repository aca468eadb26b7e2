"""The document's "Common Mistakes", its blocks as functions: the awaits there stand outside of any."""

from app.stand_ins import Session


async def without_an_id(arq_pool, user_id):
    return await arq_pool.enqueue_job("send_welcome_email", user_id)


async def with_a_stable_id(arq_pool, user_id):
    return await arq_pool.enqueue_job(
        "send_welcome_email", user_id, _job_id=f"welcome:{user_id}"
    )  # ✓ same ID skips duplicate enqueue


async def with_a_session(arq_pool):
    db_session = Session()
    await arq_pool.enqueue_job("task", db_session)  # session not serialisable!
