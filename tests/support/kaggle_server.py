"""A small Kaggle on this machine, and the commands of `arcpipe kaggle` that talk to it.

It has what the official client needs of the API, and the ways in which it fails. The client reaches it as it
is: it is told that Kaggle is `http://localhost`, and this server is its proxy.
"""

import base64
import json
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from commands import fail_here, run_here

USER, KEY, TOKEN = "someone", "s3cret-key", "KGAT_s3cret"
CREDENTIALS = (f"Basic {base64.b64encode(f'{USER}:{KEY}'.encode()).decode()}", f"Bearer {TOKEN}")
COMPETITION = "arc-prize-2026-arc-agi-2"
ROOT = "http://localhost"
ANSWER = b'{"00d62c1b": [{"attempt_1": [[1]], "attempt_2": [[2]]}]}'


@dataclass
class Fault:
    """How a call goes wrong: the status it gets, 0 for silence, 200 for a page of text.

    done: Kaggle does what it was asked for nonetheless.
    """

    status: int = 0
    message: str = ""
    times: int = 1000
    done: bool = False
    headers: dict[str, str] = field(default_factory=dict)


Failure = Fault | dict[str, Any]
"""A call that goes wrong, or fields of its answer."""


@dataclass
class KaggleServer:
    """What the server knows. A dataset, a run and a submission are finished at the second look at them.

    faults: by method, or `PUT` and `GET` for files.
    states: of a run at the next looks at it.
    """

    port: int = 0
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    faults: dict[str, Failure] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    dataset_version: int = 0
    dataset_files: list[str] = field(default_factory=list)
    kernel_version: int = 0
    states: list[str] = field(default_factory=list)
    outputs: dict[str, bytes] = field(default_factory=lambda: {"submission.json": ANSWER})
    submissions: list[dict[str, Any]] = field(default_factory=list)
    scored: dict[str, str] = field(default_factory=lambda: {"status": "COMPLETE", "publicScore": "31.39"})
    looks: Counter[str] = field(default_factory=Counter)
    closing: threading.Event = field(default_factory=threading.Event)

    def environment(self, home: Path) -> dict[str, str]:
        """The variables with which the client finds this server and these credentials, and no others."""
        proxy = f"http://127.0.0.1:{self.port}"
        return {
            "KAGGLE_API_ENVIRONMENT": "LOCALHOST", "HTTP_PROXY": proxy, "http_proxy": proxy,
            "NO_PROXY": "", "no_proxy": "", "HOME": str(home), "KAGGLE_CONFIG_DIR": str(home / ".kaggle"),
            "KAGGLE_API_TOKEN": "", "KAGGLE_USERNAME": USER, "KAGGLE_KEY": KEY,
            "ARCPIPE_KAGGLE_TIMEOUT_S": "5", "ARCPIPE_KAGGLE_POLL_S": "0.02",
        }  # fmt: skip

    def count(self, method: str) -> int:
        """How often a method was called."""
        return sum(name == method for name, _ in self.calls)

    def last_request(self, method: str) -> dict[str, Any]:
        """The last request to a method."""
        return [request for name, request in self.calls if name == method][-1]

    def finished(self, what: str) -> bool:
        """Whether it is the second look at something, or a later one."""
        self.looks[what] += 1
        return self.looks[what] > 1

    def answer(self, method: str, request: dict[str, Any]) -> dict[str, Any] | bytes | int:
        """What a method answers, or the status of its refusal."""
        function: Callable[[dict[str, Any]], dict[str, Any] | bytes | int] = getattr(self, f"do_{method}")
        answer, failure = function(request), self.faults.get(method)
        return answer | failure if isinstance(answer, dict) and isinstance(failure, dict) else answer

    def do_PUT(self, request: dict[str, Any]) -> dict[str, Any]:
        self.uploads[request["name"]] = request["content"]
        return {}

    def do_GET(self, request: dict[str, Any]) -> bytes:
        return self.outputs[request["name"]]

    def do_IntrospectToken(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"active": True, "username": USER}

    def do_GetDatasetStatus(self, request: dict[str, Any]) -> dict[str, Any] | int:
        if not self.dataset_version:
            return 403
        return {"status": "READY" if self.finished(f"dataset {self.dataset_version}") else "BLOBS_RECEIVED"}

    def do_GetDataset(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"currentVersionNumber": self.dataset_version}

    def do_StartBlobUpload(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"token": request["name"], "createUrl": f"{ROOT}/upload/{request['name']}"}

    def do_CreateDataset(self, request: dict[str, Any]) -> dict[str, Any]:
        self.dataset_version += 1
        self.dataset_files = sorted(item["token"] for item in request["files"])
        return {"ref": "r", "url": "u", "status": "ok"}

    def do_CreateDatasetVersion(self, request: dict[str, Any]) -> dict[str, Any]:
        return self.do_CreateDataset(request["body"])

    def do_SaveKernel(self, request: dict[str, Any]) -> dict[str, Any]:
        self.kernel_version += 1
        url = f"https://www.kaggle.com/code/{request['slug']}"
        return {"ref": f"/{request['slug']}", "url": url, "versionNumber": self.kernel_version}

    def do_GetKernelSessionStatus(self, request: dict[str, Any]) -> dict[str, Any] | int:
        if request.get("versionLabel") != f"v{self.kernel_version}":
            return 404
        if self.states:
            return {"status": self.states.pop(0)}
        done = self.finished(f"kernel {self.kernel_version}")
        return {"status": "COMPLETE" if done else "RUNNING"}

    def do_ListKernelSessionOutput(self, request: dict[str, Any]) -> dict[str, Any]:
        """Two files a page."""
        names = sorted(self.outputs)
        start = int(request.get("pageToken") or 0)
        files = [{"url": f"{ROOT}/file/{name}", "fileName": name} for name in names[start : start + 2]]
        more = {"nextPageToken": str(start + 2)} if start + 2 < len(names) else {}
        log = [{"stream_name": "stdout", "time": 1.0, "data": data} for data in ("solved 1\n", "done\n")]
        return {"files": files, "log": json.dumps(log), **more}

    def do_CreateCodeSubmission(self, request: dict[str, Any]) -> dict[str, Any]:
        reference = max([999, *(one["ref"] for one in self.submissions)]) + 1
        self.submissions.insert(0, {
            "ref": reference, "date": "2026-10-01T12:00:00Z", "status": "PENDING",
            "fileName": request["fileName"], "description": request["submissionDescription"],
        })  # fmt: skip
        return {"message": "Successfully submitted", "ref": reference}

    def do_ListSubmissions(self, request: dict[str, Any]) -> dict[str, Any]:
        """Two submissions a page."""
        start = 2 * (request.get("page", 1) - 1)
        for submission in self.submissions:
            if submission["status"] == "PENDING" and self.finished(f"submission {submission['ref']}"):
                submission |= self.scored
        return {"submissions": self.submissions[start : start + 2]}


class _Handler(BaseHTTPRequestHandler):
    state: KaggleServer

    def do_POST(self) -> None:
        is_known = self.headers.get("Authorization") in CREDENTIALS or self.path.endswith("/IntrospectToken")
        refusal = None if is_known else Fault(401, "Unauthenticated")
        self._answer(self.path.rpartition("/")[2], json.loads(self._body()), refusal)

    def do_PUT(self) -> None:
        self._answer("PUT", {"name": self.path.rpartition("/")[2], "content": self._body()})

    def do_GET(self) -> None:
        self._answer("GET", {"name": self.path.removeprefix(f"{ROOT}/file/")})

    def _answer(self, method: str, request: dict[str, Any], refusal: Fault | None = None) -> None:
        self.state.calls.append((method, request))
        fault = refusal or self._fault(method)
        answer = self.state.answer(method, request) if fault is None or fault.done else {}
        if fault is not None:
            self._fail(fault)
        elif isinstance(answer, int):
            self._fail(Fault(answer, "Permission was denied" if answer == 403 else "Not found"))
        else:
            self._send(200, answer if isinstance(answer, bytes) else json.dumps(answer).encode())

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers["Content-Length"]))

    def _fault(self, method: str) -> Fault | None:
        fault = self.state.faults.get(method)
        if not isinstance(fault, Fault) or not fault.times:
            return None
        fault.times -= 1
        return fault

    def _fail(self, fault: Fault) -> None:
        if not fault.status:
            self.state.closing.wait(60)
            self.close_connection = True
        elif fault.status == 200:
            self._send(200, b"<html>", {"Content-Type": "text/html"})
        else:
            body = json.dumps({"code": fault.status, "message": fault.message}).encode()
            self._send(fault.status, body, fault.headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        fixed = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        for name, value in (fixed | (headers or {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing: the calls are recorded."""


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """Answer requests during the block; yield the port."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def kaggle_server() -> Iterator[KaggleServer]:
    """A server that runs until the block ends."""
    state = KaggleServer()
    with serving(type("Handler", (_Handler,), {"state": state})) as state.port:
        try:
            yield state
        finally:
            state.closing.set()


@dataclass
class Shell:
    """The commands of `arcpipe kaggle`, run in this process against the server."""

    server: KaggleServer
    env: dict[str, str]

    def run(self, *arguments: object, **env: str) -> "subprocess.CompletedProcess[str]":
        return run_here("kaggle", *arguments, env=self.env | env)

    def succeed(self, *arguments: object, **env: str) -> str:
        """The stdout of a command that must exit with 0."""
        return run_here("kaggle", *arguments, env=self.env | env, code=0).stdout

    def fail(self, *arguments: object, **env: str) -> str:
        """The one line of a command that must exit with 2, and print nothing else but warnings."""
        return fail_here("kaggle", *arguments, env=self.env | env, logs=True)
