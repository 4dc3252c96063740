"""Requests to Kaggle through its official client, with retries and readable errors.

Only this module imports the client. On its own, the client logs in while it is imported, waits forever for a
silent server, repeats requests that must not be repeated, and omits files whose upload fails.
"""

import io
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from functools import partial
from itertools import count
from json import JSONDecodeError
from pathlib import Path
from typing import Annotated, Any, TypeVar

import orjson
import requests
from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass
from requests.exceptions import HTTPError, RequestException, Timeout
from tqdm.utils import CallbackIOWrapper

from arcpipe.errors import ArcpipeError, one_line
from arcpipe.log import Progress, logger
from arcpipe.processes import environment
from arcpipe.runs import writing

T = TypeVar("T")
_Version = Annotated[int, Field(ge=1)]

TRIES = 4
_LONGEST_WAIT_S = 600.0
_LONGEST_TEXT = 300
_REMEDIES = {
    401: "the credentials are refused: make a new token at kaggle.com/settings",
    403: "check owner and spelling, and accept the competition's rules on its page",
    404: "check owner and spelling",
    429: "too many requests: run it again in some minutes",
}
# Remedies for messages that say more than the HTTP status.
_REMEDIES_BY_WORD = {
    "daily": "wait for the next day, which begins at 00:00 UTC",
    "could not find provided notebook": (
        "a version can be submitted some 20 minutes after its run has ended: wait; if that is long ago, "
        "see that owner and name are those of the notebook's page, in lower case"
    ),
}
_CONNECT_S = 10.0
_PAGE_SIZE = 100
_NO_CREDENTIALS = (
    "Kaggle knows no credentials of yours, or refuses them: make a token at kaggle.com/settings and set "
    "KAGGLE_API_TOKEN, or save it as .kaggle/access_token in your home folder, or run: kaggle auth login"
)
_TOKEN = "KGAT_"
_TOKEN_AS_KEY = (
    f"the key in kaggle.json or KAGGLE_KEY is an access token ({_TOKEN}...), which is no key: set it as "
    "KAGGLE_API_TOKEN, or save it as .kaggle/access_token in your home folder"
)


@dataclass(frozen=True)
class Pace:
    """Seconds to wait for an answer (timeout_s), and between two looks at a state or two tries (poll_s)."""

    timeout_s: float
    poll_s: float

    @property
    def timeouts(self) -> tuple[float, float]:
        """The seconds in which a connection is made and an answer begins, as requests takes them."""
        return _CONNECT_S, self.timeout_s


@checked_dataclass
class _Sent:
    """A version of something on Kaggle."""

    reference: str
    version: _Version

    @property
    def name(self) -> str:
        """Return the reference and version for messages."""
        return f"{self.reference} version {self.version}"


@checked_dataclass
class SentDataset(_Sent):
    """A version of a dataset on Kaggle and the hash of its files."""

    sha256: str


@checked_dataclass
class SentKernel(_Sent):
    """A version of a kernel on Kaggle, its page, and the hash of its bundle; empty in older records."""

    url: str
    bundle: str = ""


@checked_dataclass
class SentSubmission:
    """A submission, recorded before it is sent; Kaggle's answer adds the reference.

    run: its number among the submissions of one version, from 1.
    bundle: as of its SentKernel.
    """

    competition: str
    kernel: str
    version: _Version
    sha256: str
    time: str
    reference: int | None = None
    run: int = 1
    bundle: str = ""

    @property
    def tag(self) -> str:
        """Return the beginning of its description on Kaggle, by which it is recognized."""
        repeat = f", run {self.run}" if self.run > 1 else ""
        return f"[{self.kernel} version {self.version}{repeat}]"


class KaggleError(ArcpipeError):
    """A request that Kaggle refused or did not answer.

    status: the HTTP status, if Kaggle answered.
    undecided: the request may or may not have taken effect.
    retry_after_s: the seconds in the Retry-After header, or 0.
    """

    def __init__(
        self, message: str, status: int | None = None, *, undecided: bool = False, retry_after_s: float = 0
    ) -> None:
        super().__init__(message)
        self.status = status
        self.undecided = undecided
        self.retry_after_s = retry_after_s


def retry(action: str, function: Callable[[], T], pace: Pace, may_repeat: Callable[[KaggleError], bool]) -> T:
    """Call a function and return its result; call it again after an error that may be repeated."""
    for tries_left in reversed(range(TRIES)):
        try:
            with explain_errors(action):
                return function()
        except KaggleError as error:
            if not tries_left or not may_repeat(error):
                raise
            wait_s = min(error.retry_after_s or pace.poll_s, _LONGEST_WAIT_S)
            logger.warning("%s; trying again in %g s", error, wait_s)
            time.sleep(wait_s)
    raise AssertionError("the last try returns or raises")


def poll(
    look: Callable[[], tuple[str, T | None]], what: str, pace: Pace, max_minutes: float,
    queue: str = "", max_queue_minutes: float = 0,
) -> T:  # fmt: skip
    """Look at Kaggle until there is a result; return it.

    Args:    look: returns the state for messages, and the result or None.
             queue: the state whose time counts against `max_queue_minutes` only.
    Raises:  ArcpipeError when the time is up.
    """
    running_s, queued_s, was_queued, last = 0.0, 0.0, False, time.monotonic()
    with Progress(total=round(max_minutes * 60), unit="s", desc=what) as bar:
        while True:
            state, result = look()
            if result is not None:
                return result
            passed_s = time.monotonic() - last
            last += passed_s
            is_queued = state == queue
            if is_queued:
                queued_s += passed_s
                waited_s, limit = queued_s, max_queue_minutes
            else:
                running_s += passed_s
                waited_s, limit = running_s, max_minutes
            if waited_s >= 60 * limit:
                raise ArcpipeError(
                    f"{what}: {state} after {limit:g} minutes: run the same command to go on waiting"
                )
            if is_queued and not was_queued:
                logger.info("%s: %s: it waits for a machine, which does not count as running", what, state)
            was_queued = is_queued
            bar.set_postfix_str(state, refresh=False)
            bar.update(int(running_s) - bar.n)
            time.sleep(pace.poll_s)


@contextmanager
def explain_errors(action: str) -> Iterator[None]:
    """Turn exceptions of the client into KaggleErrors, and its output into warnings."""
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            yield
    except RequestException as error:
        # Compare with None: a response with an error status is falsy.
        if not isinstance(error, HTTPError) or error.response is None:
            what = "did not answer in time" if isinstance(error, Timeout) else "cannot be reached"
            remedy = "see whether kaggle.com works from here, and run it again"
            raise KaggleError(f"{action}: Kaggle {what}: {remedy}", undecided=True) from None
        status = error.response.status_code
        after = error.response.headers.get("Retry-After", "")
        # The URL of a file may contain a signature, which is secret.
        text = shorten(str(error).partition(" for url: ")[0])
        remedy = _REMEDIES.get(status, "run it again later" if status >= 500 else "mend it, and run it again")
        for word, better in _REMEDIES_BY_WORD.items():
            remedy = better if word in text.lower() else remedy
        raise KaggleError(
            f"{action}: Kaggle says {text} ({status}): {remedy}", status,
            undecided=status >= 500, retry_after_s=float(after) if after.isdecimal() else 0.0,
        ) from None  # fmt: skip
    except KeyError as error:
        raise KaggleError(f"{action}: Kaggle answers {error}, which its client does not know") from None
    except JSONDecodeError as error:
        remedy = "see whether kaggle.com works from here"
        raise KaggleError(f"{action}: what came is no JSON ({error}): {remedy}", undecided=True) from None
    except (ValueError, TypeError) as error:
        raise KaggleError(f"{action}: {shorten(error)}") from None
    for line in printed.getvalue().splitlines():
        logger.warning("kaggle: %s", line)


def shorten(text: object) -> str:
    """Return a message of Kaggle in one line of limited length."""
    line = " ".join(str(text or "").split()).rstrip(".")
    return line if len(line) <= _LONGEST_TEXT else f"{line[:_LONGEST_TEXT]}..."


class _UploadError(KaggleError):
    """An upload of a file that failed, before anything was made of the other files."""


@dataclass(frozen=True)
class ListedSubmission:
    """A submission in Kaggle's list; the score is Kaggle's text, empty if there is none."""

    reference: int
    time: str
    status: str
    score: str
    description: str
    error: str


class Kaggle:
    """A connection to Kaggle with the user's own credentials.

    Every method raises KaggleError. A request that only reads is repeated if Kaggle fails or does not
    answer; one that changes something is repeated only after status 429.
    """

    def __init__(self, pace: Pace) -> None:
        """Log in with the user's credentials; ArcpipeError if there are none."""
        self.pace = pace
        # The client contacts Kaggle while it is imported. With an unknown proxy scheme that fails at once.
        proxies = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "offline://x") | {"no_proxy": ""}
        proxies |= {name.upper(): value for name, value in proxies.items()}
        try:
            with environment({**os.environ, **proxies}), redirect_stdout(io.StringIO()):
                from kaggle.api.kaggle_api_extended import KaggleApi
        except (ImportError, OSError) as error:
            raise ArcpipeError(
                f"the kaggle package cannot be loaded ({one_line(error)}): mend that"
            ) from None
        self._api = _api_class(KaggleApi, pace)()
        try:
            with explain_errors("logging in to Kaggle"):
                self._api.authenticate()
        except SystemExit:
            raise ArcpipeError(_NO_CREDENTIALS) from None
        values = self._api.config_values
        if not values.get("token") and str(values.get("key", "")).startswith(_TOKEN):
            raise ArcpipeError(_TOKEN_AS_KEY)

    def refuse_other_case(self, reference: str) -> None:
        """Raise KaggleError if the owner of owner/name is the user, but in another case."""
        owner, user = reference.split("/")[0], str(self._api.config_values.get("username", ""))
        if owner != user and owner.lower() == user.lower():
            raise KaggleError(
                f"{reference}: its owner is {user} in your credentials: write both as in the address of your "
                "page on Kaggle"
            )

    def dataset_state(self, dataset: str) -> tuple[str, int] | None:
        """Return status, such as `ready`, and version of a dataset; None if the user cannot see it."""
        try:
            text = self._read(f"dataset {dataset}", lambda: self._api.dataset_status(dataset, format="json"))
        except KaggleError as error:
            # Kaggle answers 403 for a dataset that does not exist.
            if error.status in (403, 404):
                return None
            raise
        state = orjson.loads(text)
        return str(state["status"]), int(state["current_version_number"] or 0)

    def send_dataset(self, folder: Path, notes: str, *, is_new: bool) -> None:
        """Create the private dataset of a folder with its dataset-metadata.json, or its next version."""
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

        def upload() -> Any:
            with _private_temporary(), Progress(total=size, unit="B", desc="upload") as bar:
                bar.unit_scale, self._api.bar = True, bar
                if is_new:
                    return self._api.dataset_create_new(str(folder), quiet=True, dir_mode="zip")
                return self._api.dataset_create_version(str(folder), notes, quiet=True, dir_mode="zip")

        # Only uploads may be repeated, not the creation of the dataset that follows them.
        action = f"{folder}: making the dataset"
        try:
            answer = retry(action, upload, self.pace, lambda error: isinstance(error, _UploadError))
        except KaggleError as error:
            if not is_new or error.status != 400:
                raise
            # Kaggle answers 400 without a reason if the name is in use.
            in_use = "id or title may be in use, if only by a deleted dataset: bundle with another --name"
            raise KaggleError(f"{error}; {in_use}", 400) from None
        if answer.error or answer.status not in ("ok", "", None):
            raise KaggleError(f"{folder}: Kaggle refused the dataset: {shorten(answer.error)}")

    def push_kernel(self, folder: Path) -> Any:
        """Push a kernel folder; return Kaggle's ApiSaveKernelResponse, which may be a refusal."""
        return self._change(f"{folder}: pushing the kernel", lambda: self._api.kernels_push(str(folder)))

    def kernel_state(self, kernel: SentKernel) -> tuple[str, str]:
        """Return the status of the run of this version, such as COMPLETE, and the reason of a failure."""
        from kagglesdk.kernels.types.kernels_api_service import ApiGetKernelSessionStatusRequest

        request = ApiGetKernelSessionStatusRequest()
        answer = self._ask_of_run(kernel.name, kernel, "get_kernel_session_status", request)
        return answer.status.name, shorten(answer.failure_message)

    def kernel_output(self, kernel: SentKernel) -> tuple[dict[str, str], str]:
        """Return the URLs of the files of this version's run, by name, and its log."""
        from kagglesdk.kernels.types.kernels_api_service import ApiListKernelSessionOutputRequest

        request = ApiListKernelSessionOutputRequest()
        request.page_size = _PAGE_SIZE
        files: dict[str, str] = {}
        log = ""
        while True:
            action = f"{kernel.name}: its output"
            answer = self._ask_of_run(action, kernel, "list_kernel_session_output", request)
            files |= {file.file_name: file.url for file in answer.files or []}
            log = log or answer.log or ""
            if not answer.next_page_token:
                return files, log
            request.page_token = answer.next_page_token

    def _ask_of_run(self, action: str, kernel: SentKernel, method: str, request: Any) -> Any:
        """Send a request about the run of this version; return Kaggle's answer."""
        request.user_name, request.kernel_slug = kernel.reference.split("/")
        # The client's own functions ignore the version and ask about the latest run.
        request.version_label = f"v{kernel.version}"

        def look() -> Any:
            with self._api.build_kaggle_client() as client:
                return getattr(client.kernels.kernels_api_client, method)(request)

        return self._read(action, look)

    def download(self, url: str, path: Path) -> None:
        """Download a URL of `kernel_output` to a file."""
        # One name, so that the next try overwrites what a killed one left.
        part = path.with_name(f".{path.name}.part")

        def load() -> None:
            with requests.get(url, stream=True, timeout=self.pace.timeouts) as answer:
                answer.raise_for_status()
                with part.open("wb") as file:
                    file.writelines(answer.iter_content(1 << 20))

        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._read(f"{path.name}: its download", load)
                part.rename(path)
            finally:
                part.unlink(missing_ok=True)

    def submit(self, sent: SentSubmission, file_name: str, description: str) -> int:
        """Submit an output file of a kernel version; return Kaggle's reference of the submission."""
        answer = self._change(
            f"submitting {sent.kernel} version {sent.version} to {sent.competition}",
            lambda: self._api.competition_submit_code(
                file_name, description, sent.competition, sent.kernel, sent.version, True
            ),
        )
        if not answer.ref:
            raise KaggleError(f"{sent.competition}: Kaggle did not take it: {shorten(answer.message)}", 200)
        return int(answer.ref)

    def submissions(self, competition: str) -> Iterator[ListedSubmission]:
        """Yield the submissions of the user's team to a competition, the newest first."""
        seen: set[int] = set()
        for page in count(1):
            look = partial(
                self._api.competition_submissions, competition, page_number=page, page_size=_PAGE_SIZE
            )
            page_items = self._read(f"{competition}: its submissions", look) or []
            new = [item for item in page_items if item.ref not in seen]
            if not new:
                return
            seen |= {item.ref for item in new}
            for item in new:
                yield ListedSubmission(
                    item.ref,
                    item.date.isoformat(timespec="seconds") if item.date else "",
                    item.status.name,
                    item.public_score or item.private_score or "",
                    item.description,
                    shorten(item.error_description),
                )

    def _read(self, action: str, function: Callable[[], T]) -> T:
        return retry(action, function, self.pace, lambda error: error.undecided or error.status == 429)

    def _change(self, action: str, function: Callable[[], T]) -> T:
        return retry(action, function, self.pace, lambda error: error.status == 429)


def _api_class(official: Any, pace: Pace) -> Any:
    """Return a subclass of the official API with timeouts, our retries, and uploads that raise errors."""

    class Api(official):
        """The API; uploads advance the progress bar `bar`."""

        bar: Any = None

        def build_kaggle_client(self) -> Any:
            client = super().build_kaggle_client()
            http = client.http_client()
            http._init_session()
            http._session.send = partial(http._session.send, timeout=pace.timeouts)
            return client

        def with_retry(self, func: Any, *_: Any, **__: Any) -> Any:
            return lambda request: retry(
                "making the dataset", lambda: func(request), pace, lambda error: error.status == 429
            )

        def upload_complete(self, path: str, url: str, quiet: bool, resume: bool = False) -> Any:
            from kaggle.api.kaggle_api_extended import ResumableUploadResult

            action = f"{Path(path).name}: its upload"
            try:
                with explain_errors(action), open(path, "rb") as file:
                    content = CallbackIOWrapper(self.bar.update, file, "read")
                    requests.put(url, data=content, timeout=pace.timeouts).raise_for_status()
            except KaggleError as error:
                raise _UploadError(f"{error}; nothing was made", error.status, undecided=True) from None
            return ResumableUploadResult.COMPLETE

    return Api


@contextmanager
def _private_temporary() -> Iterator[None]:
    """Use a temporary folder for this block: the client leaves parts of failed uploads in the default one."""
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        try:
            yield
        finally:
            tempfile.tempdir = before
