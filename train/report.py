"""What a training tells while it runs: metrics.jsonl and the progress bar."""

import time
from pathlib import Path
from typing import Any

import orjson
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from arcpipe.log import MetricsFile, progress
from arcpipe.runs import write_bytes
from arcpipe.train.settings import TrainSettings
from arcpipe.train.step import METRICS


class Reporter:
    """Sums metrics over steps and processes; writes metrics.jsonl and the progress bar."""

    def __init__(
        self, path: Path, settings: TrainSettings, first_step: int, last_step: int, accelerator: Accelerator
    ) -> None:
        """Args:  path: of metrics.jsonl; records of steps after `first_step` are dropped."""
        self.log_every = settings.log_every
        self.accelerator = accelerator
        self.sums: Tensor | None = None
        self.since = self.began = time.monotonic()
        self.file = None
        self.bar: tqdm[Any] = progress(total=last_step, initial=first_step, unit="step", desc="train")
        if accelerator.is_main_process:
            _forget_after(path, first_step)
            self.file = MetricsFile(path)

    def step(self, sums: Tensor, step: int, lr: float) -> None:
        """Add the sums of one step; every `log_every` steps, report."""
        self.sums = sums if self.sums is None else self.sums + sums
        self.bar.update()
        if step % self.log_every == 0:
            self._report(step, lr)

    def _report(self, step: int, lr: float) -> None:
        assert self.sums is not None
        total = dict(zip(METRICS, self.accelerator.reduce(self.sums, "sum").tolist(), strict=True))
        now = time.monotonic()
        finished = max(1.0, total["finished"])
        record = {
            "step": step,
            "seconds": round(now - self.began, 3),
            "train/loss_answer": total["loss_answer"] / total["samples"],
            "train/loss_halt": total["loss_halt"] / total["samples"],
            "train/exact_accuracy": total["exact"] / finished,
            "train/cell_accuracy": total["cell"] / finished,
            "train/halt_accuracy": total["halt_right"] / finished,
            "train/steps_to_halt": total["steps"] / finished,
            "train/finished": total["finished"],
            "train/lr": lr,
            "samples_per_second": total["samples"] / (now - self.since),
        }
        self.sums, self.since = None, now
        self.bar.set_postfix(
            {
                "loss": f"{record['train/loss_answer']:.3f}",
                "exact": f"{record['train/exact_accuracy']:.3f}",
                "samples/s": f"{record['samples_per_second']:.0f}",
            },
            refresh=False,
        )
        if self.file is not None:
            self.file.write(record)

    def close(self) -> None:
        """Close the bar and the file."""
        self.bar.close()
        if self.file is not None:
            self.file.close()


def _forget_after(path: Path, step: int) -> None:
    """Drop the records of steps after the checkpoint that is resumed from."""
    if path.exists():
        lines = [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        write_bytes(path, b"".join(line for line in lines if orjson.loads(line)["step"] <= step))
