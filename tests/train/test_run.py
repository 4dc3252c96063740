"""What a training leaves behind, when it ends early, when its loss breaks, and that it learns."""

import io
import json
import re
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import torch

from arcpipe.checkpoint import load_checkpoint
from arcpipe.commands.cli import main
from arcpipe.devices import is_out_of_memory
from arcpipe.puzzleset import read_puzzle_set
from commands import run_here
from files import json_of
from screens import Terminal
from training import (
    NUM_STEPS,
    PARTS,
    assert_same_run,
    metrics,
    newest,
    refused,
    settings,
    steps_of,
    train,
    train_arguments,
)


def test_a_recipe_for_a_gpu_says_at_once_that_there_is_none(work: Path, run: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    said = train(work, run, *settings("train", steps=10**13), "--steps", 1).stderr
    days = re.search(
        r"^NO GPU FOUND, for which this recipe is made: .* about ([0-9,]+) days", said, re.MULTILINE
    )
    assert days is not None
    assert int(days[1].replace(",", "")) > 1000


def test_a_terminal_sees_what_becomes_of_a_test_input(
    work: Path, whole: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last drawing of each command stays, and drawing does not change the run."""
    monkeypatch.setattr("arcpipe.train.metrics.DRAW_EVERY_S", 0.0)
    puzzles, terminal = read_puzzle_set(work / "data"), Terminal(24, 80, monkeypatch)
    for flags in (["--steps", 5], ["--resume"]):
        monkeypatch.setattr(sys, "argv", ["arcpipe", *map(str, train_arguments(work, run, *flags))])
        with redirect_stdout(io.StringIO()), pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0
    lines = terminal.lines()
    name = puzzles.table.task_ids[puzzles.test_tasks[0]]
    drawn = [number for number, line in enumerate(lines) if line.startswith(name)]
    assert [re.findall(r"step (\d+)$", lines[number + 1]) for number in drawn] == [["5"], [f"{NUM_STEPS}"]]
    for number in drawn:
        assert re.match(r"train: .*\[.*, loss ", lines[number - 2])
    assert sum(line.startswith("train: ") for line in lines) == 2
    assert_same_run(run, whole)


def test_a_run_folder_holds_what_it_should_and_nothing_half_done(whole: Path) -> None:
    names = [".writer-0.lock", "checkpoints", "manifest.json", "metrics.jsonl", "train.log"]
    assert sorted(path.name for path in whole.iterdir()) == names
    # Checkpoints at 4, 8 and 12, of which the last two are kept.
    assert steps_of(whole) == [8, 12]
    for folder in (whole / "checkpoints").iterdir():
        assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", *sorted(PARTS)]
        assert json_of(folder / "manifest.json")["step"] == int(folder.name.removeprefix("step-"))
    # What is trained and where; nothing about defaults.
    (line,) = (whole / "train.log").read_text().splitlines()
    assert "29,506 weights, 16 puzzles x 32, 9 tokens; float32 on cpu" in line


def test_a_manifest_says_what_made_it(work: Path, run: Path) -> None:
    train(work, run, "--steps", 1, "--seed", 5, "--set", "train.lr=2e-3")
    content = json_of(run / "manifest.json")
    recipe = content["recipe"]
    assert content["seed"] == 5
    assert recipe["train"]["seed"] == 5
    assert recipe["train"]["lr"] == 2e-3
    assert recipe["train"]["ema"] == 0.999, "defaults are written out"
    assert recipe["model"]["hidden_size"] == 32
    fingerprint = json_of(work / "data" / "manifest.json")["fingerprint"]
    assert content["dataset"] == {"path": str(work / "data"), "fingerprint": fingerprint}


def test_metrics_have_a_record_every_few_steps(work: Path, whole: Path, run: Path) -> None:
    every_step = metrics(whole)
    assert [record["step"] for record in every_step] == list(range(1, NUM_STEPS + 1))
    train(work, run, "--set", "train.log_every=3")
    every_third = metrics(run)
    assert [record["step"] for record in every_third] == [3, 6, 9, NUM_STEPS]
    for number, record in enumerate(every_third):
        losses = [one["train/loss_answer"] for one in every_step[3 * number : 3 * number + 3]]
        assert record["train/loss_answer"] == pytest.approx(sum(losses) / 3)
        assert record["train/lr"] == every_step[3 * number + 2]["train/lr"]
    times = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    seconds = [record["seconds"] for record in times]
    assert seconds == sorted(seconds)
    assert all(record["flops_per_second"] > record["samples_per_second"] > 0 for record in times)


def test_all_samples_end_after_max_steps_of_a_model_that_never_halts(whole: Path) -> None:
    for record in metrics(whole):
        ends = record["step"] % 3 == 0
        assert record.get("train/finished") == (16 if ends else None)
        assert record.get("train/steps_to_halt") == (3 if ends else None)
        means = {"train/exact_accuracy", "train/cell_accuracy"}
        assert means & record.keys() == (means if ends else set())


def test_it_is_said_once_that_none_was_exact(work: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arcpipe.train.metrics._LONG_WITHOUT_EXACT", 4)
    said = train(work, run, "--set", "train.lr=0.0", "--set", "train.puzzle_lr=0.0").stderr
    line = "no sample was exact in the last 4 steps: the halting head has nothing to learn from yet"
    assert said.count(line) == (run / "train.log").read_text().count(line) == 1
    assert not [record for record in metrics(run) if "train/halt_recall" in record]


def test_rates_rise_over_the_warm_up_and_fall_to_their_floor(whole: Path) -> None:
    rates = [record["train/lr"] for record in metrics(whole)]
    assert rates[0] == pytest.approx(0.5e-3)
    assert rates[1] == max(rates) == pytest.approx(1e-3, rel=0.02)
    assert rates[1:] == sorted(rates[1:], reverse=True)
    assert 1e-4 < rates[-1] < 1.2e-4


def test_the_seed_decides(work: Path, whole: Path, run: Path) -> None:
    train(work, run, "--seed", 1)
    of_seed, of_other = newest(run), newest(whole)
    for part in ("model.safetensors", "puzzles.safetensors", "trainer.safetensors"):
        assert of_seed[part] != of_other[part]


def test_without_time_the_first_weights_are_saved(work: Path, whole: Path, run: Path) -> None:
    done = train(work, run, "--max-minutes", 0)
    assert "stopped at step 0 of 12: the time is up\ngo on with --resume" in done.stderr
    assert steps_of(run) == [0]
    assert load_checkpoint(run).manifest["step"] == 0
    train(work, run, "--resume", "--max-minutes", 0)
    train(work, run, "--resume")
    assert newest(run) == newest(whole)


def test_the_schedule_is_complete_when_the_time_is_up(work: Path, run: Path) -> None:
    flags = settings("train", steps=100000, checkpoint_every=100000)
    done = train(work, run, "--max-minutes", 0.03, *flags)
    (*_, last) = steps_of(run)
    assert f"stopped at step {last} of 100000: the time is up" in done.stderr
    assert load_checkpoint(run).manifest["step"] == last
    rates = [record["train/lr"] for record in metrics(run)]
    assert rates[-1] < 0.5 * max(rates)
    # The limit is that of one command; the schedule covers both.
    train(work, run, "--resume", "--max-minutes", 0.03, *flags)
    later = [record["train/lr"] for record in metrics(run) if record["step"] > last]
    assert len(later) > 2
    assert rates[-1] < later[0] < max(rates)
    assert later[-1] < 0.5 * max(rates)


def test_a_time_limit_holds_for_the_last_evaluation_too(work: Path, run: Path) -> None:
    """Without a limit it would take minutes."""
    flags = [*settings("eval", every=10**6, max_steps=10_000, batch_size=1), *settings("train", steps=10**6)]
    began = time.monotonic()
    done = train(work, run, "--max-minutes", 0.06, *flags)
    assert time.monotonic() - began < 10
    assert "ended by --max-minutes" in done.stderr
    assert metrics(run)[-1]["eval/votes"] < metrics(run)[-1]["eval/votes_asked"]


def test_progress_is_a_plain_line_a_minute_where_no_terminal_is(
    work: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arcpipe.log.LINE_EVERY_S", 0.0)
    monkeypatch.setattr("arcpipe.log._LOG", {"mininterval": 0.0, "miniters": 1})
    done = train(work, run, "--max-minutes", 1)
    assert "\r" not in done.stderr
    pattern = (
        r"train: 5 of 12 steps, 00:0\d so far, 00:\d\d left, "
        r"loss \d\.\d{3}, exact 0\.\d{3}, halted after 3\.0 steps, .*"
    )
    assert re.search(pattern, done.stderr)
    assert re.search(pattern, (run / "train.log").read_text())


def test_a_loss_that_is_not_finite_ends_the_training_and_is_not_saved(work: Path, run: Path) -> None:
    said = refused(work, run, *settings("train", lr=1e30, warmup_steps=0, checkpoint_every=1))
    (*_, last) = steps_of(run)
    assert f"step {last + 1}: the loss or its gradient is not finite; no weight was changed" in said
    assert "train.lr" in said
    assert len(metrics(run)) == last
    # The last checkpoint is whole, and from before the divergence.
    assert load_checkpoint(run).manifest["step"] == last


def test_it_learns_one_task(work: Path, run: Path) -> None:
    flags = settings("train", lr=3e-3, steps=58, puzzle_lr=0.1, checkpoint_every=1000)
    flags += settings("model", num_layers=2)
    train(work, run, *flags, data="other")
    records = metrics(run)
    losses = [record["train/loss_answer"] for record in records]
    assert max(losses[-3:]) < 0.4 * losses[0]
    finished = [record["train/cell_accuracy"] for record in records if "train/finished" in record]
    assert finished[-1] > 0.6 > 0.4 > finished[0]


def test_a_launcher_changes_no_number(work: Path, tmp_path: Path) -> None:
    env = {"ACCELERATE_MIXED_PRECISION": "bf16", "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4"}
    runs = tmp_path / "without", tmp_path / "with"
    for run, variables in zip(runs, ({}, env), strict=True):
        flags = ("--steps", 2, *settings("train", precision="bfloat16"))
        run_here(*train_arguments(work, run, *flags), env=variables, code=0)
    assert_same_run(*runs)


@pytest.mark.parametrize(("text", "expected"), [
    ("CUDA error: out of memory", True),
    ("Triton Error [CUDA]: out of memory", True),
    ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
    ("CUDA error: an illegal memory access was encountered", False),
])  # fmt: skip
def test_what_a_gpu_says_when_its_memory_is_full_is_known(text: str, expected: bool) -> None:
    assert is_out_of_memory(RuntimeError(text)) == expected
    assert is_out_of_memory(torch.OutOfMemoryError())
