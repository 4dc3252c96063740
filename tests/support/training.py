"""Tiny trainings and their outputs."""

import json
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import torch

from arcpipe.checkpoint import load_checkpoint
from arcpipe.runs import CHECKPOINTS, newest_checkpoint
from commands import fail_here, run_here

NUM_STEPS = 12
RECIPE = f"""
[model]
hidden_size = 32
num_heads = 2
num_layers = 1
expansion = 1.0
outer_cycles = 2
inner_cycles = 2
max_steps = 3
puzzle_size = 32
puzzle_tokens = 1

[train]
steps = {NUM_STEPS}
batch_size = 16
lr = 1e-3
warmup_steps = 2
min_lr_ratio = 0.1
log_every = 1
checkpoint_every = 4
precision = "float32"
"""
_TIMES = ("seconds", "samples_per_second", "flops_per_second")
PARTS = ("model.safetensors", "puzzles.safetensors", "trainer.safetensors", "puzzles.parquet", "model.json")


def train_arguments(work: Path, out: Path, *flags: object, data: str = "data") -> list[object]:
    """The arguments of `arcpipe` for a training in `work`, the folder of the fixture of that name."""
    return ["train", work / "tiny.toml", "--data", work / data, "--out", out, *flags]


def train(work: Path, out: Path, *flags: object, data: str = "data") -> CompletedProcess[str]:
    """Run a training in this process and assert success."""
    return run_here(*train_arguments(work, out, *flags, data=data), code=0)


def refused(work: Path, out: Path, *flags: object, data: str = "data", **env: str) -> str:
    """Run a training that must fail with exit code 2; return its error line."""
    return fail_here(*train_arguments(work, out, *flags, data=data), env=env, logs=True)


def newest(run: Path) -> dict[str, bytes]:
    """Return the files of a run's newest checkpoint, without the manifest, which contains times."""
    folder = newest_checkpoint(run)
    return {part: (folder / part).read_bytes() for part in PARTS}


def assert_same_run(one: Path, other: Path) -> None:
    """Assert that two runs end with equal bits in all tensors, and equal records except times."""
    assert newest(one) == newest(other)
    assert metrics(one) == metrics(other)


def assert_same_numbers(one: Path, other: Path) -> None:
    """Assert that two runs end with equal tensors and records, however their checkpoints store the rows."""
    ends = [load_checkpoint(run) for run in (one, other)]
    assert torch.equal(*(end.rows for end in ends))
    assert ends[0].rows.any()
    for part in ("model.safetensors", "trainer.safetensors"):
        assert len({(end.path / part).read_bytes() for end in ends}) == 1
    assert metrics(one) == metrics(other)


def assert_close(one: Path, other: Path, steps: int | None = None) -> None:
    """Assert that the (first) records of two runs are equal up to the order of float32 sums."""
    found, expected = metrics(one), metrics(other)[:steps]
    assert len(found) == len(expected)
    for of_one, of_other in zip(found, expected, strict=True):
        assert of_one == pytest.approx(of_other, rel=1e-4, abs=1e-6)


def settings(table: str, **values: object) -> list[str]:
    """The flags that set keys of a recipe's table."""
    return [word for key, value in values.items() for word in ("--set", f"{table}.{key}={value}")]


# Flags of a training that ends when it is told to, and saves only then.
LONG = settings("train", steps=10**6, checkpoint_every=10**6, checkpoint_minutes=1000.0)
# Flags of a training with embedding task, on the dataset `fresh`, and of a flow.
TASK = [
    *settings("model", embedding="task", positions="rope2d+learned", puzzle_tokens=0, tied_head="true"),
    *settings("train", loss="softmax", clip=1.0, puzzle_lr=0.01),
]
FLOW = [*settings("model", flow="true"), *settings("train", objective="flow", flow_pseudotargets=8)]


def steps_of(run: Path) -> list[int]:
    """Return the steps of the checkpoints of a run; assert that the folder contains nothing else."""
    names = sorted(path.name for path in (run / CHECKPOINTS).iterdir())
    assert all(name.startswith("step-") for name in names), names
    return [int(name.removeprefix("step-")) for name in names]


def metrics(run: Path) -> list[dict[str, Any]]:
    """Return the records of metrics.jsonl without times."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in record.items() if key not in _TIMES} for record in records]


def recorded(run: Path) -> int:
    """Return the last step in a metrics.jsonl that may still grow; 0 if there is none."""
    path = run / "metrics.jsonl"
    whole = path.read_bytes().rpartition(b"\n")[0].splitlines() if path.exists() else []
    return int(json.loads(whole[-1])["step"]) if whole else 0
