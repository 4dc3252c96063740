"""Settings that save memory or time, or show more, without changing results; and a curriculum of cycles."""

import re
import signal
from importlib import util
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from arcpipe.devices import compile_blocks, train_step_flops
from arcpipe.model_config import TRMConfig
from arcpipe.recipe import load_recipe
from arcpipe.runs import newest_checkpoint
from commands import succeed_here
from processes import by_itself, running
from puzzles import BUCKETS, CANVAS
from training import (
    assert_close,
    assert_same_run,
    metrics,
    recorded,
    settings,
    steps_of,
    train,
    train_arguments,
)

# The first six of the twelve steps have one cycle of each kind.
CURRICULUM = settings("train", curriculum="[[0.0, 1, 1], [0.5, 2, 2]]")


def test_recomputed_activations_are_the_same(work: Path, tmp_path: Path) -> None:
    kept, recomputed = tmp_path / "kept", tmp_path / "recomputed"
    for run, flag in ((kept, "false"), (recomputed, "true")):
        train(work, run, *settings("train", recompute=flag, precision="bfloat16"), "--steps", 6)
    assert_same_run(kept, recomputed)


def test_workers_make_the_same_batches(work: Path, whole: Path, run: Path) -> None:
    by_itself(train_arguments(work, run, *settings("train", workers=2), "--steps", 5), work)
    # Resumed without worker processes, in the middle of an epoch.
    train(work, run, "--resume", "--force", *settings("train", workers=0))
    assert_same_run(run, whole)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_a_training_that_is_told_to_stop(work: Path, run: Path, number: int) -> None:
    """Ctrl-C reaches the workers too."""
    flags = settings("train", workers=2, steps=2000)
    with running(train_arguments(work, run, *flags), work) as process:
        process.wait_until(lambda: recorded(run) > 0)
        workers = psutil.Process(process.pid).children()
        assert len(workers) == 2
        process.send(number)
        if number == signal.SIGINT:
            for worker in workers:
                worker.send_signal(number)
        done = process.finish(code=0)
    assert "Traceback" not in done.stderr
    assert "Error" not in done.stderr
    assert f"stopped at step {steps_of(run)[-1]} on a signal" in done.stderr
    assert not any(worker.is_running() for worker in workers)


def test_a_compiled_network_trains_as_it_is(work: Path, tmp_path: Path) -> None:
    reason = compile_blocks([], "on", torch.device("cpu"))
    if reason.startswith("not compiled"):
        pytest.skip(reason)
    eager, compiled = tmp_path / "eager", tmp_path / "compiled"
    # One layer, because it is compiled twice: with and without gradient.
    flags = [*settings("model", num_layers=1, inner_cycles=1), "--steps", 4]
    train(work, eager, *flags, *settings("train", compile="off"))
    arguments = train_arguments(work, compiled, *flags, *settings("train", compile="on"))
    done = by_itself(arguments, work, timeout_s=150)
    assert "torch.compile: as the recipe says; the first step compiles" in done.stderr
    assert_close(compiled, eager)
    names = [load_file(newest_checkpoint(run) / "model.safetensors").keys() for run in (eager, compiled)]
    assert names[0] == names[1]
    train(work, compiled, *flags[:-1], 5, "--resume", "--force", *settings("train", compile="off"))


def test_a_tracker_gets_what_the_metrics_get(work: Path, run: Path) -> None:
    if not any(map(util.find_spec, ("tensorboard", "tensorboardX"))):
        pytest.skip("neither tensorboard nor tensorboardX is installed")
    flags = [*settings("train", trackers='["tensorboard"]', log_every=2), *settings("eval", every=4, votes=1)]
    done = by_itself(train_arguments(work, run, *flags, "--steps", 4), work)
    assert "warn" not in done.stderr.lower()
    (events,) = (run / "arcpipe").glob("events.*")
    content = events.read_bytes()
    for name in {name for record in metrics(run) for name in record} - {"step"}:
        assert re.sub(r"[^-/\w.]", "_", name).encode() in content
    assert len(metrics(run)) == 3
    train(work, run, *flags, "--resume", "--steps", 6)
    assert recorded(run) == 6


def test_the_cycles_of_each_step_are_those_of_its_share(work: Path, whole: Path, tmp_path: Path) -> None:
    few, grown = tmp_path / "few", tmp_path / "grown"
    train(work, few, *settings("model", outer_cycles=1, inner_cycles=1), "--steps", 7)
    train(work, grown, *CURRICULUM)
    losses = {run: [record["train/loss_answer"] for record in metrics(run)] for run in (few, whole, grown)}
    assert losses[grown][:6] == losses[few][:6]
    assert losses[grown][0] != losses[whole][0]
    assert losses[grown][6] != losses[few][6]


def dry_run(work: Path, folder: Path, *flags: object, data: str = "data") -> dict[str, str]:
    """The lines of a dry run by their first word."""
    text = train(work, folder / "run", "--dry-run", *flags, data=data).stdout
    assert list(folder.iterdir()) == []
    return dict(line.split(maxsplit=1) for line in text.splitlines())


def test_a_dry_run_says_how_large_it_is_and_writes_nothing(work: Path, tmp_path: Path) -> None:
    lines = dry_run(work, tmp_path, *settings("eval", every=4))
    assert list(lines) == ["weights", "tokens", "steps", "arithmetic", "memory", "GPUs", "speed", "time"]
    # Four tasks under four augmentations each.
    assert lines["weights"] == "29,506, and 16 puzzle rows of 32"
    assert lines["tokens"] == "9 and a prefix of 1"
    assert lines["steps"].startswith("12 of batch 16: 192 samples, 10 times each of 19 examples")
    # Half of the steps have (1 + 2)(1 + 1) = 6 forward parts, the others (2 + 2)(2 + 1) = 12.
    fewer = dry_run(work, tmp_path, *CURRICULUM)
    one, other = (found["arithmetic"].split(", ") for found in (lines, fewer))
    assert other[:2] == one[:2]
    assert float(other[2].split()[0]) == pytest.approx(0.75 * float(one[2].split()[0]), rel=0.01)
    assert fewer["time"].endswith("those with fewer cycles by their arithmetic")


def test_a_dry_run_says_what_smaller_canvases_save(work: Path, tmp_path: Path) -> None:
    lines = dry_run(work, tmp_path, *settings("model", buckets=BUCKETS), data="sized/data")
    assert list(lines)[1:3] == ["tokens", "canvases"]
    assert lines["canvases"].startswith("side 4: 4 tasks, 8 of 16 rows; ")
    assert lines["canvases"].endswith("; 33 tokens a sample on average, 52% of the tokens")
    config = load_recipe(str(work / "tiny.toml")).settings("model", TRMConfig)
    of_side = {side: train_step_flops(config, side**2) for side in (4, 6, CANVAS)}
    mean = (8 * of_side[4] + 4 * of_side[6] + 4 * of_side[CANVAS]) / 16
    assert lines["arithmetic"].startswith(f"{mean:.3g} FLOP a sample, {16 * mean:.3g} a step")


def test_a_dry_run_of_the_largest_recipe_answers_from_a_sample(work: Path, tmp_path: Path) -> None:
    flags = ["--dry-run", "--data", work / "data", "--max-minutes", 1]
    flags += settings("model", hidden_size=512, num_layers=1, outer_cycles=2, inner_cycles=1)
    flags += settings("train", precision="float32", batch_size=6144)
    said = succeed_here("train", "arc-agi-1", *flags)
    lines = dict(line.split(maxsplit=1) for line in said.splitlines())
    assert "by its arithmetic" in lines["speed"]
    assert "steps with all cycles in --max-minutes" in lines["time"]
    assert lines["GPUs"].endswith(" GiB at most: fits L4, H200, too much for T4")
    ways = lines["less"].split("; ")
    for way, settings_of_it in zip(
        ways[:3], ("train.accumulation=4", "train.recompute=true", "both"), strict=True
    ):
        assert re.fullmatch(rf"\d+\.\d\d GiB with {settings_of_it} \(fits T4, L4, H200\)", way)
    assert ways[3].endswith(" GiB in each of 4 processes (fits T4, L4, H200)")
    assert ways[4:] == ["the recipe arc-agi-1-small-gpu has a smaller batch"]
