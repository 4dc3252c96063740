"""The metrics of a training: metrics.jsonl, trackers and the progress bar."""

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path

import orjson
from accelerate import Accelerator
from torch import Tensor

from arcpipe.devices import measure_peak, speed_text
from arcpipe.documents import read_file
from arcpipe.errors import DataError
from arcpipe.grid import draw
from arcpipe.infer.evaluate import answer_first_test
from arcpipe.log import METRICS_FILE, Progress, color_bits, logger
from arcpipe.runs import write_bytes, writing
from arcpipe.train.run import TrainRun
from arcpipe.train.state import TrainState, checkpoint_of
from arcpipe.train.step import METRICS

_LONG_WITHOUT_EXACT = 1000
# Metrics shown beside the progress bar, the most important first.
_SHOWN: dict[str, Callable[[float], str]] = {
    "train/loss_answer": "loss {:.3f}".format,
    "train/exact_accuracy": "exact {:.3f}".format,
    "train/steps_to_halt": "halted after {:.1f} steps".format,
    "samples_per_second": "{:,.0f} samples/s".format,
    "flops_per_second": speed_text,
    "share_of_peak": "{:.0%} of peak".format,
}
DRAW_EVERY_S = 60.0
# With more puzzles, computing an answer to draw takes too long.
_MOST_DRAWN = 100_000


class MetricsLogger:
    """Sums metrics over steps and processes; writes metrics.jsonl, the trackers and the progress bar.

    There is a record every `log_every` steps and one at the end, for the steps since the last one or since
    the training was resumed. Means over no sample are left out: those of finished samples if none finished,
    the halting head's recall if none was right, its precision if it called none right. The scores of an
    evaluation are a record of their own.
    """

    def __init__(self, run: TrainRun, state: TrainState, accelerator: Accelerator) -> None:
        """Open the run's metrics.jsonl and drop its records after `state`."""
        self.run, self.accelerator = run, accelerator
        self.peak = 0.0
        if accelerator.device.type == "cuda":
            self.peak = accelerator.num_processes * measure_peak(accelerator.device, state.carry.answer.dtype)
        self.sums: Tensor | None = None
        self.lr, self.timed_s, self.timed_samples, self.flops = 0.0, 0.0, 0, 0.0
        self.shown: dict[str, str] = {}
        # Step of the last exact sample; infinite once its absence has been logged.
        self.exact_at: float = state.step
        self.path = run.out / METRICS_FILE
        if accelerator.is_main_process:
            _forget_after(self.path, state.step)
        self.bar = Progress(
            total=run.last_step, initial=state.step, unit="step", desc="train",
            left_s=lambda: run.clock.left_s,
        )  # fmt: skip
        self.drawn_at = math.inf
        is_small = run.puzzles.num_puzzles <= _MOST_DRAWN
        if accelerator.is_main_process and is_small and len(run.puzzles.test_tasks) and sys.stderr.isatty():
            self.drawn_at = time.monotonic()

    def step(self, sums: Tensor, state: TrainState, lr: float, seconds: float) -> None:
        """Add the sums of the step that led to `state`; every `log_every` steps, report.

        Args:  seconds: duration of the step; 0 to leave it out of the speed.
        """
        self.sums = sums if self.sums is None else self.sums + sums
        self.lr = lr
        if seconds:
            self.timed_s += seconds
            self.timed_samples += self.run.settings.batch_size
            self.flops += self.run.settings.batch_size * self.run.sample_flops(state.model.cycles)
        self.bar.update()
        if state.step % self.run.settings.log_every == 0:
            self.report(state)
        if time.monotonic() - self.drawn_at >= DRAW_EVERY_S:
            self._draw(state)
            self.drawn_at = time.monotonic()

    def _draw(self, state: TrainState) -> None:
        """Draw the first test input and the current answer of the averaged weights."""
        puzzles = self.run.puzzles
        checkpoint = checkpoint_of(state, self.run, self.run.out)
        answer = answer_first_test(checkpoint, puzzles, self.accelerator.device)
        grids = {"test input": puzzles.test_inputs.grid(0), f"answer at step {state.step}": answer}
        shown = {title: grid for title, grid in grids.items() if grid is not None}
        family = puzzles.family
        drawing = draw(
            [*shown.values()], [*shown], color_bits(), family.symbols, family.palette, self.bar.ncols
        )
        name = puzzles.table.task_ids[puzzles.test_tasks[0]]
        lacks = f", step {state.step}: the answer is no grid" if answer is None else ""
        self.bar.draw(f"{name}{lacks}\n{drawing}")

    def report(self, state: TrainState) -> None:
        """Write a record of the steps since the last one; every process must call this."""
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
                "train/finished": finished,
                "train/exact_accuracy": total["exact"] / finished,
                "train/cell_accuracy": total["cell"] / finished,
                "train/steps_to_halt": total["steps"] / finished,
            }
        for name, whole in (("recall", total["exact"]), ("precision", total["halt_calls"])):
            if whole:
                record[f"train/halt_{name}"] = total["halt_hits"] / whole
        if total["exact"]:
            self.exact_at = max(self.exact_at, state.step)
        elif state.step - self.exact_at >= _LONG_WITHOUT_EXACT:
            self.exact_at = math.inf
            logger.info(
                "no sample was exact in the last %d steps: the halting head has nothing to learn from yet",
                _LONG_WITHOUT_EXACT,
            )
        record["train/lr"] = self.lr
        if self.timed_s:
            record["samples_per_second"] = self.timed_samples / self.timed_s
            record["flops_per_second"] = self.flops / self.timed_s
            if self.peak:
                record["share_of_peak"] = record["flops_per_second"] / self.peak
        self.sums, self.timed_s, self.timed_samples, self.flops = None, 0.0, 0, 0.0
        # Keep showing the last value of a metric that this record lacks.
        self.shown |= {name: text(record[name]) for name, text in _SHOWN.items() if name in record}
        self.bar.set_postfix_str(", ".join(self.shown[name] for name in _SHOWN if name in self.shown), False)
        self.write(state, record)

    def write(self, state: TrainState, values: dict[str, float]) -> None:
        """Write a record of values measured at a step, such as scores, if there are any."""
        record = {"step": state.step, "seconds": round(state.seconds, 3), **values}
        if self.accelerator.is_main_process and values:
            with writing(self.path), self.path.open("ab") as file:
                file.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
        if self.accelerator.trackers and values:
            self.accelerator.log(record, step=state.step)

    def close(self) -> None:
        """Close the bar."""
        self.bar.close()


def _forget_after(path: Path, step: int) -> None:
    """Drop the records of steps after `step`, and those of evaluations from `step` on.

    Raises:  DataError if the file cannot be read or is no metrics.jsonl.
    """
    if not path.exists():
        return
    lines = [line for line in read_file(path).splitlines(keepends=True) if line.endswith(b"\n")]
    try:
        # The evaluation at the checkpoint's step comes after it and is recorded again.
        places = [
            (record["step"], any(name.startswith("eval/") for name in record))
            for record in map(orjson.loads, lines)
        ]
        earlier = [line for line, place in zip(lines, places, strict=True) if place < (step, True)]
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{path}: a line is no record of a training; mend the file or remove it") from None
    write_bytes(path, b"".join(earlier))
