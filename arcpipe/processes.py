"""Stopping a command, and `--processes`, which runs a command in several processes.

A command stops at its time limit, on a signal, or when its launcher exits. Processes find each other through
the environment variables that Accelerate's launcher sets. They are set here instead, so that signals, errors
and results are those of the one command that was typed.
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
from arcpipe.recipe import with_parameters

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)
# Every launcher sets one of these variables.
_LAUNCHER_MARKS = ("RANK", "TORCHELASTIC_RUN_ID", "ACCELERATE_DYNAMO_BACKEND")
_LAUNCHER_PREFIXES = ("ACCELERATE_", "RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_", "TORCHELASTIC_")
# Taken when the command starts: a launcher may end while torch is loaded and the processes find each other.
_PROCESS, _LAUNCHER = os.getpid(), os.getppid()
# From the failure of one process until the others are killed.
_GRACE_S = 30.0


@dataclass(frozen=True)
class Clock:
    """Time limit of one invocation of a command (--max-minutes). Earlier invocations do not count.

    minutes: None for no limit.
    began: start of the invocation, on the monotonic clock.
    """

    minutes: float | None = None
    began: float = field(default_factory=time.monotonic)

    @property
    def left_s(self) -> float:
        """Return the seconds left, negative after the limit."""
        return math.inf if self.minutes is None else self.began + 60 * self.minutes - time.monotonic()


@contextmanager
def stop_on_signals(received: list[int] | None = None) -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether this process should stop.

    It should after SIGINT, SIGTERM, SIGUSR1 or SIGHUP, and after its launcher has exited. Further signals do
    not interrupt a save, because launchers and schedulers often send several. Only a second Ctrl-C in a
    terminal ends the process at once; the first one says so. A thread receives no signals.

    Args:  received: a list that gets the number of each signal, 0 for the end of the launcher.
    """
    received = [] if received is None else received
    # A fork of the process that imported this module has another parent.
    parent = _LAUNCHER if os.getpid() == _PROCESS else os.getppid()
    has_launcher = any(name in os.environ for name in _LAUNCHER_MARKS)
    previous = {number: signal.getsignal(number) for number in SIGNALS}

    def receive(number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT and not has_launcher and sys.stderr.isatty():
            _announce_interrupt(again=signal.SIGINT in received)
        if number == signal.SIGHUP:
            # The terminal is gone, and writing to it would raise an error.
            null = os.open(os.devnull, os.O_WRONLY)
            for stream in (sys.stdout, sys.stderr):
                if stream.isatty():
                    os.dup2(null, stream.fileno())
            os.close(null)
        received.append(number)

    def should_stop() -> bool:
        if has_launcher and not received and os.getppid() != parent:
            logger.warning("the launcher of this process has ended: saving, then ending too")
            received.append(0)
        return bool(received)

    for number, handler in previous.items():
        # Under nohup, SIGHUP is ignored already and must stay so.
        if number != signal.SIGHUP or handler != signal.SIG_IGN:
            _set_handler(number, receive)
    try:
        yield should_stop
    finally:
        for number, handler in previous.items():
            _set_handler(number, handler)


def _set_handler(number: int, handler: Any) -> Any:
    """Set the handler of a signal and return the one before; outside the main thread Python allows none."""
    is_main = threading.current_thread() is threading.main_thread()
    return signal.signal(number, handler) if is_main else None


def _announce_interrupt(*, again: bool) -> None:
    """Print what Ctrl-C does; the second one kills this process."""
    # Unbuffered, because a signal may arrive within a buffered write. Clears what is below a progress bar.
    os.write(2, b"\n" if is_dumb() else b"\n\x1b[J")
    if again:
        os.write(2, b"arcpipe: interrupted twice: ended at once, what was not saved is lost\n")
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    else:
        os.write(2, b"arcpipe: interrupted: saves, then ends; Ctrl-C again ends at once and loses that\n")


def ignore_signals(_worker: int) -> None:
    """Ignore signals in a worker process, which its parent stops; `DataLoader` calls this in its workers."""
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
    """Return the environment of each of `count` processes: this one, `more`, and how they find each other."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(_LAUNCHER_PREFIXES)}
    base = {"OMP_NUM_THREADS": str(max(1, num_cores() // count))} | own | more
    if count == 1:
        return [base]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    base |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    # Without a network the host name does not resolve, so the processes talk over the loopback interface.
    if loopback := [name for _, name in socket.if_nameindex() if name.startswith("lo")]:
        base |= {"GLOO_SOCKET_IFNAME": loopback[0], "NCCL_SOCKET_IFNAME": loopback[0]}
    return [base | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


def with_processes(*, together: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the flag `--processes` to a command; each process calls it with the other arguments.

    Args:  together: the processes wait for each other, so all must end when one fails.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(command, eval_str=True)

        @wraps(command)
        def run(*args: Any, processes: str | int | None = None, **kwargs: Any) -> Any:
            if processes is None or str(processes) == "1":
                return command(*args, **kwargs)
            if "RANK" in os.environ:
                raise ArcpipeError("--processes: a launcher has started this process: leave one of them out")
            arguments = signature.bind(*args, **kwargs).arguments
            clock = Clock(arguments.get("max_minutes"))
            start_logging()
            count = _auto_count(run, arguments, signature) if processes == "auto" else int(processes)
            if clock.minutes is not None:
                arguments["max_minutes"] = max(0.0, clock.left_s / 60)
            return command(**arguments) if count == 1 else _run_in_processes(run, count, arguments, together)

        flag = inspect.Parameter(
            "processes", inspect.Parameter.KEYWORD_ONLY, annotation=Processes, default=None
        )
        return with_parameters(run, [*signature.parameters.values(), flag])

    return decorate


def memory_bytes() -> int:
    """Return the size of this machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def num_cores() -> int:
    """Return the number of cores available to this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _auto_count(command: Callable[..., Any], arguments: dict[str, Any], signature: inspect.Signature) -> int:
    """Return the number of GPUs; without any, 1 or a process per core, whichever a dry run finds faster."""
    # Not at the top: the launcher of the Kaggle notebook does without torch.
    import torch

    if gpus := torch.cuda.device_count():
        return gpus
    # A power of two, so that batches divide evenly.
    most = 1 << (num_cores().bit_length() - 1)
    if most == 1 or "dry_run" not in signature.parameters:
        logger.info("--processes auto: %d, by the number of cores", most)
        return most
    speeds: dict[int, float] = {}
    for count in (1, most):
        try:
            speeds[count] = _run_in_processes(command, count, arguments | {"dry_run": True}, True, quiet=True)
        except ArcpipeError as error:
            if count == 1:
                raise
            logger.info("--processes auto: not %d: %s", count, error)
    best = max(speeds, key=speeds.__getitem__)
    results = ", ".join(f"{count} with {speed:,.1f} samples/s" for count, speed in speeds.items())
    logger.info("--processes auto: %s: %d", results, best)
    return best


def _run_in_processes(
    command: Callable[..., Any], count: int, arguments: Mapping[str, Any], together: bool, *,
    quiet: bool = False,
) -> Any:  # fmt: skip
    """Call a command in `count` processes; return the result of the first one.

    Raises:  ArcpipeError if one of them does; KeyboardInterrupt if a signal stops them before anything is
             saved.
    """
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe(duplex=False) for _ in range(count)]
    processes = [
        context.Process(target=_run_rank, args=(sender, command, dict(arguments), quiet))
        for _, sender in pipes
    ]
    received: list[int] = []
    with stop_on_signals(received) as should_stop:
        # A terminal sends Ctrl-C to all processes: it must not kill those that have no handler yet.
        handler = _set_handler(signal.SIGINT, signal.SIG_IGN)
        for process, variables in zip(processes, rank_variables(count), strict=True):
            with environment(variables):
                process.start()
        _set_handler(signal.SIGINT, handler)
        _wait(processes, should_stop, received, together)
        interrupted = should_stop()
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
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Replace the environment during the block."""
    previous = dict(os.environ)
    try:
        os.environ.clear()
        os.environ.update(variables)
        yield
    finally:
        os.environ.clear()
        os.environ.update(previous)


def _wait(
    processes: Sequence[Any], should_stop: Callable[[], bool], received: Sequence[int], together: bool
) -> None:
    """Wait for all processes; pass a signal on, and kill those that wait for one that failed."""
    deadline, is_passed_on = math.inf, False
    try:
        while alive := [process for process in processes if process.is_alive()]:
            if should_stop() and not is_passed_on:
                is_passed_on = True
                for process in alive:
                    if signal.SIGINT in received:
                        # For the result to say so; not enough for one that has no handler yet.
                        os.kill(process.pid, signal.SIGINT)
                    process.terminate()
            if together and deadline == math.inf and any(process.exitcode for process in processes):
                deadline = time.monotonic() + _GRACE_S
            if time.monotonic() >= deadline:
                break
            wait_for([process.sentinel for process in alive], timeout=0.2)
    finally:
        for process in processes:
            process.kill()
            process.join()


def _run_rank(
    sender: Connection, command: Callable[..., Any], arguments: dict[str, Any], quiet: bool
) -> None:
    """Call the command in a child process; send its result or its error message."""
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    with open(os.devnull, "w") as null, redirect_stdout(null if quiet else sys.stdout):
        try:
            outcome = command(**arguments), ""
        except ArcpipeError as error:
            outcome = None, str(error)
    with suppress(BrokenPipeError):
        sender.send(outcome)


def _stop_with_parent() -> None:
    """Stop this process when its parent exits, even while it waits for a process that never started."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
