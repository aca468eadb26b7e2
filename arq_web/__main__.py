"""``python -m arq_web``: the same as ``app-worker``."""

from arq_web.cli import main

main()
