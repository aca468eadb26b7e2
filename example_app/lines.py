"""The lines that the demo prints, to be pasted into another terminal as they are."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from example_app.shop.settings import ROOT

TEMPLATE = """\
The shop is open: {url}{docs} (web), {app} (worker). In another terminal:

cd {root}

# a picture goes up; its thumbnails and metadata appear
{curl} -sS -F file=@{sample} {url}/images; echo
{curl} -sS {url}/images; echo

# sign up, twice if you like: the same job, one mail
{curl} -sS {url}/customers {json} -d '{{"name": "Ann", "email": "ann@example.com"}}'; echo
cat {mail}/new/*

# a report as a background job: 202 with a Location; look there until it says succeeded. The pid is the worker's
report=$({curl} -sSi {url}/reports {json} -d '{{"since": "{since}"}}' | tr -d '\\r' | sed -n 's/^[Ll]ocation: //p')
echo $report; {curl} -sS {url}$report; echo
{worker} jobs show {app} ${{report##*/}}

# a task that fails twice and then succeeds: look at the worker's lines here
{curl} -sS -X POST {url}/orders/7/reserve; echo

# what the worker did (without --state: what it has before it, and what is dead), and which side resolves what
{worker} jobs ls {app} --state succeeded
{worker} routes {app}

Ctrl-C here stops everything.
"""


def lines_to_paste(app: str, base_url: str, sample: Path, mail: Path) -> str:
    """What to try, for a shop that runs at ``base_url``."""
    return TEMPLATE.format(
        app=app,
        url=base_url,
        docs="/docs" if "fastapi" in app else "/schema",
        root=shlex.quote(str(ROOT)),
        curl="curl" if shutil.which("curl") else f"{_program('python')} -m example_app.curl",
        sample=_path(sample),
        mail=_path(mail),
        json="-H 'content-type: application/json'",
        since=(datetime.now(UTC) - timedelta(days=30)).date(),
        worker=f"{_settings_of_development()} {_program('app-worker')}",
    )


def _settings_of_development() -> str:
    """The other terminal must find the same private Redis."""
    names = ("ARQ_WEB_DEV_DIR", "ARQ_WEB_NAMESPACE", "SHOP_DATA")
    set_here = [f"{name}={shlex.quote(os.environ[name])}" for name in names if os.environ.get(name)]
    return " ".join(["ARQ_WEB_DEV=1", *set_here])


def _program(name: str) -> str:
    return _path(Path(sys.executable).with_name(name))


def _path(path: Path) -> str:
    return shlex.quote(str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path))
