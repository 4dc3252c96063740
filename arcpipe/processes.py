"""A command and its processes: what asks it to end, and `--processes`, by which it computes in several.

What asks: its time limit, signals, the end of the launcher that would send them. The processes find each
other as Accelerate's do, by the variables that launchers set. They are set here, so that signals, errors and
results of the processes are those of the one command that was typed.
"""

import inspect
import math
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from functools import wraps
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from types import FrameType
from typing import Annotated, Any

import typer

from arcpipe.errors import LOST, ArcpipeError
from arcpipe.log import is_dumb, logger, start_logging

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
# One of these is in the environment of a process that a launcher started.
_LAUNCHED = ("RANK", "TORCHELASTIC_RUN_ID", "ACCELERATE_DYNAMO_BACKEND")
_LAUNCHERS = ("ACCELERATE_", "RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_", "TORCHELASTIC_")
# Between the failure of one process and the end of those that wait for it.
_GRACE_S = 30.0


@dataclass(frozen=True)
class Clock:
    """The time that a command may take, all that it does: --max-minutes, which earlier parts do not count in.

    minutes: None for any time.
    began: when it started, on the monotonic clock.
    """

    minutes: float | None = None
    began: float = field(default_factory=time.monotonic)

    @property
    def left_s(self) -> float:
        """Return the seconds that are left, less than 0 when they are over."""
        return math.inf if self.minutes is None else self.began + 60 * self.minutes - time.monotonic()


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether this process is asked to end.

    It is by SIGINT, SIGTERM, SIGUSR1 or SIGHUP, and once its launcher is gone. Signals that follow change
    nothing, because launchers and schedulers both send them, so that what is being saved gets saved. Only a
    second Ctrl-C in a terminal ends the process at once; the first one says so.
    """
    received: list[int] = []
    launched = any(name in os.environ for name in _LAUNCHED)
    parent = os.getppid()
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def receive(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and not launched and sys.stderr.isatty():
            _tell_of_interrupt(again=signal.SIGINT in received)
        if number == signal.SIGHUP:
            _leave_terminal()
        received.append(number)

    def is_asked() -> bool:
        if launched and not received and os.getppid() != parent:
            logger.warning("the launcher of this process has ended: saving, then ending too")
            received.append(0)
        return bool(received)

    for number, handler in before.items():
        # nohup ignores it, so that the command goes on without its terminal.
        if number != signal.SIGHUP or handler != signal.SIG_IGN:
            signal.signal(number, receive)
    try:
        yield is_asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell_of_interrupt(*, again: bool) -> None:
    """Say what a Ctrl-C does; the second one kills this process."""
    # Not through a buffered stream, which may be in the middle of a write; in place of what is below a bar.
    os.write(2, b"\n" if is_dumb() else b"\n\x1b[J")
    if again:
        os.write(2, b"arcpipe: interrupted twice: ended at once, what was not saved is lost\n")
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    else:
        os.write(2, b"arcpipe: interrupted: saves, then ends; Ctrl-C again ends at once and loses that\n")


def _leave_terminal() -> None:
    """Send what would go to the terminal nowhere: it is gone, and writing to it would be an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        if stream.isatty():
            os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def ignore_signals(_worker: int = 0) -> None:
    """Leave the signals to the process that this one works for; `DataLoader` calls this in its workers."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _count_or_auto(text: str | int) -> str:
    if str(text) != "auto" and (not str(text).isdecimal() or int(text) < 1):
        raise typer.BadParameter(f"expected a number from 1 on, or auto, found {text!r}")
    return str(text)


Processes = Annotated[
    str | None,
    typer.Option(
        parser=_count_or_auto,
        metavar="N|auto",
        help="Processes to compute in; auto: one for each GPU, or for each core where that is faster.",
    ),
]


def rank_variables(count: int, **more: str) -> list[dict[str, str]]:
    """Return the environment, and more, of each of so many processes, by which they find each other."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(_LAUNCHERS)}
    base = {"OMP_NUM_THREADS": str(max(1, _num_cores() // count))} | own | more
    if count == 1:
        return [base]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    base |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    # Without a network the name of the host leads nowhere: the processes talk on the loopback.
    for name in [name for _, name in socket.if_nameindex() if name.startswith("lo")][:1]:
        base |= {"GLOO_SOCKET_IFNAME": name, "NCCL_SOCKET_IFNAME": name}
    return [base | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


def with_processes(*, together: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the flag `--processes`; with more than one, each calls it with the other arguments.

    Args:  together: the processes wait for each other, so that all end when one fails.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(command, eval_str=True)

        @wraps(command)
        def run(*args: Any, processes: str | int | None = None, **kwargs: Any) -> Any:
            if processes is None or str(processes) == "1":
                return command(*args, **kwargs)
            if "RANK" in os.environ:
                raise ArcpipeError("--processes: a launcher has started this process: leave one of them out")
            began, arguments = time.monotonic(), signature.bind(*args, **kwargs).arguments
            start_logging()
            count = _auto_count(run, arguments, signature) if processes == "auto" else int(processes)
            if arguments.get("max_minutes") is not None:
                spent = (time.monotonic() - began) / 60
                arguments["max_minutes"] = max(0.0, arguments["max_minutes"] - spent)
            return command(**arguments) if count == 1 else _in_ranks(run, count, arguments, together)

        flag = inspect.Parameter(
            "processes", inspect.Parameter.KEYWORD_ONLY, annotation=Processes, default=None
        )
        parameters = [*signature.parameters.values(), flag]
        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        return run

    return decorate


def _num_cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _auto_count(command: Callable[..., Any], arguments: dict[str, Any], signature: inspect.Signature) -> int:
    """All GPUs; without any, of one process and one for each core those that train faster in a dry run."""
    # Not at the top: what starts the notebook on Kaggle does without torch.
    import torch

    if gpus := torch.cuda.device_count():
        return gpus
    # A power of two, by which batches divide.
    most = 1 << (_num_cores().bit_length() - 1)
    if most == 1 or "dry_run" not in signature.parameters:
        logger.info("--processes auto: %d, by the number of cores", most)
        return most
    speeds: dict[int, float] = {}
    for count in (1, most):
        try:
            speeds[count] = _in_ranks(command, count, arguments | {"dry_run": True}, True, quiet=True)
        except ArcpipeError as error:
            if count == 1:
                raise
            logger.info("--processes auto: not %d: %s", count, error)
    best = max(speeds, key=speeds.__getitem__)
    told = ", ".join(f"{count} with {speed:,.1f} samples/s" for count, speed in speeds.items())
    logger.info("--processes auto: %s: %d", told, best)
    return best


def _in_ranks(
    command: Callable[..., Any], count: int, arguments: Mapping[str, Any], together: bool, *,
    quiet: bool = False,
) -> Any:  # fmt: skip
    """Call a command in so many processes; return what the first one returns.

    Raises:  ArcpipeError as one of them does; KeyboardInterrupt if they were asked to end before they could
             save anything.
    """
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe(duplex=False) for _ in range(count)]
    processes = [
        context.Process(target=_be_rank, args=(sender, command, dict(arguments), quiet))
        for _, sender in pipes
    ]
    with stop_on_signals() as is_asked_to_stop:
        # They handle signals once they have begun; what a terminal sends to all must not end them before.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        for process, variables in zip(processes, rank_variables(count), strict=True):
            with _environment(variables):
                process.start()
        signal.signal(signal.SIGINT, before)
        _wait(processes, is_asked_to_stop, together)
        interrupted = is_asked_to_stop()
    outcomes = [receiver.recv() if receiver.poll() else (None, "") for receiver, _ in pipes]
    if errors := sorted((error for _, error in outcomes if error), key=lambda text: text.startswith(LOST)):
        raise ArcpipeError(errors[0])
    codes = {rank: process.exitcode for rank, process in enumerate(processes) if process.exitcode}
    if interrupted and (codes or outcomes[0][0] is None):
        raise KeyboardInterrupt
    for rank, code in codes.items():
        if code < 0:
            raise ArcpipeError(f"process {rank} of {count} was killed by signal {-code}")
        sys.exit(code)
    return outcomes[0][0]


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Have these variables, and no others, during the block."""
    before = dict(os.environ)
    try:
        os.environ.clear()
        os.environ.update(variables)
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _wait(processes: Sequence[Any], is_asked_to_stop: Callable[[], bool], together: bool) -> None:
    """Wait for the end of all; hand a signal on, and end those that a failed one has left waiting."""
    ends, told = float("inf"), False
    try:
        while alive := [process for process in processes if process.is_alive()]:
            if is_asked_to_stop() and not told:
                told = True
                for process in alive:
                    process.terminate()
            if together and ends == float("inf") and any(process.exitcode for process in processes):
                ends = time.monotonic() + _GRACE_S
            if time.monotonic() >= ends:
                break
            wait_for([process.sentinel for process in alive], timeout=0.2)
    finally:
        for process in processes:
            process.kill()
            process.join()


def _be_rank(sender: Connection, command: Callable[..., Any], arguments: dict[str, Any], quiet: bool) -> None:
    """In a process: call the command, and send what it returns or the message of its error."""
    threading.Thread(target=_end_with_launcher, daemon=True).start()
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere if quiet else sys.stdout):
        try:
            outcome = command(**arguments), ""
        except ArcpipeError as error:
            outcome = None, str(error)
    with suppress(BrokenPipeError):
        sender.send(outcome)


def _end_with_launcher() -> None:
    """Ask this process to end once its launcher has, even while it waits for a process that never began."""
    launcher = multiprocessing.parent_process()
    assert launcher is not None
    launcher.join()
    os.kill(os.getpid(), signal.SIGTERM)
