"""What a training tells while it runs: metrics.jsonl, trackers and the progress bar."""

from pathlib import Path
from typing import Any

import orjson
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from arcpipe.errors import DataError
from arcpipe.flops import measure_peak
from arcpipe.log import MetricsFile, progress
from arcpipe.runs import write_bytes
from arcpipe.train.job import METRICS_FILE, TrainJob
from arcpipe.train.state import TrainState
from arcpipe.train.step import METRICS


class Reporter:
    """Sums metrics over steps and processes; writes metrics.jsonl, the trackers and the progress bar.

    There is a record at each step that is a multiple of `log_every`, and one at the end. It is of the
    steps since the one before, or since the training was resumed; where no sample finished in these, it has
    nothing to say of those that do. Scores of evaluations are records too.
    """

    def __init__(self, job: TrainJob, state: TrainState, accelerator: Accelerator) -> None:
        """Records in the run's metrics.jsonl of what comes after `state` are dropped."""
        self.log_every = job.settings.log_every
        self.accelerator = accelerator
        self.job = job
        self.peak = 0.0
        if accelerator.device.type == "cuda":
            self.peak = accelerator.num_processes * measure_peak(accelerator.device, state.carry.answer.dtype)
        self.sums: Tensor | None = None
        self.lr, self.took, self.flops = 0.0, 0.0, 0.0
        self.shown: dict[str, str] = {}
        self.file = None
        if accelerator.is_main_process:
            path = job.out / METRICS_FILE
            _forget_after(path, state.step)
            self.file = MetricsFile(path)
        self.bar: tqdm[Any] = progress(total=job.last_step, initial=state.step, unit="step", desc="train")

    def step(self, sums: Tensor, state: TrainState, lr: float, took: float) -> None:
        """Add the sums of the step that led to `state` in `took` seconds; every `log_every` steps, report."""
        self.sums = sums if self.sums is None else self.sums + sums
        self.lr = lr
        self.took += took
        self.flops += self.job.settings.batch_size * self.job.sample_flops(state.model.cycles)
        self.bar.update()
        if state.step % self.log_every == 0:
            self.report(state)

    def report(self, state: TrainState) -> None:
        """Write a record of the steps that have none yet; every process must call this."""
        if self.sums is None:
            return
        total = dict(zip(METRICS, self.accelerator.reduce(self.sums, "sum").tolist(), strict=True))
        speed = total["samples"] / self.took
        record = {
            "step": state.step,
            "seconds": round(state.seconds, 3),
            "train/loss_answer": total["loss_answer"] / total["samples"],
            "train/loss_halt": total["loss_halt"] / total["samples"],
            **_of_finished(total),
            "train/finished": total["finished"],
            "train/lr": self.lr,
            "samples_per_second": speed,
            "flops_per_second": self.flops / self.took,
        }
        if self.peak:
            record["share_of_peak"] = record["flops_per_second"] / self.peak
        self.sums, self.took, self.flops = None, 0.0, 0.0
        # What this record lacks stays as it was.
        self.shown |= _shown(record)
        self.bar.set_postfix(self.shown, refresh=False)
        self._write(record)

    def scores(self, state: TrainState, scores: dict[str, float]) -> None:
        """Write a record of an evaluation's scores, if there are any."""
        if scores:
            self._write({"step": state.step, "seconds": round(state.seconds, 3), **scores})

    def _write(self, record: dict[str, Any]) -> None:
        if self.file is not None:
            self.file.write(record)
        if self.accelerator.trackers:
            self.accelerator.log(record, step=record["step"])

    def close(self) -> None:
        """Close the bar and the file."""
        self.bar.close()
        if self.file is not None:
            self.file.close()


def _of_finished(total: dict[str, float]) -> dict[str, float]:
    """The means over the samples that finished, of the sums of a window; none if none did.

    halt_baseline is the halt accuracy of a head that never says "right": above it begins what was learned.
    """
    finished = total["finished"]
    if not finished:
        return {}
    return {
        "train/exact_accuracy": total["exact"] / finished,
        "train/cell_accuracy": total["cell"] / finished,
        "train/halt_accuracy": total["halt_right"] / finished,
        "train/halt_baseline": 1 - total["exact"] / finished,
        "train/steps_to_halt": total["steps"] / finished,
    }


def _shown(record: dict[str, Any]) -> dict[str, str]:
    """What the progress bar has room for, of what the record has."""
    shown = {
        "loss": ("train/loss_answer", ".3f"),
        "exact": ("train/exact_accuracy", ".3f"),
        "steps": ("train/steps_to_halt", ".1f"),
        "samples/s": ("samples_per_second", ".0f"),
        "FLOP/s": ("flops_per_second", ".1e"),
        "peak": ("share_of_peak", ".0%"),
    }
    return {name: f"{record[key]:{form}}" for name, (key, form) in shown.items() if key in record}


def _forget_after(path: Path, step: int) -> None:
    """Drop the records of steps after the checkpoint that is resumed from, and of evaluations since.

    Raises:  DataError if the file cannot be read or holds something else.
    """
    if not path.exists():
        return
    try:
        lines = [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        kept = [line for line in lines if _comes_before(orjson.loads(line), step)]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise DataError(f"{path}: a line is no record of a training; mend the file or remove it") from None
    write_bytes(path, b"".join(kept))


def _comes_before(record: dict[str, Any], step: int) -> bool:
    """Whether a record was written before the checkpoint of a step was: an evaluation comes after it."""
    if any(name.startswith("eval/") for name in record):
        return bool(record["step"] < step)
    return bool(record["step"] <= step)
