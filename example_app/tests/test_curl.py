"""The stand-in for curl: the demo's lines must work where there is none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from example_app import curl


class Echo(BaseHTTPRequestHandler):
    """Answers 404 with what it was sent."""

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(404)
        self.send_header("location", "/jobs/1")
        self.end_headers()
        self.wfile.write(b" ".join([self.command.encode(), self.headers.get("content-type", "-").encode(), body]))

    do_POST = do_GET  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        pass


@pytest.fixture
def echo_url() -> Iterator[str]:
    """Where the echo is."""
    with HTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_body_is_posted_and_headers_are_shown(echo_url: str, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    curl.main(["-sSi", echo_url, "-H", "content-type: application/json", "-d", "{}"])

    shown = capfdbinary.readouterr().out
    assert b"location: /jobs/1\n" in shown
    assert shown.endswith(b"\n\nPOST application/json {}")


def test_a_file_is_sent_as_a_form(echo_url: str, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    (tmp_path / "sample.jpg").write_bytes(b"\xff\xd8")

    curl.main(["-sS", "-F", f"file=@{tmp_path / 'sample.jpg'}", echo_url])

    shown = capfdbinary.readouterr().out
    assert shown.startswith(b"POST multipart/form-data; boundary=")
    assert b'name="file"; filename="sample.jpg"\r\n\r\n\xff\xd8\r\n' in shown


def test_a_server_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert curl.main(["http://127.0.0.1:1/"]) == 7
    assert "http://127.0.0.1:1/" in capsys.readouterr().err
