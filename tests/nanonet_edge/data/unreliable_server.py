"""An HTTP server on this machine that misbehaves on request."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Behaviour:
    """What the server does with its one file.

    Attributes:
        content: of the file.
        etag: its version.
        ranges: whether `Range` is obeyed.
        drop_after: for each answer in turn, bytes of the body after which the connection ends;
            None, and beyond the end of the list: all of it.
        status: for each answer in turn, a status instead of the file.
        length: whether `Content-Length` is sent.
        redirect: answer every path but ``/file`` by sending the client there.
        requests: the headers `Range` and `If-Range` of each request that came.
    """

    content: bytes
    etag: str | None = '"1"'
    ranges: bool = True
    drop_after: list[int | None] = field(default_factory=list)
    status: list[int | None] = field(default_factory=list)
    length: bool = True
    redirect: str | None = None
    requests: list[tuple[str | None, str | None]] = field(default_factory=list)
    #: Content by path, where there is more than one file.
    others: dict[str, bytes] = field(default_factory=dict)

    def next(self, answers: list[int | None]) -> int | None:
        """What is planned for this answer."""
        return answers.pop(0) if answers else None


@contextmanager
def serve(behaviour: Behaviour) -> Iterator[str]:
    """Give the address of a server that lives as long as the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self, behaviour)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answer(handler: BaseHTTPRequestHandler, plan: Behaviour) -> None:
    """Answer one request as planned."""
    asked, condition = handler.headers.get("Range"), handler.headers.get("If-Range")
    plan.requests.append((asked, condition))
    if plan.redirect is not None and handler.path != "/file":
        handler.send_response(302)
        handler.send_header("Location", plan.redirect)
        handler.end_headers()
        return
    status = plan.next(plan.status)
    if status is not None:
        handler.send_error(status)
        return
    content = plan.others.get(handler.path, plan.content)
    start, match = 0, re.fullmatch(r"bytes=(\d+)-", asked or "")
    if plan.ranges and match and condition in (None, plan.etag):
        start = int(match[1])
        if start >= len(content):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(content)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    else:
        handler.send_response(200)
    if plan.length:
        handler.send_header("Content-Length", str(len(content) - start))
    if plan.etag is not None:
        handler.send_header("ETag", plan.etag)
    handler.end_headers()
    stop = plan.next(plan.drop_after)
    handler.wfile.write(content[start:] if stop is None else content[start : start + stop])
    handler.close_connection = True
