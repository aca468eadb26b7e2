"""The few options of curl that the demo's lines use, for a machine that has Python and no curl."""

from __future__ import annotations

import argparse
import sys
import urllib.error
import urllib.request
from pathlib import Path
from uuid import uuid4


def main(words: list[str] | None = None) -> int:
    """Send one request and print the answer, whatever its status."""
    options = _parser().parse_args(words)
    headers = dict(line.split(": ", 1) for line in options.header)
    data = options.data.encode() if options.data is not None else None
    if options.form is not None:
        name, _, path = options.form.partition("=@")
        data, headers["content-type"] = _multipart(name, Path(path))
    method = options.request or ("GET" if data is None else "POST")
    request = urllib.request.Request(options.url, data=data, headers=headers, method=method)  # noqa: S310 - curl would
    try:
        answer = urllib.request.urlopen(request, timeout=30)  # noqa: S310
    except urllib.error.HTTPError as error:
        answer = error
    except urllib.error.URLError as error:
        print(f"{options.url}: {error.reason}", file=sys.stderr)
        return 7
    with answer:
        if options.include:
            print(f"HTTP/1.1 {answer.status}\n{answer.headers}", end="", flush=True)
        sys.stdout.buffer.write(answer.read())
        sys.stdout.buffer.flush()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m example_app.curl", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("-X", "--request", help="the method")
    parser.add_argument("-H", "--header", action="append", default=[], metavar="'NAME: VALUE'")
    parser.add_argument("-d", "--data", help="the body")
    parser.add_argument("-F", "--form", help="a file to send, as NAME=@PATH")
    parser.add_argument("-i", "--include", action="store_true", help="print the answer's headers too")
    parser.add_argument("-s", "-S", dest="quiet", action="store_true", help="accepted, for curl's sake")
    return parser


def _multipart(name: str, path: Path) -> tuple[bytes, str]:
    boundary = uuid4().hex
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{path.name}"\r\n\r\n'
    body = head.encode() + path.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
    return body, f"multipart/form-data; boundary={boundary}"


if __name__ == "__main__":
    sys.exit(main())
