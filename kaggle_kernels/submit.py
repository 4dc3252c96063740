"""A bundle on Kaggle: send its dataset, then its kernel, follow the run, and submit it once."""

import hashlib
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from arcpipe.documents import load_json, read_file, read_json
from arcpipe.errors import ArcpipeError, DataError
from arcpipe.kaggle_kernels.kaggle import (
    TRIES,
    Kaggle,
    KaggleError,
    ListedSubmission,
    Pace,
    SentDataset,
    SentKernel,
    SentSubmission,
    poll,
    shorten,
)
from arcpipe.kaggle_kernels.run import REPORT, SUBMISSION
from arcpipe.log import logger
from arcpipe.runs import MANIFEST, file_hash, make_manifest, new_folder, read_manifest, write_json
from arcpipe.submissions.submission import manifest_path, read_submission

KIND = "kaggle-bundle"
DATASET = Path("dataset/dataset-metadata.json")
KERNEL = Path("kernel/kernel-metadata.json")
# The part of a page's address before the reference.
_PAGE = re.compile(
    r"(?:https?://)?(?:www\.)?(?:kaggle\.com/)?(?:(?:datasets|code|kernels|models|competitions|c)/)?"
)
_SOURCES = ("dataset_sources", "competition_sources", "kernel_sources", "model_sources")
_REFERENCE = re.compile(r"[A-Za-z0-9_-]+/[A-Za-z0-9_-]+")
HISTORY_FILE = "kaggle-record.json"
LOG = "kernel.log"
_COMPLETE, _PENDING, _QUEUED = "COMPLETE", "PENDING", "QUEUED"
# A run that takes less than this share of the rehearsed time is suspiciously short.
_FAR_SHORTER = 0.25
_FAILED = ("ERROR", "CANCEL_REQUESTED", "CANCEL_ACKNOWLEDGED")
_READY = "ready"
_HOPELESS = ("failed", "deleted")


@dataclass(frozen=True)
class Bundle:
    """The references (owner/name) of a bundle's dataset and kernel, and the competitions it mounts."""

    dataset: str
    kernel: str
    competitions: tuple[str, ...]


def read_bundle(folder: Path) -> Bundle:
    """Read the Bundle of a folder with `dataset/` and `kernel/`.

    Raises:  DataError naming a file and field that Kaggle would refuse or misunderstand.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no bundle folder: see arcpipe kaggle bundle")
    if (folder / MANIFEST).exists():
        read_manifest(folder, KIND)
    path = folder / KERNEL
    dataset, kernel = _read_fields(folder / DATASET), _read_fields(path)
    for file, fields in ((folder / DATASET, dataset), (path, kernel)):
        reference = str(fields.get("id"))
        _refuse_page(file, "id", reference)
        if not _REFERENCE.fullmatch(reference):
            raise DataError(f"{file}: id: expected owner/name")
    if "id_no" in kernel:
        # The client adds it to a notebook that it pulls.
        raise DataError(f"{path}: id_no: remove it, it would be pushed there and not to {kernel['id']}")
    for name in ("is_private", "enable_gpu", "enable_tpu", "enable_internet"):
        if not isinstance(kernel.get(name, False), bool):
            raise DataError(f"{path}: {name}: expected true or false")
    if kernel.get("enable_internet") is not False:
        # If the field is missing, the client enables the internet.
        raise DataError(f"{path}: enable_internet: write false, a submission runs without internet")
    for name in _SOURCES:
        value = kernel.setdefault(name, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise DataError(f"{path}: {name}: expected a list of names")
        for item in value:
            _refuse_page(path, name, item)
    if dataset["id"] not in {"/".join(source.split("/")[:2]) for source in kernel["dataset_sources"]}:
        raise DataError(f"{path}: dataset_sources: add {dataset['id']}, the dataset of this bundle")
    name = str(kernel.get("code_file"))
    if name != Path(name).name:
        raise DataError(f"{path}: code_file: expected the name of a file beside it")
    code_file = path.with_name(name)
    if code_file.suffix == ".ipynb":
        _read_fields(code_file)
    for file in sorted(one for part in (DATASET, KERNEL) for one in (folder / part.parent).rglob("*")):
        if file.is_symlink():
            raise DataError(f"{file}: is a link, which is not sent: put in its place what it leads to")
        if file.is_file() and not file.stat().st_size:
            raise DataError(f"{file}: an empty file, which Kaggle does not take: remove it")
    return Bundle(dataset["id"], kernel["id"], tuple(kernel["competition_sources"]))


def _refuse_page(path: Path, field: str, reference: str) -> None:
    """Raise DataError if a reference begins like the address of its page."""
    bare = _PAGE.sub("", reference, count=1)
    if bare != reference:
        raise DataError(f"{path}: {field}: {reference!r}: write {bare!r} only")


def _read_fields(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected an object of fields")
    return content


@dataclass
class History:
    """The latest dataset and kernel on Kaggle, and all submissions, the oldest first.

    rehearsed: the share of its clock that the commit run took in the latest rehearsal; None without one.
    """

    dataset: SentDataset | None = None
    kernel: SentKernel | None = None
    submissions: list[SentSubmission] = field(default_factory=list)
    rehearsed: float | None = None


def read_history(bundle: Path) -> History:
    """Read the history of a bundle; an empty one if nothing was sent."""
    path = bundle / HISTORY_FILE
    if not path.exists():
        return History()
    try:
        return TypeAdapter(History).validate_json(read_file(path))
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) or "its JSON"
        raise DataError(
            f"{path}: {where} is broken: move the file away, and see arcpipe kaggle scores before you submit"
        ) from None


def write_history(bundle: Path, history: History) -> None:
    """Write the history, replacing the previous one."""
    write_json(bundle / HISTORY_FILE, asdict(history))


def is_over(state: str) -> bool:
    """Return whether a run with this status has ended."""
    return state == _COMPLETE or state in _FAILED


class BundleOnKaggle:
    """A bundle folder, its history on Kaggle, and a connection that opens with the first request."""

    def __init__(self, folder: Path, pace: Pace) -> None:
        self.folder, self.pace, self.history = folder, pace, read_history(folder)

    @cached_property
    def kaggle(self) -> Kaggle:
        """The connection to Kaggle."""
        return Kaggle(self.pace)

    @property
    def kernel(self) -> SentKernel:
        """The kernel version that was pushed last."""
        if self.history.kernel is None:
            read_bundle(self.folder)
            raise ArcpipeError(
                f"{self.folder}: its kernel is not on Kaggle: arcpipe kaggle push {self.folder}"
            )
        return self.history.kernel

    def _write_history(self) -> None:
        write_history(self.folder, self.history)

    def push_dataset(self, bundle: Bundle, max_minutes: float) -> SentDataset:
        """Push the bundle's dataset; wait until it can be mounted, and return its version.

        Does not send the same files again.
        """
        folder = self.folder / DATASET.parent
        sha256, sent = file_hash(folder), self.history.dataset
        for reference in (bundle.dataset, bundle.kernel):
            self.kaggle.refuse_other_case(reference)
        state = self.kaggle.dataset_state(bundle.dataset)
        status, version = state or ("", 0)
        is_current = (
            sent is not None
            and (sent.reference, sent.sha256) == (bundle.dataset, sha256)
            # Kaggle has this version or a later one, or is still processing it.
            and state is not None and version <= sent.version and status not in _HOPELESS
        )  # fmt: skip
        if sent is None or not is_current:
            sent = SentDataset(bundle.dataset, version + 1, sha256)
            self.kaggle.send_dataset(folder, f"arcpipe {sha256[:8]}", is_new=state is None)
            self.history.dataset = sent
            self._write_history()
        name, sent_version = sent.name, sent.version

        def look() -> tuple[str, bool | None]:
            state = self.kaggle.dataset_state(bundle.dataset)
            if state is None:
                return "not there yet", None
            status, version = state
            if status in _HOPELESS:
                raise KaggleError(
                    f"{name}: Kaggle says {status}: look at its page on kaggle.com, then push again"
                )
            return f"{status} at version {version}", (status == _READY and version >= sent_version) or None

        poll(look, name, self.pace, max_minutes)
        return sent

    def push_kernel(self, bundle: Bundle) -> SentKernel:
        """Push the bundle's kernel, which starts its run; return the new version.

        Raises:  KaggleError if Kaggle refused it, or dropped some of its sources.
        """
        folder = self.folder / KERNEL.parent
        # After a failed push, no earlier version may be submitted instead.
        self.history.kernel = None
        self._write_history()
        try:
            answer = self.kaggle.push_kernel(folder)
        except KaggleError as error:
            if not error.undecided:
                raise
            raise KaggleError(f"{error}; see {bundle.kernel} on kaggle.com first: it may be there") from None
        if answer.error or not answer.version_number:
            reason = shorten(answer.error) or "it names no version"
            raise KaggleError(f"{folder}: Kaggle refused the kernel: {reason}: mend that, and push again")
        page = f"{answer.ref} {answer.url}".strip()
        if page and bundle.kernel.lower() not in page.lower():
            raise KaggleError(f"{folder}: Kaggle took it as {page}: make id and title of its metadata agree")
        # Kaggle names what it dropped from a kernel that it accepted.
        dropped = {name: getattr(answer, f"invalid_{name}") for name in (*_SOURCES, "tags")}
        losses = [f"{name} {', '.join(values)}" for name, values in dropped.items() if values]
        sha256 = hashlib.sha256(f"{file_hash(self.folder / DATASET.parent)}{file_hash(folder)}".encode())
        kernel = SentKernel(bundle.kernel, answer.version_number, answer.url, sha256.hexdigest())
        if losses:
            raise KaggleError(
                f"{kernel.name} runs without its {'; '.join(losses)}: Kaggle does not know them, or not for "
                f"you: mend {self.folder / KERNEL}, and push again"
            )
        self.history.kernel = kernel
        self._write_history()
        logger.info("%s is running", kernel.name)
        return kernel

    def wait_for_end(self, max_minutes: float, max_queue_minutes: float) -> tuple[str, str]:
        """Wait for the end of the run; return its status and the reason of a failure.

        Args:  max_minutes: limit from the start of the run. max_queue_minutes: limit before it.
        """

        def look() -> tuple[str, tuple[str, str] | None]:
            state, reason = self.kaggle.kernel_state(self.kernel)
            return state, (state, reason) if is_over(state) else None

        return poll(look, self.kernel.name, self.pace, max_minutes, _QUEUED, max_queue_minutes)

    def output_of_success(self, state: str, reason: str, where: str) -> dict[str, str]:
        """Return the URLs of the files of a finished run, by name.

        Args:    where: the place of its log, for messages.
        Raises:  KaggleError if it failed, or ended without a submission file.
        """
        if state in _FAILED:
            problem = f"{state} ({reason})" if reason else state
        else:
            files, _ = self.kaggle.kernel_output(self.kernel)
            if SUBMISSION in files:
                return files
            problem = f"{_COMPLETE}, but without {SUBMISSION}"
        raise KaggleError(f"{self.kernel.name}: {problem}: read {where}, mend it, and push again")

    def fetch_output(self, out: Path) -> None:
        """Download all files of the run to the folder `out`, with its log and a manifest with hashes.

        Raises:  OutputError if `out` exists; KaggleError if a download fails.
        """
        kernel = self.kernel
        files, log = self.kaggle.kernel_output(kernel)
        manifest = make_manifest(
            "kaggle-output", kernel=kernel.reference, kernel_version=kernel.version, files={}
        )
        with new_folder(out, manifest) as folder:
            for name, url in files.items():
                path = PurePosixPath(name)
                if path.is_absolute() or ".." in path.parts or not path.parts or {"\0", "\\"} & set(name):
                    raise KaggleError(
                        f"{kernel.name}: it left a file named {name[:80]!a}, which is not fetched"
                    )
                self.kaggle.download(url, folder / name)
                manifest["files"][name] = file_hash(folder / name)
            with suppress(orjson.JSONDecodeError, KeyError, TypeError):
                # Kaggle's log is a JSON list of pieces.
                log = "".join(piece["data"] for piece in orjson.loads(log))
            (folder / LOG).write_text(log, encoding="utf-8")
        logger.info("%s holds the log and all files of the run", out)

    def warn_if_short(self, files: Mapping[str, str]) -> None:
        """Download the report of the finished run; warn if it took far less of its clock than rehearsed.

        Args:  files: the URLs of its files, by name.
        """
        if REPORT not in files:
            return
        path, name = self.output_path(REPORT, self.kernel.version), self.kernel.name
        try:
            self.kaggle.download(files[REPORT], path)
        except ArcpipeError as error:
            logger.warning("%s: nothing is known of how long it ran (%s)", name, error)
            return
        with suppress(OSError, ValueError, KeyError, TypeError, ZeroDivisionError):
            report = load_json(path)
            share = report["seconds"] / report["clock"]
            # Without a rehearsal, expect the run to use all of its time.
            rehearsed = self.history.rehearsed
            expected = 1.0 if rehearsed is None else rehearsed
            if share < _FAR_SHORTER * expected:
                logger.warning(
                    "%s took %.1f of its %.1f minutes, %.0f%% where %.0f%% %s: read its log before you "
                    "submit it (arcpipe kaggle status %s --out DIR)",
                    name, report["seconds"] / 60, report["clock"] / 60, 100 * share, 100 * expected,
                    "was to be expected" if rehearsed is None else "were rehearsed", self.folder,
                )  # fmt: skip

    def output_path(self, name: str, version: int) -> Path:
        """Return the path of a downloaded file of the run of a version."""
        return self.folder / "outputs" / f"v{version}" / name

    def fetch_checked(self) -> Path:
        """Download the submission file of the finished run and check its form; warn if the run was too short.

        Raises:  ArcpipeError if the run has not ended, failed, or its submission file is not valid.
        """
        state, reason = self.kaggle.kernel_state(self.kernel)
        if not is_over(state):
            raise ArcpipeError(
                f"{self.kernel.name}: {state}: wait with arcpipe kaggle status {self.folder} --wait"
            )
        where = f"its log (arcpipe kaggle status {self.folder} --out DIR)"
        files = self.output_of_success(state, reason, where)
        path = self.output_path(SUBMISSION, self.kernel.version)
        for file in (manifest_path(path), path):
            if file.name in files:
                self.kaggle.download(files[file.name], file)
        read_submission(path)
        self.warn_if_short(files)
        return path

    def submit_once(self, competition: str, sha256: str, message: str, *, again: bool) -> SentSubmission:
        """Submit the file of this version, unless Kaggle has it already; return the record of it.

        Args:    sha256: the hash of the submission file from the run of this version.
                 again: submit it once more, unless it is unknown whether Kaggle got the last submission.
        Raises:  KaggleError if Kaggle refused it, or if it is unknown whether Kaggle got it; ArcpipeError
                 for `again` without an earlier submission, or before that has ended.
        """
        key = (competition, self.kernel.reference, self.kernel.version)
        before = [
            one for one in self.history.submissions if (one.competition, one.kernel, one.version) == key
        ]
        is_more = again and not (before and before[-1].reference is None)
        if before and not is_more:
            sent = before[-1]
            if sent.reference is not None:
                return sent
        else:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            sent = SentSubmission(*key, sha256, now, bundle=self.kernel.bundle)
            self.history.submissions.append(sent)
        listed = self._runs(sent)
        if is_more:
            states: dict[int | None, str] = {one.reference: "not listed yet" for one in before}
            states |= {one.reference: one.status for one in listed.values()}
            if not states:
                raise ArcpipeError(f"--again: {self.kernel.name} was not submitted yet: leave --again out")
            for reference, state in states.items():
                if state in (_PENDING, "not listed yet"):
                    raise ArcpipeError(
                        f"--again: submission {reference} of {self.kernel.name} is {state}: leave --again "
                        "out to wait for its score"
                    )
            sent.run = 1 + max([*listed, *(one.run for one in before)])
        elif not before:
            # The history was lost: continue with the last run that Kaggle lists.
            sent.run = max(listed, default=1)
        if sent.run in listed:
            sent.reference = listed[sent.run].reference
            logger.info("%s has it already, as submission %d", competition, sent.reference)
        else:
            # Record it first, so that an interrupted command does not send it again.
            self._write_history()
            sent.reference = self._send(sent, f"{sent.tag} {sha256[:8]} {message}".strip())
        self._write_history()
        return sent

    def _runs(self, sent: SentSubmission) -> dict[int, ListedSubmission]:
        """Return Kaggle's list of submissions of this version, by the run number in their tags."""
        tag = re.compile(re.escape(replace(sent, run=1).tag[:-1]) + r"(?:, run ([0-9]{1,6}))?\]")
        runs: dict[int, ListedSubmission] = {}
        for one in self.kaggle.submissions(sent.competition):
            if match := tag.search(one.description):
                runs.setdefault(int(match[1] or 1), one)
        return runs

    def _send(self, sent: SentSubmission, description: str) -> int:
        """Submit it; return Kaggle's reference, from the list of submissions if the answer was lost."""
        try:
            return self.kaggle.submit(sent, SUBMISSION, description)
        except KaggleError as error:
            if error.status is not None and not error.undecided:
                self.history.submissions.remove(sent)
                self._write_history()
                raise KaggleError(f"{error}; nothing was submitted", error.status) from None
            reason = error
        for _ in range(TRIES):
            time.sleep(self.pace.poll_s)
            if one := self._runs(sent).get(sent.run):
                return one.reference
        raise KaggleError(
            f"{reason}; it is not in the list of submissions now: run the same command again after some "
            "minutes, it submits only what is not listed by then"
        )

    def wait_for_score(self, sent: SentSubmission, max_minutes: float) -> ListedSubmission:
        """Wait for the score of a submission; return Kaggle's entry of it.

        Raises:  KaggleError if it ended without a score, even with status COMPLETE.
        """
        what = f"submission {sent.reference} to {sent.competition}"

        def look() -> tuple[str, ListedSubmission | None]:
            for one in self.kaggle.submissions(sent.competition):
                if one.reference == sent.reference:
                    return one.status, None if one.status == _PENDING else one
            return "not listed", None

        submission = poll(look, what, self.pace, max_minutes)
        if submission.status != _COMPLETE or not submission.score:
            reason = submission.error or "Kaggle gives no reason"
            raise KaggleError(
                f"{what}: {submission.status} without a score ({reason}): check what the notebook writes, "
                "also for tasks it has never seen, then push and submit a new version; if it was Kaggle's "
                "fault, arcpipe kaggle submit --again sends this one once more"
            )
        return submission

    def scored(self) -> Iterator[tuple[SentSubmission, ListedSubmission]]:
        """Yield the submissions of all versions that have a score, with Kaggle's entries of them."""
        competitions = {one.competition for one in self.history.submissions}
        listed = {one.reference: one for name in competitions for one in self.kaggle.submissions(name)}
        for sent in self.history.submissions:
            entry = listed.get(sent.reference) if sent.reference is not None else None
            if entry is not None and entry.status == _COMPLETE and entry.score:
                yield sent, entry
