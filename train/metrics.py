"""The metrics of a training: metrics.jsonl, trackers and the progress bar."""

import math
import sys
import time
from pathlib import Path
from typing import Any

import orjson
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from arcpipe.errors import DataError, why_unreadable
from arcpipe.flops import measure_peak
from arcpipe.grid import draw
from arcpipe.infer.solve import answer_first_test
from arcpipe.log import MetricsFile, color_bits, progress
from arcpipe.runs import write_bytes
from arcpipe.train.config import METRICS_FILE, TrainRun
from arcpipe.train.state import TrainState, checkpoint_of
from arcpipe.train.step import METRICS

# What the progress bar has room for.
_SHOWN = {
    "loss": ("train/loss_answer", ".3f"),
    "exact": ("train/exact_accuracy", ".3f"),
    "steps": ("train/steps_to_halt", ".1f"),
    "samples/s": ("samples_per_second", ".0f"),
    "FLOP/s": ("flops_per_second", ".1e"),
    "peak": ("share_of_peak", ".0%"),
}


DRAW_EVERY_S = 60.0
# Of larger datasets, to draw an answer takes longer than it is worth.
_MOST_DRAWN = 100_000


class MetricsLogger:
    """Sums metrics over steps and processes; writes metrics.jsonl, the trackers and the progress bar.

    There is a record at each multiple of `log_every` steps, and one at the end. It covers the steps since
    the last record, or since the training was resumed. Where no sample finished in these steps, it lacks the
    means over finished samples. Scores of evaluations are records too.
    """

    def __init__(self, run: TrainRun, state: TrainState, accelerator: Accelerator) -> None:
        """Records in the run's metrics.jsonl of what comes after `state` are dropped."""
        self.run, self.accelerator = run, accelerator
        self.peak = 0.0
        if accelerator.device.type == "cuda":
            self.peak = accelerator.num_processes * measure_peak(accelerator.device, state.carry.answer.dtype)
        self.sums: Tensor | None = None
        self.lr, self.took, self.flops = 0.0, 0.0, 0.0
        self.shown: dict[str, str] = {}
        self.file = None
        if accelerator.is_main_process:
            path = run.out / METRICS_FILE
            _forget_after(path, state.step)
            self.file = MetricsFile(path)
        self.bar: tqdm[Any] = progress(total=run.last_step, initial=state.step, unit="step", desc="train")
        self.drawn_at = math.inf
        is_small = run.puzzles.num_puzzles <= _MOST_DRAWN
        if accelerator.is_main_process and is_small and len(run.puzzles.test_tasks) and sys.stderr.isatty():
            self.drawn_at = time.monotonic()

    def step(self, sums: Tensor, state: TrainState, lr: float, took: float) -> None:
        """Add the sums of the step that led to `state` in `took` seconds; every `log_every` steps, report."""
        self.sums = sums if self.sums is None else self.sums + sums
        self.lr = lr
        self.took += took
        self.flops += self.run.settings.batch_size * self.run.sample_flops(state.model.cycles)
        self.bar.update()
        if state.step % self.run.settings.log_every == 0:
            self.report(state)
        if time.monotonic() - self.drawn_at >= DRAW_EVERY_S:
            self._draw(state)
            self.drawn_at = time.monotonic()

    def _draw(self, state: TrainState) -> None:
        """Draw the first test input and the answer to it that the averaged weights have now."""
        puzzles = self.run.puzzles
        manifest = {"recipe": self.run.recipe, "step": state.step}
        checkpoint = checkpoint_of(state, self.run.out, puzzles, manifest)
        answer = answer_first_test(checkpoint, puzzles, self.accelerator.device)
        grids = {"test input": puzzles.test_inputs.grid(0), f"answer at step {state.step}": answer}
        shown = {title: grid for title, grid in grids.items() if grid is not None}
        family = puzzles.family
        drawing = draw([*shown.values()], [*shown], color_bits(), family.symbols, family.palette)
        name = puzzles.table.task_ids[puzzles.test_tasks[0]]
        self.bar.write(f"{name}\n{drawing}" + ("\n(no grid)" if answer is None else ""), file=sys.stderr)

    def report(self, state: TrainState) -> None:
        """Write a record of the steps that have none yet; every process must call this."""
        if self.sums is None:
            return
        total = dict(zip(METRICS, self.accelerator.reduce(self.sums, "sum").tolist(), strict=True))
        samples, finished = total["samples"], total["finished"]
        record = {
            "train/loss_answer": total["loss_answer"] / samples,
            "train/loss_halt": total["loss_halt"] / samples,
        }
        if finished:
            record |= {
                "train/exact_accuracy": total["exact"] / finished,
                "train/cell_accuracy": total["cell"] / finished,
                "train/halt_accuracy": total["halt_right"] / finished,
                # That of a head which never says "right": above it begins what was learned.
                "train/halt_baseline": 1 - total["exact"] / finished,
                "train/steps_to_halt": total["steps"] / finished,
            }
        record |= {
            "train/finished": finished,
            "train/lr": self.lr,
            "samples_per_second": samples / self.took,
            "flops_per_second": self.flops / self.took,
        }
        if self.peak:
            record["share_of_peak"] = record["flops_per_second"] / self.peak
        self.sums, self.took, self.flops = None, 0.0, 0.0
        # What this record lacks stays as it was.
        self.shown |= {name: f"{record[key]:{form}}" for name, (key, form) in _SHOWN.items() if key in record}
        self.bar.set_postfix(self.shown, refresh=False)
        self._write(state, record)

    def scores(self, state: TrainState, scores: dict[str, float]) -> None:
        """Write a record of an evaluation's scores, if there are any."""
        if scores:
            self._write(state, scores)

    def _write(self, state: TrainState, values: dict[str, float]) -> None:
        record = {"step": state.step, "seconds": round(state.seconds, 3), **values}
        if self.file is not None:
            self.file.write(record)
        if self.accelerator.trackers:
            self.accelerator.log(record, step=state.step)

    def close(self) -> None:
        """Close the bar and the file."""
        self.bar.close()
        if self.file is not None:
            self.file.close()


def _forget_after(path: Path, step: int) -> None:
    """Drop the records of steps after the checkpoint that is resumed from, and of evaluations since.

    Raises:  DataError if the file cannot be read or holds something else.
    """

    def is_before(line: bytes) -> bool:
        record = orjson.loads(line)
        # The evaluation at a checkpoint's step comes after it.
        is_evaluation = any(name.startswith("eval/") for name in record)
        return bool(record["step"] < step or (record["step"] == step and not is_evaluation))

    if not path.exists():
        return
    try:
        lines = [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        earlier = [line for line in lines if is_before(line)]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({why_unreadable(error)})") from None
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise DataError(f"{path}: a line is no record of a training; mend the file or remove it") from None
    write_bytes(path, b"".join(earlier))
