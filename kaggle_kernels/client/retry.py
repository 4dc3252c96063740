"""Requests to Kaggle: what to try again, what an error means, and looking until something is there."""

import io
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from json import JSONDecodeError
from typing import TypeVar

from requests.exceptions import HTTPError, RequestException, Timeout

from arcpipe.errors import ArcpipeError
from arcpipe.log import logger, progress

T = TypeVar("T")

TRIES = 4
_LONGEST_WAIT_S = 600.0
_LONGEST_TEXT = 300
_REMEDIES = {
    401: "the credentials are refused: make a new token at kaggle.com/settings",
    403: "check owner and spelling, and accept the competition's rules on its page",
    404: "check owner and spelling",
    429: "too many requests: run it again in some minutes",
}
# What to do where Kaggle's words say more than its status.
_REMEDIES_BY_WORD = {
    "daily": "wait for the next day, which begins at 00:00 UTC",
    "could not find provided notebook": (
        "a version can be submitted some 20 minutes after its run has ended: wait; if that is long ago, "
        "see that owner and name are those of the notebook's page, in lower case"
    ),
}


@dataclass(frozen=True)
class Pace:
    """Seconds to wait for an answer (timeout_s), and between two looks or two tries (poll_s)."""

    timeout_s: float = 60.0
    poll_s: float = 30.0


class KaggleError(ArcpipeError):
    """A request that Kaggle refused or did not answer.

    status: of HTTP, if Kaggle answered.
    undecided: the request may or may not have been applied.
    retry_after_s: the seconds of Retry-After, if Kaggle named them.
    """

    def __init__(
        self, message: str, status: int | None = None, *, undecided: bool = False, retry_after_s: float = 0
    ) -> None:
        super().__init__(message)
        self.status = status
        self.undecided = undecided
        self.retry_after_s = retry_after_s


def retry(doing: str, function: Callable[[], T], pace: Pace, may_repeat: Callable[[KaggleError], bool]) -> T:
    """Return what the function returns, called again while its error is one that may be repeated."""
    for tries_left in reversed(range(TRIES)):
        try:
            with explain_errors(doing):
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
    """Look at Kaggle until what is waited for is there; return it.

    Args:    look: the state in words, and what is waited for, None as long as it is not there.
             queue: the state whose time does not count, but against `max_queue_minutes`.
    Raises:  ArcpipeError when the time is over.
    """
    limits = {False: max_minutes, True: max_queue_minutes}
    waited_s, was_queued, last = {False: 0.0, True: 0.0}, False, time.monotonic()
    with progress(total=round(max_minutes * 60), initial=0, unit="s", desc=what) as bar:
        while True:
            state, result = look()
            if result is not None:
                return result
            is_queued, now = state == queue, time.monotonic()
            waited_s[is_queued] += now - last
            if waited_s[is_queued] >= 60 * (limit := limits[is_queued]):
                raise ArcpipeError(
                    f"{what}: {state} after {limit:g} minutes: run the same command to go on waiting"
                )
            if is_queued and not was_queued:
                logger.info("%s: %s: it waits for a machine, which does not count as running", what, state)
            was_queued, last = is_queued, now
            bar.set_postfix_str(state, refresh=False)
            bar.update(int(waited_s[False]) - bar.n)
            time.sleep(pace.poll_s)


@contextmanager
def explain_errors(doing: str) -> Iterator[None]:
    """Turn what the client raises into a KaggleError, and what it prints into warnings."""
    printed = io.StringIO()
    try:
        with redirect_stdout(printed):
            yield
    except RequestException as error:
        raise _kaggle_error(doing, error) from None
    except KeyError as error:
        raise KaggleError(f"{doing}: Kaggle answers {error}, which its client does not know") from None
    except JSONDecodeError as error:
        remedy = "see whether kaggle.com works from here"
        raise KaggleError(f"{doing}: what came is no JSON ({error}): {remedy}", undecided=True) from None
    except (ValueError, TypeError) as error:
        raise KaggleError(f"{doing}: {shorten(error)}") from None
    for line in printed.getvalue().splitlines():
        logger.warning("kaggle: %s", line)


def _kaggle_error(doing: str, error: RequestException) -> KaggleError:
    """Return one line: what was requested, what came of it, what to do."""
    # A response with an error status is false by itself.
    if not isinstance(error, HTTPError) or error.response is None:
        what = "did not answer in time" if isinstance(error, Timeout) else "cannot be reached"
        remedy = "see whether kaggle.com works from here, and run it again"
        return KaggleError(f"{doing}: Kaggle {what}: {remedy}", undecided=True)
    status = error.response.status_code
    after = error.response.headers.get("Retry-After", "")
    # The address of a file may hold a signature, which is a secret.
    text = shorten(str(error).partition(" for url: ")[0])
    remedy = _REMEDIES.get(status, "run it again later" if status >= 500 else "mend it, and run it again")
    for word, better in _REMEDIES_BY_WORD.items():
        remedy = better if word in text.lower() else remedy
    return KaggleError(
        f"{doing}: Kaggle says {text} ({status}): {remedy}", status,
        undecided=status >= 500, retry_after_s=float(after) if after.isdecimal() else 0.0,
    )  # fmt: skip


def shorten(text: object) -> str:
    """Return what Kaggle says, in one line and not too long."""
    line = " ".join(str(text or "").split()).rstrip(".")
    return line if len(line) <= _LONGEST_TEXT else f"{line[:_LONGEST_TEXT]}..."
