"""Submitting a kernel's version to a competition, once: what is going to be sent is written down before."""

import time
from datetime import UTC, datetime
from pathlib import Path

from arcpipe.errors import ArcpipeError
from arcpipe.kaggle_kernels.client import poll
from arcpipe.kaggle_kernels.client.history import History, SentKernel, SentSubmission, write_history
from arcpipe.kaggle_kernels.client.kaggle import Kaggle, ListedSubmission
from arcpipe.kaggle_kernels.client.retry import TRIES, KaggleError
from arcpipe.log import logger
from arcpipe.submissions.submission import read_submission

_PENDING = "PENDING"


def fetch_checked(kaggle: Kaggle, kernel: SentKernel, bundle: Path) -> Path:
    """Fetch the submission file of the ended run, in Kaggle's form as far as can be told without the tasks.

    Raises:  ArcpipeError if the run goes on, failed, or left something else.
    """
    state, reason = poll.run_state(kaggle, kernel)
    if not poll.is_over(state):
        raise ArcpipeError(f"{poll.name(kernel)}: {state}: wait with arcpipe kaggle status {bundle} --wait")
    poll.refuse_failure(kaggle, kernel, state, reason, f"its log (arcpipe kaggle status {bundle} --out DIR)")
    path = bundle / "outputs" / f"v{kernel.version}" / poll.OUTPUT_FILE
    poll.fetch_submission(kaggle, kernel, path)
    read_submission(path)
    return path


def submit_once(
    kaggle: Kaggle, bundle: Path, history: History, kernel: SentKernel, competition: str, sha256: str,
    message: str,
) -> SentSubmission:  # fmt: skip
    """Submit this version's file, unless Kaggle has it already; return what was written down of it.

    Args:    sha256: of the submission file that the version's run left behind.
    Raises:  KaggleError if Kaggle refused it, or if there is no telling whether it took it.
    """
    tag = f"[{poll.name(kernel)}]"
    key = (competition, kernel.reference, kernel.version)
    sent = next(
        (one for one in history.submissions if (one.competition, one.kernel, one.version) == key), None
    )
    if sent is None:
        sent = SentSubmission(*key, sha256, datetime.now(UTC).isoformat(timespec="seconds"))
        history.submissions.append(sent)
    if sent.reference is None:
        sent.reference = _find(kaggle, competition, tag)
        if sent.reference is None:
            write_history(bundle, history)
            sent.reference = _send(kaggle, bundle, history, sent, tag, f"{sha256[:8]} {message}")
        else:
            logger.info("%s has it already, as submission %d", competition, sent.reference)
        write_history(bundle, history)
    return sent


def _find(kaggle: Kaggle, competition: str, tag: str) -> int | None:
    """Return the reference of the submission that has the tag in its description."""
    listed = kaggle.submissions(competition)
    return next((one.reference for one in listed if tag in one.description), None)


def _send(
    kaggle: Kaggle, bundle: Path, history: History, sent: SentSubmission, tag: str, message: str
) -> int:
    """Submit now; return Kaggle's reference."""
    description = f"{tag} {message}".strip()
    try:
        return kaggle.submit(sent.competition, sent.kernel, sent.version, poll.OUTPUT_FILE, description)
    except KaggleError as error:
        if error.status is not None and not error.undecided:
            history.submissions.remove(sent)
            write_history(bundle, history)
            raise KaggleError(f"{error}; nothing was submitted", error.status) from None
        reason = error
    for _ in range(TRIES):
        time.sleep(kaggle.pace.poll_s)
        reference = _find(kaggle, sent.competition, tag)
        if reference is not None:
            return reference
    raise KaggleError(
        f"{reason}; it is not in the list of submissions now: run the same command again after some minutes, "
        "it submits only what is not listed by then"
    )


def wait_for_score(kaggle: Kaggle, sent: SentSubmission, max_minutes: float) -> ListedSubmission:
    """Wait for the score of a submission; return it with its score.

    Raises:  KaggleError if Kaggle could not score it, which it also calls COMPLETE.
    """
    what = f"submission {sent.reference} to {sent.competition}"

    def look() -> tuple[str, ListedSubmission | None]:
        for one in kaggle.submissions(sent.competition):
            if one.reference == sent.reference:
                return one.status, None if one.status == _PENDING else one
        return "not listed", None

    submission = poll.poll(look, what, kaggle.pace, max_minutes)
    if submission.status != poll.COMPLETE or not submission.score:
        reason = submission.error or "Kaggle gives no reason"
        raise KaggleError(
            f"{what}: {submission.status} without a score ({reason}): check what the notebook writes, also "
            "for tasks it has never seen, then push and submit a new version"
        )
    return submission
