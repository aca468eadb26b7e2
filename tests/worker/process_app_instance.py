"""An app as a module's attribute: how most people write it."""

from __future__ import annotations

from tests.worker.process_app import make_app

app = make_app()
