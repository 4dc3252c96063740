"""What the processes of a training agree on, so that none goes on alone or waits for one that has ended."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from arcpipe.errors import ArcpipeError

Result = TypeVar("Result")
# What gloo, which has no errors of its own, says where the other end is gone.
_OF_GLOO = ("gloo", "Connection closed by peer", "Connection reset by peer")


def largest(values: Sequence[float], accelerator: Accelerator) -> list[float]:
    """The largest of each value over all processes."""
    if accelerator.num_processes == 1:
        return list(values)
    own = torch.tensor([values], dtype=torch.float64, device=accelerator.device)
    found: list[float] = accelerator.gather(own).amax(dim=0).tolist()
    return found


def all_do(action: Callable[[], Result], accelerator: Accelerator) -> list[Result | None]:
    """What `action` returns on each process, by rank; every process must call this.

    Raises:  on every process, the error of the first one on which it fails with an ArcpipeError.
    """
    result, failed = None, None
    try:
        result = action()
    except ArcpipeError as error:
        failed = error
    outcomes = [(result, failed)]
    if accelerator.num_processes > 1:
        outcomes = gather_object(outcomes)
    for _, found in outcomes:
        if found is not None:
            raise found
    return [returned for returned, _ in outcomes]


def all_work(
    work: Callable[[Callable[[], bool]], object], is_asked_to_stop: Callable[[], bool],
    accelerator: Accelerator,
) -> bool:  # fmt: skip
    """Run `work(stop)` on each process; all end within one call of `stop` once any is asked to, which is
    what is returned.

    `stop` is collective: its n-th call meets that of the other processes. One whose work is done calls it
    until all are done, so that their numbers of calls may differ.

    Raises:  on every process, the error of the first one whose work fails with an ArcpipeError.
    """
    stopped = False

    def stop() -> bool:
        nonlocal stopped
        stopped = stopped or bool(largest([is_asked_to_stop(), True], accelerator)[0])
        return stopped

    def take_part() -> None:
        nonlocal stopped
        try:
            work(stop)
        except ArcpipeError:
            if not stopped:
                largest([True, False], accelerator)
            raise
        working = True
        while working and not stopped:
            stopped, working = map(bool, largest([is_asked_to_stop(), False], accelerator))

    all_do(take_part, accelerator)
    return stopped


def first_does(action: Callable[[], Result], accelerator: Accelerator) -> Result:
    """What `action` returns on the first process, the only one that takes it; errors as in `all_do`."""
    (result, *_) = all_do(lambda: action() if accelerator.is_main_process else None, accelerator)
    return result  # type: ignore[return-value]  # None is of the other processes


@contextmanager
def naming_lost_processes() -> Iterator[None]:
    """Turns what the block raises where another process has ended into an ArcpipeError."""
    try:
        yield
    except RuntimeError as error:
        known = isinstance(error, torch.distributed.DistError)
        if not known and not any(part in str(error) for part in _OF_GLOO):
            raise
        raise ArcpipeError(
            "another process of this training has ended; what it said tells why: mend that, then go on "
            "with --resume"
        ) from None
