"""What a training leaves behind, when it ends early, when its loss breaks, and that it learns."""

import json
from pathlib import Path

import pytest
import torch

from arcpipe.checkpoint import load_checkpoint
from arcpipe.train.distributed import is_out_of_memory
from commands import run_here
from training import NUM_STEPS, metrics, newest, refused, steps_of, train, train_arguments

ONE_STEP = ("--steps", "1")


def manifest(folder: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((folder / "manifest.json").read_bytes())
    return content


def test_a_run_folder_holds_what_it_should_and_nothing_half_done(whole: Path) -> None:
    assert sorted(path.name for path in whole.iterdir()) == [
        ".writer-0.lock",
        "checkpoints",
        "manifest.json",
        "metrics.jsonl",
        "train.log",
    ]
    # Checkpoints at 4, 8 and 12, of which the last two are kept.
    assert steps_of(whole) == [8, 12]
    for folder in (whole / "checkpoints").iterdir():
        assert sorted(path.name for path in folder.iterdir()) == [
            "manifest.json",
            "model.json",
            "model.safetensors",
            "puzzles.parquet",
            "puzzles.safetensors",
            "trainer.safetensors",
        ]
        assert manifest(folder)["step"] == int(folder.name.removeprefix("step-"))


@pytest.mark.parametrize(("keep", "kept"), [(3, [8, 10, 12])])
def test_keep_last(work: Path, tmp_path: Path, keep: int, kept: list[int]) -> None:
    flags = ("--set", f"train.keep_last={keep}", "--set", "train.checkpoint_every=2")
    train(work, tmp_path / "run", *flags)
    assert steps_of(tmp_path / "run") == kept


def test_a_manifest_says_what_made_it(work: Path, tmp_path: Path) -> None:
    train(work, tmp_path / "run", *ONE_STEP, "--seed", 5, "--set", "train.lr=2e-3")
    found = manifest(tmp_path / "run")
    recipe = found["recipe"]
    assert isinstance(recipe, dict)
    assert found["seed"] == 5
    assert recipe["train"]["seed"] == 5
    assert recipe["train"]["lr"] == 2e-3
    assert recipe["train"]["ema"] == 0.999, "defaults are written out"
    assert recipe["model"]["hidden_size"] == 32
    assert found["dataset"] == {
        "path": str(work / "data"),
        "fingerprint": manifest(work / "data")["fingerprint"],
    }


def test_metrics_have_a_record_every_few_steps(work: Path, whole: Path, tmp_path: Path) -> None:
    every_step = metrics(whole)
    assert [record["step"] for record in every_step] == list(range(1, NUM_STEPS + 1))
    train(work, tmp_path / "run", "--set", "train.log_every=3")
    every_third = metrics(tmp_path / "run")
    assert [record["step"] for record in every_third] == [3, 6, 9, NUM_STEPS]
    for number, record in enumerate(every_third):
        losses = [one["train/loss_answer"] for one in every_step[3 * number : 3 * number + 3]]
        assert record["train/loss_answer"] == pytest.approx(sum(losses) / 3)
        assert record["train/lr"] == every_step[3 * number + 2]["train/lr"]


def test_all_samples_end_after_max_steps_of_a_model_that_never_halts(whole: Path) -> None:
    for record in metrics(whole):
        ends = record["step"] % 3 == 0
        assert record["train/finished"] == (16 if ends else 0)
        assert record.get("train/steps_to_halt") == (3 if ends else None)
        means = {"train/exact_accuracy", "train/cell_accuracy", "train/halt_accuracy", "train/halt_baseline"}
        assert means & record.keys() == (means if ends else set())
        if ends:
            assert record["train/halt_baseline"] == 1 - record["train/exact_accuracy"]


def test_rates_rise_over_the_warm_up_and_fall_to_their_floor(whole: Path) -> None:
    rates = [record["train/lr"] for record in metrics(whole)]
    assert rates[0] == pytest.approx(0.5e-3)
    assert rates[1] == max(rates) == pytest.approx(1e-3, rel=0.02)
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert 1e-4 < rates[-1] < 1.2e-4


def test_the_seed_decides(work: Path, tmp_path: Path) -> None:
    first, same, other = (tmp_path / name for name in ("first", "same", "other"))
    for run, seed in ((first, 1), (same, 1), (other, 2)):
        train(work, run, "--steps", 3, "--seed", seed)
    assert newest(first) == newest(same)
    assert metrics(first) == metrics(same)
    of_other = newest(other)
    for part in ("model.safetensors", "puzzles.safetensors", "trainer.safetensors"):
        assert newest(first)[part] != of_other[part]


def test_weights_rows_and_averages_move(work: Path, tmp_path: Path) -> None:
    train(work, tmp_path / "one", "--steps", 1)
    train(work, tmp_path / "four", "--steps", 4)
    before, after = load_checkpoint(tmp_path / "one"), load_checkpoint(tmp_path / "four")
    for name in before.raw:
        constant = name.startswith("init_")
        assert torch.equal(before.raw[name], after.raw[name]) == constant, name
        assert torch.equal(before.ema[name], after.ema[name]) == constant, name
        assert torch.equal(after.ema[name], after.raw[name]) == constant, name
    assert (before.rows != after.rows).any()


def test_without_time_the_first_weights_are_saved(work: Path, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = train(work, run, "--max-minutes", 0)
    assert "stopped at step 0: the time is up\ngo on with --resume" in done.stderr
    assert steps_of(run) == [0]
    assert load_checkpoint(run).manifest["step"] == 0
    train(work, run, "--resume", "--max-minutes", 0)
    train(work, run, "--resume")
    assert newest(run) == newest(whole)


def test_the_schedule_is_complete_when_the_time_is_up(work: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = train(work, run, "--max-minutes", 0.05, "--set", "train.steps=100000")
    (*_, last) = steps_of(run)
    assert f"stopped at step {last}: the time is up" in done.stderr
    assert load_checkpoint(run).manifest["step"] == last
    rates = [record["train/lr"] for record in metrics(run)]
    assert rates[-1] < 0.3 * max(rates)


def test_a_loss_that_is_not_finite_ends_the_training_and_is_not_saved(work: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    said = refused(
        work,
        run,
        "--set",
        "train.lr=1e30",
        "--set",
        "train.warmup_steps=0",
        "--set",
        "train.checkpoint_every=1",
    )
    (*_, last) = steps_of(run)
    assert f"step {last + 1}: the loss or its gradient is not finite; no weight was changed" in said
    assert "train.lr" in said
    assert len(metrics(run)) == last
    # The last checkpoint is whole, and that of before the weights broke.
    assert load_checkpoint(run).manifest["step"] == last


def test_it_learns_one_task(work: Path, tmp_path: Path) -> None:
    settings = ("lr=3e-3", "steps=58", "puzzle_lr=0.1", "checkpoint_every=1000")
    flags = (word for setting in settings for word in ("--set", f"train.{setting}"))
    train(work, tmp_path / "run", *flags, data="other")
    records = metrics(tmp_path / "run")
    losses = [record["train/loss_answer"] for record in records]
    assert max(losses[-3:]) < 0.4 * losses[0]
    finished = [record["train/cell_accuracy"] for record in records if record["train/finished"]]
    assert finished[-1] > 0.6 > 0.4 > finished[0]


@pytest.mark.parametrize(
    ("name", "value"), [("MIXED_PRECISION", "bf16"), ("GRADIENT_ACCUMULATION_STEPS", "4")]
)
def test_a_launcher_changes_no_number(work: Path, tmp_path: Path, name: str, value: str) -> None:
    runs = tmp_path / "without", tmp_path / "with"
    for run, env in zip(runs, ({}, {f"ACCELERATE_{name}": value}), strict=True):
        flags = ("--steps", 2, "--set", "train.precision=bfloat16")
        done = run_here(*train_arguments(work, run, *flags), env=env)
        assert done.returncode == 0, done.stderr
    assert newest(runs[0]) == newest(runs[1])
    assert metrics(runs[0]) == metrics(runs[1])


@pytest.mark.parametrize(
    ("error", "known"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("Triton Error [CUDA]: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
    ],
)
def test_what_a_gpu_says_when_its_memory_is_full_is_known(error: RuntimeError, known: bool) -> None:
    assert is_out_of_memory(error) == known
