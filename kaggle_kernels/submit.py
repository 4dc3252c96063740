"""Submitting a kernel's version to a competition, once: what is going to be sent is written down before."""

import time
from datetime import UTC, datetime
from pathlib import Path

from arcpipe.kaggle_kernels.asking import TRIES, KaggleError
from arcpipe.kaggle_kernels.client import Kaggle, Submission
from arcpipe.kaggle_kernels.follow import OUTPUT_FILE
from arcpipe.kaggle_kernels.record import Record, SentKernel, SentSubmission, write_record
from arcpipe.kaggle_kernels.waiting import wait_for
from arcpipe.log import logger

_PENDING = "PENDING"
_COMPLETE = "COMPLETE"


def submit_once(
    kaggle: Kaggle, bundle: Path, record: Record, kernel: SentKernel, competition: str, sha256: str,
    message: str,
) -> SentSubmission:  # fmt: skip
    """The submission of this version's file, sent now unless Kaggle has it already.

    Args:    sha256: of the submission file that the version's run left behind.
    Raises:  KaggleError if Kaggle refused it, or if there is no telling whether it took it.
    """
    tag = f"[{kernel.reference} version {kernel.version}]"
    sent = _written_down(record, kernel, competition)
    if sent is None:
        sent = SentSubmission(
            competition, kernel.reference, kernel.version, sha256,
            datetime.now(UTC).isoformat(timespec="seconds"),
        )  # fmt: skip
        record.submissions.append(sent)
    if sent.reference is None:
        sent.reference = _find(kaggle, competition, tag)
        if sent.reference is None:
            write_record(bundle, record)
            sent.reference = _send(kaggle, bundle, record, sent, tag, f"{sha256[:8]} {message}")
        else:
            logger.info("%s has it already, as submission %d", competition, sent.reference)
        write_record(bundle, record)
    return sent


def _written_down(record: Record, kernel: SentKernel, competition: str) -> SentSubmission | None:
    """What the record has of a submission of this version, which has but one submission file."""
    wanted = (competition, kernel.reference, kernel.version)
    return next(
        (one for one in record.submissions if (one.competition, one.kernel, one.version) == wanted), None
    )


def _find(kaggle: Kaggle, competition: str, tag: str) -> int | None:
    """The reference of the submission that has the tag in its description."""
    listed = kaggle.submissions(competition)
    return next((one.reference for one in listed if tag in one.description), None)


def _send(kaggle: Kaggle, bundle: Path, record: Record, sent: SentSubmission, tag: str, message: str) -> int:
    """Kaggle's reference of what is submitted now."""
    description = f"{tag} {message}".strip()
    try:
        return kaggle.submit(sent.competition, sent.kernel, sent.version, OUTPUT_FILE, description)
    except KaggleError as error:
        if error.status is not None and not error.undecided:
            record.submissions.remove(sent)
            write_record(bundle, record)
            raise KaggleError(f"{error}; nothing was submitted", error.status) from None
        reason = error
    for _ in range(TRIES):
        time.sleep(kaggle.pace.poll_s)
        found = _find(kaggle, sent.competition, tag)
        if found is not None:
            return found
    raise KaggleError(
        f"{reason}; it is not in the list of submissions now: run the same command again after some minutes, "
        "it submits only what is not listed by then"
    )


def wait_for_score(kaggle: Kaggle, sent: SentSubmission, max_minutes: float) -> Submission:
    """The submission with its score.

    Raises:  KaggleError if Kaggle could not score it, which it also calls COMPLETE.
    """
    what = f"submission {sent.reference} to {sent.competition}"

    def look() -> tuple[str, Submission | None]:
        listed = kaggle.submissions(sent.competition)
        found = next((one for one in listed if one.reference == sent.reference), None)
        if found is None:
            return "not listed", None
        return found.status, None if found.status == _PENDING else found

    submission = wait_for(look, what, kaggle.pace, max_minutes)
    if submission.status != _COMPLETE or not submission.score:
        reason = submission.error or "Kaggle gives no reason"
        raise KaggleError(
            f"{what}: {submission.status} without a score ({reason}): check what the notebook writes, also "
            "for tasks it has never seen, then push and submit a new version"
        )
    return submission
