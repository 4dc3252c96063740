"""The stages of an entry: adapt, infer, vote; each ends in time, and what one loses ends nothing else.

Each stage is a command of arcpipe in processes of their own.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from arcpipe.kaggle_kernels.answers import Answers, Questions, voted, write_readable
from arcpipe.kaggle_kernels.budget import Plan, make_window
from arcpipe.kaggle_kernels.settings import KaggleSettings
from arcpipe.kaggle_kernels.workers import Devices, Ended, Journal, find_devices, run_processes
from arcpipe.recipe import load_recipe
from arcpipe.runs import MANIFEST, read_manifest

_TRIES = 4
# As in arcpipe/checkpoint.py, which would bring torch, and with it whatever ails torch, into this process.
_CHECKPOINTS = f"checkpoints/step-*/{MANIFEST}"
# Those of the tables [adapt] and [infer], where a recipe does not say.
_ADAPT_BATCH, _INFER_BATCH = 128, 256


@dataclass(frozen=True)
class Entry:
    """A checkpoint to adapt, a recipe with the tables [adapt], [infer] and [kaggle], and a folder for all
    that is large."""

    checkpoint: Path
    recipe: str
    scratch: Path

    def table(self, name: str) -> dict[str, Any]:
        """A table of the recipe as it is written."""
        return load_recipe(self.recipe).tables.get(name, {})

    @property
    def settings(self) -> KaggleSettings:
        """The table [kaggle]."""
        return load_recipe(self.recipe).settings("kaggle", KaggleSettings)


@dataclass
class Report:
    """What happened: stages with their time and outcome, and what was lost. Times are in seconds."""

    outputs: int = 0
    answered: int = 0
    processes: int = 0
    gpus: tuple[str, ...] = ()
    plan: str = ""
    stages: list[dict[str, Any]] = field(default_factory=list)
    losses: list[str] = field(default_factory=list)
    tried_tasks: int = 0
    grids: int = 0
    grids_wanted: int = 0
    trained: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    peak_memory_bytes: int = 0
    scratch_bytes: int = 0


class Attempt:
    """The stages of one entry, in folders below its scratch folder."""

    def __init__(self, entry: Entry, questions: Questions, plan: Plan, journal: Journal) -> None:
        self.entry, self.questions, self.plan, self.journal = entry, questions, plan, journal
        self.began, self.settings = time.monotonic(), entry.settings
        self.devices = find_devices(self.settings.cpu_processes, journal)
        self.report = Report(
            outputs=questions.num_outputs, plan=plan.text, gpus=self.devices.gpus,
            processes=self.devices.count, tried_tasks=len(questions.tasks),
        )  # fmt: skip
        self.challenges = entry.scratch / "challenges.json"
        self.adapted, self.predictions = entry.scratch / "adapted", entry.scratch / "predictions"
        self.choice = entry.scratch / "voted.json"
        where = f"GPUs {', '.join(self.devices.gpus)}" if self.devices.gpus else "the CPU"
        journal.say(
            f"plan for {len(questions.tasks)} tasks with {questions.num_outputs} test outputs: "
            f"{plan.text}; {self.devices.count} process(es) on {where}"
        )

    def lose(self, what: str) -> None:
        """Remember and say what makes the submission worse."""
        self.report.losses.append(what)
        self.journal.say(f"LOSS: {what}")

    def make(self) -> Answers | None:
        """The voted answers; None if a stage left nothing."""
        if not self.questions.tasks:
            self.lose("no task can be read")
            return None
        self.entry.scratch.mkdir(parents=True, exist_ok=True)
        write_readable(self.questions, self.challenges)
        self._stage("adapt", self.plan.adapt_s, self._adapt, together=True)
        if not any(self.adapted.glob(_CHECKPOINTS)):
            self.lose("adaptation left no checkpoint, without which nothing can be answered")
            return None
        self.report.trained = self._trained()
        self._stage("infer", self.plan.infer_s, self._infer, together=False)
        self._count_grids()
        self.report.scratch_bytes = folder_size(self.entry.scratch)
        if not self.report.grids:
            self.lose("inference left no candidates")
            return None
        self._stage("vote", self.plan.vote_s, self._vote, together=False)
        if not self.choice.exists():
            self.lose("the vote left no answers")
            return None
        return voted(self.questions, self.choice)

    def _stage(
        self, name: str, end_s: float, command: "Callable[[float, int], list[str]]", *, together: bool
    ) -> None:
        """Run a stage until its end, again as long as it fails for a reason that may have gone.

        Args:  command: the arguments for so many minutes of work, with memory halved so often.
        """
        began, halvings, ended = time.monotonic(), 0, None
        for tries in range(1, _TRIES + 1):
            window = make_window(self.settings, self.began + end_s)
            if not window.is_open:
                break
            arguments = command(window.work_s / 60, halvings)
            self.journal.say(f"{name}: arcpipe {' '.join(arguments)}")
            # The vote is of one process; it would take nothing from others.
            devices = self.devices if name != "vote" else Devices(())
            ended = run_processes(arguments, devices.environments(), window, self.journal, together=together)
            self.journal.say(f"{name}: {ended.text}")
            if ended.well or ended.late or ended.refused:
                break
            self.lose(f"{name}, try {tries}: {ended.text}")
            halvings += ended.out_of_memory
            self._look_for_lost_gpus()
        self._close(name, time.monotonic() - began, end_s, ended)

    def _close(self, name: str, seconds: float, end_s: float, ended: Ended | None) -> None:
        """Enter a stage in the report."""
        outcome = "no time was left" if ended is None else ended.text
        failed = ended is None or not ended.well
        if failed and not (self.report.losses and self.report.losses[-1].endswith(outcome)):
            self.lose(f"{name}: {outcome}")
        said = ended.tail[-1] if ended is not None and ended.tail else ""
        self.report.stages.append(
            {
                "name": name, "seconds": seconds, "ends_by": end_s, "failed": failed, "outcome": outcome,
                "said": said,
            }
        )  # fmt: skip

    def _look_for_lost_gpus(self) -> None:
        if not self.devices.gpus:
            return
        found = find_devices(self.settings.cpu_processes, self.journal)
        if found.gpus and found.gpus != self.devices.gpus:
            self.lose(f"GPUs {', '.join(self.devices.gpus)} -> {', '.join(found.gpus)}")
            self.devices = found

    def _adapt(self, minutes: float, halvings: int) -> list[str]:
        arguments = [
            "adapt", "--checkpoint", str(self.entry.checkpoint), "--challenges", str(self.challenges),
            "--out", str(self.adapted), "--recipe", self.entry.recipe,
        ]  # fmt: skip
        if (self.adapted / MANIFEST).exists():
            # The limit of a resumed run counts the time before.
            minutes += (time.monotonic() - self.began) / 60
            arguments += ["--resume", "--force"]
        arguments += ["--max-minutes", f"{minutes:.3f}"]
        for key, value in adapt_overrides(self.entry.table("adapt"), self.devices.count, halvings).items():
            arguments += ["--set", f"adapt.{key}={value}"]
        return arguments

    def _infer(self, minutes: float, halvings: int) -> list[str]:
        arguments = [
            "infer", "--checkpoint", str(self.adapted), "--data", str(self.adapted / "data"),
            "--out", str(self.predictions), "--max-minutes", f"{minutes:.3f}",
        ]  # fmt: skip
        table = self.entry.table("infer")
        if halvings:
            table["batch_size"] = max(1, table.get("batch_size", _INFER_BATCH) >> halvings)
        for key, value in table.items():
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            arguments += [f"--{key.replace('_', '-')}", text]
        return arguments + (["--resume"] if (self.predictions / MANIFEST).exists() else [])

    def _vote(self, _minutes: float, _halvings: int) -> list[str]:
        return [
            "vote", str(self.predictions), "--challenges", str(self.challenges), "--out", str(self.choice),
        ]  # fmt: skip

    def _count_grids(self) -> None:
        """How many grids were answered, and how many were to be."""
        # Not at the top: a run must come to its fallback even where these do not load.
        from pyarrow import ArrowException, parquet

        from arcpipe.predictions import shard_files

        if not (self.predictions / MANIFEST).exists():
            return
        self.report.grids_wanted = read_manifest(self.predictions, "predictions")["items"]
        for file in shard_files(self.predictions):
            with suppress(OSError, ArrowException):
                self.report.grids += parquet.ParquetFile(file).metadata.num_rows

    def _trained(self) -> dict[str, Any]:
        """The last step of the adaptation and its speed, from its metrics."""
        with suppress(OSError, orjson.JSONDecodeError, IndexError):
            last = orjson.loads((self.adapted / "metrics.jsonl").read_bytes().splitlines()[-1])
            return {name: last.get(name) for name in ("step", "seconds", "samples_per_second")}
        return {}


def adapt_overrides(table: Mapping[str, int], processes: int, halvings: int) -> dict[str, int]:
    """What to change of [adapt] for so many processes, with half the memory so often.

    A part of the batch at a time takes less memory, and the steps stay what they are; the batch itself
    changes only if it does not divide.
    """
    batch, parts = table.get("batch_size", _ADAPT_BATCH), table.get("accumulation", 1)
    smaller = parts * 2**halvings
    whole = processes * smaller
    fitting = max(whole, batch // whole * whole)
    changes = {"accumulation": (parts, smaller), "batch_size": (batch, fitting)}
    return {key: after for key, (before, after) in changes.items() if after != before}


def folder_size(folder: Path) -> int:
    """Bytes of all files below a folder."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total
