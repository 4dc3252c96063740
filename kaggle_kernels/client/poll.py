"""Polling Kaggle with a bar that shows its answer; the run of a kernel's version, and what it left behind."""

import re
import time
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import orjson

from arcpipe.errors import ArcpipeError
from arcpipe.kaggle_kernels.client.history import SentKernel
from arcpipe.kaggle_kernels.client.kaggle import Kaggle
from arcpipe.kaggle_kernels.client.retry import KaggleError, Pace
from arcpipe.log import logger, progress
from arcpipe.runs import file_hash, make_manifest, new_folder

T = TypeVar("T")

OUTPUT_FILE, LOG = "submission.json", "kernel.log"
COMPLETE = "COMPLETE"
_OUTPUT_MANIFEST = "submission.manifest.json"
_FAILED = ("ERROR", "CANCEL_REQUESTED", "CANCEL_ACKNOWLEDGED")
_PLAIN = re.compile(r"[^/\\\0]+")


def poll(look: Callable[[], tuple[str, T | None]], what: str, pace: Pace, max_minutes: float) -> T:
    """Look at Kaggle until what is waited for is there; return it.

    Args:    look: the state in words, and what is waited for, None as long as it is not there.
    Raises:  ArcpipeError when the time is over.
    """
    began = time.monotonic()
    with progress(total=round(max_minutes * 60), initial=0, unit="s", desc=what) as bar:
        while True:
            state, result = look()
            if result is not None:
                return result
            waited_s = time.monotonic() - began
            if waited_s >= max_minutes * 60:
                raise ArcpipeError(
                    f"{what}: {state} after {max_minutes:g} minutes: run the same command to go on waiting"
                )
            bar.set_postfix_str(state, refresh=False)
            bar.update(int(waited_s) - bar.n)
            time.sleep(pace.poll_s)


def run_state(kaggle: Kaggle, kernel: SentKernel) -> tuple[str, str]:
    """Return the status of the run, such as RUNNING, and why it failed, if it did."""
    return kaggle.kernel_state(kernel.reference, kernel.version)


def wait_for_end(kaggle: Kaggle, kernel: SentKernel, max_minutes: float) -> tuple[str, str]:
    """Wait for the end of the run; return its last status, and why it failed, if it did."""

    def look() -> tuple[str, tuple[str, str] | None]:
        state, reason = run_state(kaggle, kernel)
        return state, (state, reason) if is_over(state) else None

    return poll(look, name(kernel), kaggle.pace, max_minutes)


def is_over(state: str) -> bool:
    """Return whether a run with this status has ended."""
    return state == COMPLETE or state in _FAILED


def refuse_failure(kaggle: Kaggle, kernel: SentKernel, state: str, reason: str, where: str) -> None:
    """Raise KaggleError for a run that failed, or that ended without a submission file.

    Args:  where: where its log is to be found.
    """
    problem = ""
    if state in _FAILED:
        problem = f"{state} ({reason})" if reason else state
    elif (
        state == COMPLETE and OUTPUT_FILE not in kaggle.kernel_output(kernel.reference, kernel.version).files
    ):
        problem = f"{COMPLETE}, but without {OUTPUT_FILE}"
    if problem:
        raise KaggleError(f"{name(kernel)}: {problem}: read {where}, mend it, and push again")


def name(kernel: SentKernel) -> str:
    """Return the kernel's version in words."""
    return f"{kernel.reference} version {kernel.version}"


def fetch_output(kaggle: Kaggle, kernel: SentKernel, out: Path) -> None:
    """Make the folder `out` of all files of the run, its log as kernel.log, and a manifest with hashes.

    Raises:  OutputError if there is something at `out` already, KaggleError if a file does not come.
    """
    output = kaggle.kernel_output(kernel.reference, kernel.version)
    hashes: dict[str, str] = {}
    manifest = make_manifest(
        "kaggle-output", kernel=kernel.reference, kernel_version=kernel.version, files=hashes
    )
    with new_folder(out, manifest) as folder:
        for file_name, url in output.files.items():
            parts = PurePosixPath(file_name).parts
            plain = bool(parts) and all(_PLAIN.fullmatch(part) and part != ".." for part in parts)
            if not plain or file_name.startswith("/"):
                raise KaggleError(
                    f"{name(kernel)}: it left a file named {file_name[:80]!a}, which is not fetched"
                )
            kaggle.download(url, folder / file_name)
            hashes[file_name] = file_hash(folder / file_name)
        (folder / LOG).write_text(_log_text(output.log), encoding="utf-8")
    logger.info("%s holds the log and all files of the run", out)


def fetch_submission(kaggle: Kaggle, kernel: SentKernel, path: Path) -> None:
    """Write the submission file of the run to `path`, in the place of what is there, and its manifest."""
    files = kaggle.kernel_output(kernel.reference, kernel.version).files
    if _OUTPUT_MANIFEST in files:
        kaggle.download(files[_OUTPUT_MANIFEST], path.with_name(_OUTPUT_MANIFEST))
    kaggle.download(files[OUTPUT_FILE], path)


def _log_text(log: str) -> str:
    """Return the log as the notebook wrote it: Kaggle gives it as a JSON list of its pieces."""
    try:
        pieces: Any = orjson.loads(log)
        return "".join(piece["data"] for piece in pieces)
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return log
