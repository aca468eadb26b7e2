"""``app-worker``: runs an app's jobs in a process of its own, and looks after its queues. This page names the commands.

worker        (the default: ``app-worker main:app``)   worker_command.py → supervisor.py, reload.py, running.py
routes        which side resolves what                 routes_command.py
jobs          ls, show, cancel, redrive                jobs_command.py
top           a live view                              top_command.py → top_facts.py, top_view.py, terminal.py
check         does every queue have a worker?          check_command.py
doctor        is this Redis fit for it?              doctor_command.py → store/examination.py, doctor_findings.py
migrate-arq   from a real arq's queue into ours        migrate_command.py
"""

from __future__ import annotations

from collections.abc import Sequence

import click

from arq_web import __version__
from arq_web.cli.check_command import check
from arq_web.cli.doctor_command import doctor
from arq_web.cli.group import CommandOrTarget
from arq_web.cli.jobs_command import jobs
from arq_web.cli.migrate_command import migrate_arq
from arq_web.cli.routes_command import routes
from arq_web.cli.top_command import top
from arq_web.cli.worker_command import worker

__all__ = ["app_worker", "main"]


@click.group(
    cls=CommandOrTarget,
    default=worker,
    invoke_without_command=True,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, message="app-worker %(version)s")
def app_worker() -> None:
    """Run the background jobs of an app, as uvicorn runs its requests.

    \b
      app-worker main:app                       run jobs until told to stop
      app-worker main:app --queue mail          of this queue only
      app-worker main:app --processes auto      on every core
      app-worker main:create_app --factory      main has a function that makes the app
      app-worker main:app --reload              while developing
      app-worker main:app --burst               until nothing is left to do
      app-worker jobs ls main:app --state dead  what needs a look
      app-worker top main:app                   a live view
      app-worker tasks.WorkerSettings           worker settings as arq has them

    SIGTERM or Ctrl-C stops it: no new jobs, running ones may end, the rest is handed back unspent. Again: now.

    Exit status: 0 stopped cleanly, 1 failed, 2 wrong use or set-up, 3 the app's start-up failed, 70 the app's code
    blocked the event loop for ever.
    """  # noqa: D301 - click reads the escape


def main(args: Sequence[str] | None = None) -> None:
    """The command line's entry point.

    Args:
        args: instead of the process's own arguments.
    """
    app_worker.main(args=None if args is None else list(args), prog_name="app-worker")


for command in (routes, jobs, top, check, doctor, migrate_arq):
    app_worker.add_command(command)
