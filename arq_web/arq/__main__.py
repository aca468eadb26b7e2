"""``python -m arq_web.arq tasks.WorkerSettings``."""

from arq_web.arq.cli import cli

if __name__ == "__main__":
    cli()
