"""A small Hugging Face hub on this machine: a folder of files, as `huggingface_hub` asks for them."""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_PATH = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")


@dataclass
class Hub:
    """What the hub has and how it fails.

    files: by OWNER/NAME/PATH.
    refusals: the status and the code of the error, by OWNER/NAME.
    cut: after so many bytes of an answer break the connection, and be out of order from then on.
    lie: claim another SHA-256.
    ranges: what was asked for, of each download.
    """

    port: int = 0
    files: dict[str, bytes] = field(default_factory=dict)
    refusals: dict[str, tuple[int, str]] = field(default_factory=dict)
    cut: int = 0
    lie: bool = False
    ranges: list[str] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def hub_server() -> Iterator[Hub]:
    """A hub without files; it ends with the block."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def log_message(self, *_: object) -> None:
            """Be quiet."""

        def _answer(self, *, with_body: bool) -> None:
            match = _PATH.fullmatch(self.path)
            assert match, self.path
            content = hub.files.get(f"{match['repo']}/{match['file']}")
            status, code = hub.refusals.get(match["repo"], (404, "EntryNotFound"))
            if content is None or match["repo"] in hub.refusals:
                self.send_response(status)
                self.send_header("X-Error-Code", code)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            asked = self.headers.get("Range", "")
            start = int(asked.removeprefix("bytes=").partition("-")[0] or 0)
            digest = hashlib.sha256(b"other" if hub.lie else content).hexdigest()
            self.send_response(206 if start else 200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{digest}"')
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(content) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.end_headers()
            if not with_body:
                return
            hub.ranges.append(asked)
            if hub.cut:
                self.wfile.write(content[start : start + hub.cut])
                hub.cut, self.close_connection = 0, True
                hub.refusals[match["repo"]] = 503, ""
                return
            self.wfile.write(content[start:])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
