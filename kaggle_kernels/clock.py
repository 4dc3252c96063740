"""The clock of a Kaggle entry: its settings, the deadlines of its stages, the processes that meet them, and
what another try of a stage changes.
"""

import itertools
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Annotated

from pydantic import BeforeValidator, Field

from arcpipe.errors import IN_FLOAT16, LOST, NOT_FINITE, ArcpipeError, says_out_of_memory
from arcpipe.processes import rank_variables
from arcpipe.recipe import STRICT
from arcpipe.train.config import AdaptSettings

_DEFAULTS = AdaptSettings()
_POLL_S = 0.1
_TAIL_LINES = 30
# The beginning of the line in which a command says why it fails.
_ERROR = "arcpipe: "
_LOST = f"{_ERROR}{LOST}"
_HEARTBEAT_S = 600.0
_PROBE_S = 180.0
# A process in a call of a GPU driver may outlive SIGKILL.
_KILLED_S = 30.0
# A listed GPU may still not compute, so multiply on each.
_PROBE = """
import torch
for index in range(torch.cuda.device_count()):
    try:
        ones = torch.ones(64, 64, device=f"cuda:{index}")
        if (ones @ ones).sum().item() == 64**3:
            print(index, torch.cuda.get_device_name(index), sep="\\t", flush=True)
    except RuntimeError as error:
        print("bad", index, error, sep="\\t", flush=True)
"""
# Time to start a process; at most a quarter of a short clock.
_LEAST_S = 20.0
_SHARE = 0.25
# Largest share of a long clock for the start of a stage, and for its end.
_LONG_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class KaggleSettings:
    """The competition, the machine that runs the notebook, and the split of its time: [kaggle] of a recipe.

    Defaults: ARC Prize 2026. Names, limits and machines change with each year's competition.
    """

    __pydantic_config__ = STRICT

    competition: Annotated[str, Field(description="The competition's name on Kaggle.")] = (
        "arc-prize-2026-arc-agi-2"
    )
    closes: Annotated[
        str,
        # TOML parses an unquoted date to a date object.
        BeforeValidator(str),
        Field(
            pattern=r"^([0-9]{4}-[0-9]{2}-[0-9]{2})?$",
            description="Its last day, as 2026-11-02; of a later submission it is said. Empty: none.",
        ),
    ] = "2026-11-02"
    hidden_tasks: Annotated[
        int, Field(ge=1, description="Tasks of the scored rerun, for which a rehearsal estimates the time.")
    ] = 240
    machine_shape: Annotated[
        str, Field(description="Kaggle's name of the machine; empty for one without a GPU.")
    ] = "NvidiaL4"
    gpus: Annotated[int, Field(ge=0, description="GPUs of that machine.")] = 4
    gpu_tflops: Annotated[
        float, Field(ge=0, description="1e12 operations a second of each of them, for estimates.")
    ] = 121.0
    limit_minutes: Annotated[
        float, Field(gt=0, description="The time limit; the competition ends a notebook after 12 hours.")
    ] = 720.0
    # About an hour of the 12 in arXiv 2511.02886.
    infer_minutes: Annotated[
        float, Field(ge=0, description="Time of inference; adaptation has what this, vote and reserve leave.")
    ] = 75.0
    vote_minutes: Annotated[float, Field(ge=0, description="Time of the vote.")] = 5.0
    # NVARC kept 10 minutes of the 12 hours; Kaggle says that its times are off by up to 10 minutes.
    reserve_minutes: Annotated[float, Field(ge=0, description="Time left unused at the end.")] = 20.0
    smoke_tasks: Annotated[
        int, Field(ge=1, description="Evaluation tasks that the commit run tries before the scored rerun.")
    ] = 4
    smoke_minutes: Annotated[float, Field(gt=0, description="The clock of the commit run.")] = 10.0
    start_s: Annotated[
        float,
        Field(ge=0, description="Time in which the process of a stage starts; its clock runs from then on."),
    ] = 180.0
    grace_s: Annotated[
        float, Field(ge=0, description="Time between asking a process to save what it has and killing it.")
    ] = 60.0
    cpu_processes: Annotated[
        int, Field(ge=1, description="Processes of a stage where there is no GPU; on GPUs each has one.")
    ] = 1


@dataclass(frozen=True)
class Budget:
    """The deadlines of the stages and of the whole entry, in seconds after the start."""

    adapt_s: float
    infer_s: float
    vote_s: float
    total_s: float

    @property
    def text(self) -> str:
        """Return the budget in one line."""
        parts = {
            "adapt": self.adapt_s,
            "infer": self.infer_s - self.adapt_s,
            "vote": self.vote_s - self.infer_s,
            "reserve": self.total_s - self.vote_s,
        }
        return ", ".join(f"{name} {seconds / 60:.1f}" for name, seconds in parts.items()) + " minutes"


def make_budget(settings: KaggleSettings, minutes: float | None) -> Budget:
    """Return the budget for the time limit, or for `minutes`, with all parts scaled by the same factor."""
    total = 60 * (settings.limit_minutes if minutes is None else minutes)
    scale = total / settings.limit_minutes
    least = min(_LEAST_S, total / 4)
    infer, vote = (max(least, scale * part) for part in (settings.infer_minutes, settings.vote_minutes))
    vote_ends = max(2 * least, total - scale * settings.reserve_minutes)
    # Adaptation gets the remaining time, but at least as much as a process takes to start.
    adapt = max(least, vote_ends - infer - vote)
    return Budget(adapt, max(adapt, vote_ends - vote), vote_ends, total)


@dataclass(frozen=True)
class Window:
    """The time of a stage, on the monotonic clock.

    end: when its processes are killed.
    term: when they are asked to save and stop.
    work_s: the time limit passed to the command, without its start; 0 or less if no time is left.
    """

    end: float
    term: float
    work_s: float


def make_window(settings: KaggleSettings, end: float) -> Window:
    """Return the window from now to `end`."""
    left = end - time.monotonic()
    most = max(_LONG_SHARE * left, min(_SHARE * left, _LEAST_S / 2))
    grace, start = min(settings.grace_s, most), min(settings.start_s, most)
    return Window(end, end - grace, left - grace - start)


def refuse_short_clock(settings: KaggleSettings, minutes: float) -> None:
    """Raise ArcpipeError, naming the minutes needed, if adaptation had no time to train."""

    def is_long(minutes: float) -> bool:
        return make_budget(settings, minutes).adapt_s >= 2 * _LEAST_S

    if not is_long(minutes):
        enough = next(number for number in itertools.count(1) if is_long(number))
        raise ArcpipeError(
            f"--minutes {minutes:g}: leaves {make_budget(settings, minutes).adapt_s:.0f} s for adaptation, "
            f"which takes about {_LEAST_S:.0f} s to start: give it {enough} or more"
        )


class Journal:
    """Logs to stdout and a file; ignores a full disk."""

    def __init__(self, path: Path) -> None:
        self._path, self._began = path, time.monotonic()
        self._lock = threading.Lock()

    def say(self, text: str) -> None:
        """Write a line with the minutes since the start to both."""
        line = f"[{(time.monotonic() - self._began) / 60:6.1f} min] {text}\n"
        with suppress(OSError):
            sys.stdout.write(line)
            sys.stdout.flush()
        self.note(line)

    def note(self, line: str) -> None:
        """Write a line to the file only."""
        with self._lock, suppress(OSError), self._path.open("a", encoding="utf-8") as file:
            file.write(line)


@dataclass(frozen=True)
class Outcome:
    """How the processes of a stage ended.

    codes: exit codes by rank.
    late: whether their time was up.
    tails: the last lines of the output of each.
    """

    codes: tuple[int, ...]
    late: bool
    tails: tuple[tuple[str, ...], ...]

    @property
    def success(self) -> bool:
        """Whether all of them succeeded, or stopped when asked to."""
        good = (0, -signal.SIGTERM) if self.late else (0,)
        return all(code in good for code in self.codes)

    @property
    def _failure(self) -> str:
        """The last lines of all of them; empty if they succeeded."""
        return "" if self.success else "\n".join(itertools.chain.from_iterable(self.tails))

    @property
    def out_of_memory(self) -> bool:
        """Whether one of them reported that memory ran out."""
        return says_out_of_memory(self._failure)

    @property
    def not_finite(self) -> bool:
        """Whether the loss or its gradient was not finite."""
        return NOT_FINITE in self._failure

    @property
    def in_float16(self) -> bool:
        """Whether it was not finite in float16."""
        return IN_FLOAT16 in self._failure

    @property
    def refused(self) -> bool:
        """Whether one of them ended with a user error that another try would repeat.

        These are none: that a process has lost another one, that memory ran out (another try halves it), and
        that the loss was not finite (another try halves the learning rates).
        """
        return not (self.out_of_memory or self.not_finite) and any(
            code == 2 and not any(line.startswith(_LOST) for line in tail)
            for code, tail in zip(self.codes, self.tails, strict=True)
        )

    @property
    def text(self) -> str:
        """Return a description for the log."""
        if self.success:
            return "stopped when its time was up" if self.late else "done"
        ends = [
            f"killed by signal {-code}" if code < 0 else f"exit code {code}" for code in self.codes if code
        ]
        why = "its time was up; " if self.late else ""
        errors = [
            (code, ([line for line in tail if line.startswith(_ERROR)] or tail)[-1])
            for code, tail in zip(self.codes, self.tails, strict=True)
            if code and tail
        ]
        # Of a process that was not killed and has lost no other, if there is one.
        errors.sort(key=lambda error: (error[0] < 0, error[1].startswith(_LOST)))
        return f"{why}{', '.join(ends)}" + (f": {errors[0][1]}" if errors else "")


def run_processes(
    arguments: Sequence[str], environments: Sequence[Mapping[str, str]], window: Window, journal: Journal,
    *, together: bool, restart_by: float = -math.inf,
) -> Outcome:  # fmt: skip
    """Run an `arcpipe` command in one process per environment, until all have ended or time is up.

    The processes are direct children, because a launcher kills all of them when one dies. To stop them is to
    ask them, and to kill those that run on after the grace of the window.

    Args:  together: stop all when one fails, because the others would wait for it.
           restart_by: until then, on the monotonic clock, stop all when one crashes, to start all again.
    """
    # One for each, so that the progress of the others does not push out the error of one.
    tails = [deque[str](maxlen=_TAIL_LINES) for _ in environments]
    processes: list[subprocess.Popen[str]] = []
    readers: list[threading.Thread] = []

    def wait(until: float, together: bool = False, restart_by: float = -math.inf) -> None:
        heartbeat = time.monotonic() + _HEARTBEAT_S
        while time.monotonic() < until:
            codes = [process.poll() for process in processes]
            if None not in codes or (together and any(codes)):
                return
            # A user error, exit code 2, would only be repeated.
            if time.monotonic() < restart_by and not {*codes} <= {None, 0, 2}:
                return
            if time.monotonic() >= heartbeat and tails[0]:
                heartbeat += _HEARTBEAT_S
                journal.say(f"  {tails[0][-1]}")
            time.sleep(_POLL_S)

    try:
        for environment, tail in zip(environments, tails, strict=True):
            # Read their output here: writing to a full disk themselves, they would fail.
            process = subprocess.Popen(
                [sys.executable, "-m", "arcpipe", *arguments], env=environment, text=True, errors="replace",
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            processes.append(process)
            readers.append(threading.Thread(target=_read, args=(process.stdout, tail, journal), daemon=True))
            readers[-1].start()
        wait(window.term, together, restart_by)
        late = time.monotonic() >= window.term
        for process in processes:
            process.terminate()
        wait(min(window.end, time.monotonic() + window.end - window.term))
    finally:
        for process in processes:
            process.kill()
        ends = time.monotonic() + _KILLED_S
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, ends - time.monotonic()))
    for reader in readers:
        reader.join(timeout=5)
    codes = (-signal.SIGKILL if one.returncode is None else one.returncode for one in processes)
    return Outcome(tuple(codes), late, tuple(map(tuple, tails)))


def _read(output: IO[str], tail: "deque[str]", journal: Journal) -> None:
    with output:
        for line in output:
            if line.strip():
                tail.append(line.strip())
                journal.note(line)


def adapt_overrides(
    table: Mapping[str, int], processes: int, halvings: int, units: int = 1
) -> dict[str, int]:
    """Return the overrides of the table [adapt] for these processes, with memory halved `halvings` times.

    Accumulation saves memory without changing the steps. The batch size changes only if it does not divide by
    the processes and parts, or leaves a process fewer than `units` samples.
    """
    batch = table.get("batch_size", _DEFAULTS.batch_size)
    parts = table.get("accumulation", _DEFAULTS.accumulation)
    smaller = parts * 2**halvings
    whole = processes * smaller
    fitting = whole * max(batch // whole, math.ceil(processes * units / whole))
    changes = {"accumulation": (parts, smaller), "batch_size": (batch, fitting)}
    return {key: after for key, (before, after) in changes.items() if after != before}


@dataclass(frozen=True)
class Devices:
    """The devices to compute on: working GPUs, by CUDA's names, or a number of processes on the CPU."""

    gpus: tuple[str, ...]
    cpu_processes: int = 1

    @property
    def count(self) -> int:
        """Return the number of processes to start."""
        return len(self.gpus) or self.cpu_processes

    @property
    def text(self) -> str:
        """Return a description for the log."""
        return f"GPUs {', '.join(self.gpus)}" if self.gpus else "the CPU"

    def environments(self) -> list[dict[str, str]]:
        """Return the environment of each process, with which they form a process group."""
        where = {"CUDA_VISIBLE_DEVICES": ",".join(self.gpus)} if self.gpus else {"ACCELERATE_USE_CPU": "true"}
        return rank_variables(self.count, PYTHONUNBUFFERED="1", **where)


def find_devices(cpu_processes: int, journal: Journal) -> Devices:
    """Return the GPUs that compute a small product correctly, or else the CPU."""
    if not any(Path("/dev").glob("nvidia[0-9]*")) and not Path("/dev/dxg").exists():
        return Devices((), cpu_processes)
    printed, why = b"", "torch finds none"
    try:
        command = [sys.executable, "-c", _PROBE]
        done = subprocess.run(command, capture_output=True, timeout=_PROBE_S, check=False)
        printed = done.stdout
        why = done.stderr.decode(errors="replace").strip().rpartition("\n")[2] or why
    except subprocess.TimeoutExpired as error:
        printed, why = error.stdout or b"", f"no answer within {_PROBE_S:g} s"
    except OSError as error:
        why = str(error)
    lines = [line.split("\t") for line in printed.decode(errors="replace").splitlines()]
    for bad in (line for line in lines if line[0] == "bad"):
        journal.say(f"GPU {' '.join(bad[1:])}: is left out")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    names = visible.split(",") if visible else []
    good = [int(line[0]) for line in lines if line[0].isdecimal()]
    if not good:
        journal.say(f"this machine has a GPU, but none computes: {why}")
    return Devices(tuple(names[index] if index < len(names) else str(index) for index in good), cpu_processes)


def refuse_missing_gpus(settings: KaggleSettings, gpus: Sequence[str]) -> None:
    """Raise ArcpipeError if fewer GPUs compute than the machine of the settings has."""
    if len(gpus) < settings.gpus:
        shape = f" {settings.machine_shape}" if settings.machine_shape else ""
        raise ArcpipeError(
            f"{len(gpus)} of {settings.gpus} GPUs (kaggle.gpus) compute: choose the accelerator{shape} in "
            "the notebook's settings on Kaggle and run it again, or make the bundle with kaggle.gpus and "
            "kaggle.machine_shape of the machine that it got"
        )
