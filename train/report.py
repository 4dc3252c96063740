"""What a training tells while it runs: metrics.jsonl and the progress bar."""

from pathlib import Path
from typing import Any

import orjson
from accelerate import Accelerator
from torch import Tensor
from tqdm import tqdm

from arcpipe.errors import DataError
from arcpipe.log import MetricsFile, progress
from arcpipe.runs import write_bytes
from arcpipe.train.settings import TrainSettings
from arcpipe.train.state import TrainState
from arcpipe.train.step import METRICS


class Reporter:
    """Sums metrics over steps and processes; writes metrics.jsonl and the progress bar.

    There is a record at each step that is a multiple of `log_every`, and one at the end. It is of the
    steps since the one before, or since the training was resumed.
    """

    def __init__(
        self,
        path: Path,
        settings: TrainSettings,
        state: TrainState,
        last_step: int,
        accelerator: Accelerator,
    ) -> None:
        """Args:  path: of metrics.jsonl; records of steps after that of `state` are dropped."""
        self.log_every = settings.log_every
        self.accelerator = accelerator
        self.sums: Tensor | None = None
        self.lr = 0.0
        self.since = state.seconds
        self.file = None
        if accelerator.is_main_process:
            _forget_after(path, state.step)
            self.file = MetricsFile(path)
        self.bar: tqdm[Any] = progress(total=last_step, initial=state.step, unit="step", desc="train")

    def step(self, sums: Tensor, state: TrainState, lr: float) -> None:
        """Add the sums of the step that led to `state`; every `log_every` steps, report."""
        self.sums = sums if self.sums is None else self.sums + sums
        self.lr = lr
        self.bar.update()
        if state.step % self.log_every == 0:
            self.report(state)

    def report(self, state: TrainState) -> None:
        """Write a record of the steps that have none yet; every process must call this."""
        if self.sums is None:
            return
        total = dict(zip(METRICS, self.accelerator.reduce(self.sums, "sum").tolist(), strict=True))
        finished = max(1.0, total["finished"])
        record = {
            "step": state.step,
            "seconds": round(state.seconds, 3),
            "train/loss_answer": total["loss_answer"] / total["samples"],
            "train/loss_halt": total["loss_halt"] / total["samples"],
            "train/exact_accuracy": total["exact"] / finished,
            "train/cell_accuracy": total["cell"] / finished,
            "train/halt_accuracy": total["halt_right"] / finished,
            "train/steps_to_halt": total["steps"] / finished,
            "train/finished": total["finished"],
            "train/lr": self.lr,
            "samples_per_second": total["samples"] / (state.seconds - self.since),
        }
        self.sums, self.since = None, state.seconds
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
    """Drop the records of steps after the checkpoint that is resumed from.

    Raises:  DataError if the file cannot be read or holds something else.
    """
    if not path.exists():
        return
    try:
        lines = [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        kept = [line for line in lines if orjson.loads(line)["step"] <= step]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise DataError(f"{path}: a line is no record of a training; mend the file or remove it") from None
    write_bytes(path, b"".join(kept))
