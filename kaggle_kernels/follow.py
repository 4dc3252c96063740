"""The run of a kernel's version on Kaggle: how it stands, and what it left behind."""

import re
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from arcpipe.kaggle_kernels.asking import KaggleError
from arcpipe.kaggle_kernels.client import Kaggle, Output
from arcpipe.kaggle_kernels.record import SentKernel
from arcpipe.kaggle_kernels.waiting import wait_for
from arcpipe.log import logger
from arcpipe.runs import file_hash, make_manifest, new_folder

OUTPUT_FILE = "submission.json"
_OUTPUT_MANIFEST = "submission.manifest.json"
COMPLETE = "COMPLETE"
_FAILED = ("ERROR", "CANCEL_REQUESTED", "CANCEL_ACKNOWLEDGED")
LOG = "kernel.log"
_PLAIN = re.compile(r"[^/\\\0]+")


def state_now(kaggle: Kaggle, kernel: SentKernel) -> tuple[str, str]:
    """Status of the run, such as RUNNING, and why it failed, if it did."""
    return kaggle.kernel_state(kernel.reference, kernel.version)


def wait_for_end(kaggle: Kaggle, kernel: SentKernel, max_minutes: float) -> tuple[str, str]:
    """The last status of the run, and why it failed, if it did."""

    def look() -> tuple[str, tuple[str, str] | None]:
        state, reason = state_now(kaggle, kernel)
        return state, (state, reason) if is_over(state) else None

    return wait_for(look, name(kernel), kaggle.pace, max_minutes)


def is_over(state: str) -> bool:
    """Whether a run with this status has ended."""
    return state == COMPLETE or state in _FAILED


def refuse_failure(kaggle: Kaggle, kernel: SentKernel, state: str, reason: str, where: str) -> None:
    """Raises KaggleError for a run that failed, or that ended without a submission file.

    Args:  where: where its log is to be found.
    """
    if state in _FAILED:
        said = f"{state} ({reason})" if reason else state
        raise KaggleError(f"{name(kernel)}: {said}: read {where}, mend it, and push again")
    if state == COMPLETE and OUTPUT_FILE not in kaggle.kernel_output(kernel.reference, kernel.version).files:
        raise KaggleError(
            f"{name(kernel)}: {COMPLETE}, but without {OUTPUT_FILE}: read {where}, mend it, and push again"
        )


def name(kernel: SentKernel) -> str:
    """The kernel's version in words."""
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
            _refuse_escape(file_name, kernel)
            path = folder / file_name
            kaggle.download(url, path)
            hashes[file_name] = file_hash(path)
        (folder / LOG).write_text(log_text(output), encoding="utf-8")
    logger.info("%s holds the log and all files of the run", out)


def fetch_submission(kaggle: Kaggle, kernel: SentKernel, path: Path) -> None:
    """Write the submission file of the run to `path`, in the place of what is there, and its manifest."""
    files = kaggle.kernel_output(kernel.reference, kernel.version).files
    if _OUTPUT_MANIFEST in files:
        kaggle.download(files[_OUTPUT_MANIFEST], path.with_name(_OUTPUT_MANIFEST))
    kaggle.download(files[OUTPUT_FILE], path)


def _refuse_escape(file_name: str, kernel: SentKernel) -> None:
    """Raises KaggleError for a name that leads out of the folder it is put in."""
    parts = PurePosixPath(file_name).parts
    if (
        not parts
        or file_name.startswith("/")
        or not all(_PLAIN.fullmatch(part) for part in parts)
        or ".." in parts
    ):
        raise KaggleError(f"{name(kernel)}: it left a file named {file_name[:80]!a}, which is not fetched")


def log_text(output: Output) -> str:
    """The log as the notebook wrote it: Kaggle gives it as a JSON list of its pieces."""
    try:
        pieces: Any = orjson.loads(output.log)
        return "".join(piece["data"] for piece in pieces)
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return output.log
