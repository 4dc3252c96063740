"""Settings that save memory or time, or show more, and change no result."""

import json
import re
import signal
from importlib import util
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from arcpipe.checkpoint import newest_checkpoint
from arcpipe.devices import compile_blocks
from processes import running
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


def test_recomputed_activations_are_the_same(work: Path, tmp_path: Path) -> None:
    kept, recomputed = tmp_path / "kept", tmp_path / "recomputed"
    for run, flag in ((kept, "false"), (recomputed, "true")):
        train(work, run, *settings("train", recompute=flag, precision="bfloat16"), "--steps", 6)
    assert_same_run(kept, recomputed)


def test_workers_make_the_same_batches(work: Path, whole: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with running(train_arguments(work, run, *settings("train", workers=2), "--steps", 5), work) as process:
        done = process.finish()
    assert done.returncode == 0, done.stderr
    # Gone on with by the process itself, in the middle of an epoch.
    train(work, run, "--resume", "--force", *settings("train", workers=0))
    assert_same_run(run, whole)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_a_training_that_is_told_to_stop(work: Path, tmp_path: Path, number: int) -> None:
    """Ctrl-C reaches them too."""
    run = tmp_path / "run"
    flags = settings("train", workers=2, steps=2000)
    with running(train_arguments(work, run, *flags), work) as process:
        process.wait_until(lambda: recorded(run) > 0)
        workers = psutil.Process(process.pid).children()
        assert len(workers) == 2
        process.send(number)
        if number == signal.SIGINT:
            for worker in workers:
                worker.send_signal(number)
        done = process.finish()
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "Error" not in done.stderr
    assert f"stopped at step {steps_of(run)[-1]} on a signal" in done.stderr
    assert not any(worker.is_running() for worker in workers)


def test_a_compiled_network_trains_as_it_is(work: Path, tmp_path: Path) -> None:
    reason = compile_blocks([], "on", torch.device("cpu"))
    if reason.startswith("not compiled"):
        pytest.skip(reason)
    eager, compiled = tmp_path / "eager", tmp_path / "compiled"
    # One layer, for it is compiled with and without its gradient.
    flags = [*settings("model", num_layers=1, inner_cycles=1), "--steps", 4]
    train(work, eager, *flags, *settings("train", compile="off"))
    with running(train_arguments(work, compiled, *flags, *settings("train", compile="on")), work) as process:
        done = process.finish(timeout_s=150)
    assert done.returncode == 0, done.stderr
    assert "compiled with torch.compile: as the recipe says" in done.stderr
    assert_close(compiled, eager)
    names = [load_file(newest_checkpoint(run) / "model.safetensors").keys() for run in (eager, compiled)]
    assert names[0] == names[1]
    train(work, compiled, *flags[:-1], 5, "--resume", "--force", *settings("train", compile="off"))


def test_a_tracker_gets_what_the_metrics_get(work: Path, tmp_path: Path) -> None:
    if not any(map(util.find_spec, ("tensorboard", "tensorboardX"))):
        pytest.skip("neither tensorboard nor tensorboardX is installed")
    run = tmp_path / "run"
    flags = [*settings("train", trackers='["tensorboard"]', log_every=2), *settings("eval", every=4, votes=1)]
    with running(train_arguments(work, run, *flags, "--steps", 4), work) as process:
        done = process.finish()
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr.lower()
    (events,) = (run / "arcpipe").glob("events.*")
    content = events.read_bytes()
    for name in {name for record in metrics(run) for name in record} - {"step"}:
        assert re.sub(r"[^-/\w.]", "_", name).encode() in content
    assert len(metrics(run)) == 3
    train(work, run, *flags, "--resume", "--steps", 6)
    assert recorded(run) == 6


def test_a_dry_run_says_how_large_it_is_and_writes_nothing(work: Path, tmp_path: Path) -> None:
    done = train(work, tmp_path / "run", "--dry-run", *settings("eval", every=4))
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert list(lines) == ["weights", "tokens", "steps", "arithmetic", "memory", "speed", "time"]
    # Of four tasks under four augmentations each.
    assert lines["weights"] == "58,178, and 16 puzzle rows of 32"
    assert lines["tokens"] == "9 and a prefix of 1"
    assert lines["steps"].startswith("12 of batch 16: 192 samples, 10 times each of 19 examples")
    assert list(tmp_path.iterdir()) == []


def test_a_small_run_says_little(work: Path, tmp_path: Path) -> None:
    """What it trains and where; no word of choices that were not made."""
    train(work, tmp_path / "run", "--steps", 2)
    lines = (tmp_path / "run" / "train.log").read_text().splitlines()
    assert len(lines) == 1
    assert "58,178 weights, 16 puzzles x 32, 9 tokens; float32 on cpu" in lines[0]


def test_times_are_those_of_the_steps(whole: Path) -> None:
    records = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    seconds = [record["seconds"] for record in records]
    assert seconds == sorted(seconds)
    assert all(record["samples_per_second"] > 0 for record in records)
    assert all(record["flops_per_second"] > record["samples_per_second"] for record in records)
