"""The worker: claims jobs, runs them as attempts, settles them. Start reading at ``worker.py``, its contents page."""
