"""Inference from folders to a folder: its output, resume, warnings and errors."""

import logging
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from accelerate.state import AcceleratorState
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch._dynamo.utils import counters

from arcpipe.checkpoint import save_checkpoint
from arcpipe.devices import compile_blocks
from arcpipe.errors import ArcpipeError, CheckpointError, DataError, OutputError
from arcpipe.infer import predict
from arcpipe.infer.config import InferSettings
from arcpipe.infer.items import Schedule
from arcpipe.infer.predict import infer_to_folder
from arcpipe.predictions import read_candidates, shard_files, write_shard
from arcpipe.puzzleset import PuzzleSet, read_puzzle_set
from arcpipe.runs import file_hash, hold_folder, read_manifest, write_json
from arcpipe.task import Task
from commands import fail_here, succeed_here
from inference import assert_same, rows_of, save, wavering
from limited import largest_file
from processes import running, running_together, together
from puzzles import build, write_source

PLAIN = InferSettings()
SLOW = InferSettings(batch_size=4, max_steps=5, candidates_at=[3], halt="learned", rollouts=2, noise=0.5)
SLOW_FLAGS = "--batch-size 4 --max-steps 5 --candidates-at 3 --halt learned --rollouts 2 --noise 0.5"
LONG, LONG_FLAGS = (
    InferSettings(batch_size=16, rollouts=20, noise=0.5),
    "--batch-size 16 --rollouts 20 --noise 0.5",
)


@pytest.fixture(scope="module")
def whole(trained: Path, arc_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The predictions of SLOW, without a break."""
    out = tmp_path_factory.mktemp("whole") / "out"
    infer_to_folder(trained, arc_dir, out, SLOW)
    return out


@pytest.fixture(scope="module")
def alone(trained: Path, arc_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The predictions of LONG by one process."""
    out = tmp_path_factory.mktemp("alone") / "out"
    infer_to_folder(trained, arc_dir, out, LONG)
    return out


@pytest.fixture(scope="module")
def part_dir(tasks: list[Task], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of two of the three tasks."""
    folder = tmp_path_factory.mktemp("part")
    return build(folder / "data", write_source(folder, "small", tasks[:2]), canvas=6, num_aug=7)


def command(checkpoint: Path, data: Path, out: Path, flags: str = "") -> list[object]:
    return ["infer", "--checkpoint", checkpoint, "--data", data, "--out", out, *flags.split()]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_the_folder_says_what_it_holds(whole: Path, trained: Path, arc_dir: Path) -> None:
    manifest = read_manifest(whole, "predictions")
    assert (manifest["family"], manifest["canvas"], manifest["items"]) == ("arc", 6, 96)
    assert manifest["dataset"] == read_manifest(arc_dir, "dataset")["fingerprint"]
    assert manifest["recipe"]["infer"]["halt"] == "learned"
    assert {manifest["checkpoint"]} == {row["checkpoint"] for row in rows_of(whole)} == {f"{trained}@7"}


@settings(max_examples=3, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seconds=st.lists(st.floats(0, 0.3), min_size=1, max_size=3))
def test_after_any_deadlines_what_is_there_is_right_and_resuming_completes_it(
    whole: Path, trained: Path, arc_dir: Path, tmp_path_factory: pytest.TempPathFactory, seconds: list[float]
) -> None:
    out = tmp_path_factory.mktemp("deadlines") / "out"
    expected = {row["order"]: row for row in rows_of(whole)}
    for number, limit in enumerate(seconds):
        result = infer_to_folder(trained, arc_dir, out, SLOW, resume=number > 0, max_minutes=limit / 60)
        rows = rows_of(out)
        assert_same(rows, [expected[row["order"]] for row in rows])
        assert result.candidates == len(rows)
    assert infer_to_folder(trained, arc_dir, out, SLOW, resume=True).done == 96
    assert_same(rows_of(out), [*expected.values()])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_keeps_what_is_finished(trained: Path, arc_dir: Path, tmp_path: Path, number: int) -> None:
    out = tmp_path / "out"
    words = command(trained, arc_dir, out, "--batch-size 1 --rollouts 9999 --noise 1")
    with running(words, tmp_path) as run:
        run.wait_until(lambda: "grids to answer" in run.said())
        # Its own clock, because a busy machine may not have answered any after a fixed time.
        process = psutil.Process(run.pid)
        enough = process.cpu_times().user + 0.2
        run.wait_until(lambda: process.cpu_times().user > enough)
        run.send(number)
        done = run.finish(code=0)
    count = len(rows_of(out))
    assert done.stdout.startswith(f"{out}: {count} candidates, pass@1 ")
    assert done.stdout.endswith(
        f"; {count} of {48 * 9999} grids answered, stopped by a signal: go on with --resume\n"
    )


def test_a_damaged_shard_is_set_aside_and_its_part_answered_again(
    trained: Path, arc_dir: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(predict, "FLUSH_EVERY_S", 0.0)
        infer_to_folder(trained, arc_dir, out, SLOW)
    assert len(shard_files(out)) > 20, "shards are written while it runs"
    assert_same(rows_of(out), rows_of(whole))
    file = shard_files(out)[5]
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(DataError, match=f"{file.name}: not a whole Parquet file"):
        rows_of(out)
    infer_to_folder(trained, arc_dir, out, SLOW, resume=True)
    assert f"{file.name}.damaged" in warnings(caplog)[0]
    assert file.with_name(f"{file.name}.damaged").exists()
    assert_same(rows_of(out), rows_of(whole))


def test_what_two_processes_wrote_without_locks_counts_once(
    trained: Path, arc_dir: Path, whole: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One of two shards that hold a candidate is set aside, and what it alone held is answered again."""
    (expected,) = read_candidates(whole)
    out = tmp_path / "out"
    shutil.copytree(whole, out, ignore=shutil.ignore_patterns("*.parquet"))
    for rank, (first, end) in enumerate(((0, 80), (60, 160), (160, 192))):
        orders = expected["order"].to_numpy()
        write_shard(out, expected.filter((orders >= first) & (orders < end)), rank)
    with pytest.raises(DataError, match=r"holds a candidate twice, .* infer --resume puts such files aside"):
        rows_of(out)
    with hold_folder(out):
        said = fail_here(*command(trained, arc_dir, out, f"{SLOW_FLAGS} --resume"), logs=True)
    assert "is writing to it" in said
    infer_to_folder(trained, arc_dir, out, SLOW, resume=True)
    (aside,) = (out / "shards").glob("*.damaged")
    assert "-rank1.parquet" in aside.name
    assert aside.name in warnings(caplog)[-1]
    assert_same(rows_of(out), rows_of(whole))


def test_only_the_same_request_is_resumed(
    whole: Path, trained: Path, arc: PuzzleSet, arc_dir: Path, part_dir: Path, tmp_path: Path
) -> None:
    before = {file: file.stat().st_mtime_ns for file in shard_files(whole)}
    copy = shutil.copytree(trained, tmp_path / "moved")
    succeed_here("checkpoint", "export", trained, "--format", "arcpipe", "--out", tmp_path / "handed-on")
    another_batch = InferSettings(**{**vars(SLOW), "batch_size": 5, "compile": "off"})
    for checkpoint, wanted in (copy, another_batch), (tmp_path / "handed-on", SLOW), (trained, SLOW):
        assert infer_to_folder(checkpoint, arc_dir, whole, wanted, resume=True).done == 96
    assert {file: file.stat().st_mtime_ns for file in shard_files(whole)} == before
    other, missing = save(tmp_path / "other", arc, step=8), tmp_path / "missing"
    for checkpoint, data, out, wanted, resume, message in (
        (trained, arc_dir, whole, PLAIN, True, r"with another recipe \(infer.max_steps: 5 -> 0; infer.halt"),
        (trained, part_dir, whole, SLOW, True, "cannot be resumed with another dataset: it was made for"),
        (other, arc_dir, whole, SLOW, True, "cannot be resumed with another checkpoint: it was made with"),
        (trained, arc_dir, missing, SLOW, True, "no such folder"),
        (trained, arc_dir, whole, SLOW, False, "exists already: go on with --resume"),
    ):
        with pytest.raises(ArcpipeError, match=message):
            infer_to_folder(checkpoint, data, out, wanted, resume=resume)


def test_a_folder_from_before_hashes_is_resumed(
    whole: Path, trained: Path, arc_dir: Path, tmp_path: Path
) -> None:
    checkpoint, out = (shutil.copytree(path, tmp_path / path.name) for path in (trained, whole))
    of_checkpoint, of_out = read_manifest(checkpoint, "checkpoint"), read_manifest(out, "predictions")
    hashes = of_checkpoint.pop("files")
    assert of_out["weights"] == hashes["model.safetensors"]
    write_json(checkpoint / "manifest.json", of_checkpoint)
    assert of_out["checkpoint_manifest"] == file_hash(checkpoint / "manifest.json")
    assert infer_to_folder(checkpoint, arc_dir, out, SLOW, resume=True).done == 96
    write_json(out / "manifest.json", of_out | {"weights": "of another"})
    with pytest.raises(ArcpipeError, match="cannot be resumed with another checkpoint"):
        infer_to_folder(checkpoint, arc_dir, out, SLOW, resume=True)
    del of_out["weights"]
    write_json(out / "manifest.json", of_out)
    assert infer_to_folder(checkpoint, arc_dir, out, SLOW, resume=True).done == 96


@pytest.mark.filterwarnings("ignore")
def test_a_compiled_network_answers_as_it_is(trained: Path, arc_dir: Path, tmp_path: Path) -> None:
    """Checked by the number of graphs; tests/train tests what the compiler makes of one."""
    reason = compile_blocks([], "on", torch.device("cpu"))
    if reason.startswith("not compiled"):
        pytest.skip(reason)
    counters.clear()
    with torch.compiler.set_stance("default", force_backend="eager"):
        succeed_here(*command(trained, arc_dir, tmp_path / "out", "--compile on --batch-size 20"))
    assert counters["stats"]["unique_graphs"] > 0
    torch._dynamo.reset()
    infer_to_folder(trained, arc_dir, tmp_path / "plain", PLAIN)
    assert_same(rows_of(tmp_path / "out"), rows_of(tmp_path / "plain"))


def test_another_dataset_than_that_of_the_training_is_warned_of_and_answered(
    arc: PuzzleSet, arc_dir: Path, part_dir: Path, trained: Path, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    silent = save(tmp_path / "checkpoint", arc)
    for number, (checkpoint, data) in enumerate(
        ((trained, arc_dir), (silent, part_dir), (trained, part_dir))
    ):
        assert not warnings(caplog)
        assert infer_to_folder(checkpoint, data, tmp_path / f"{number}", PLAIN).candidates > 0
    assert warnings(caplog) == [
        f"{trained}: trained on another dataset than {part_dir}: its test outputs may have been trained on"
    ]


def test_nothing_is_left_of_answers_that_are_none(arc: PuzzleSet, arc_dir: Path, tmp_path: Path) -> None:
    checkpoint = save(tmp_path / "checkpoint", arc, weight=3e38)
    (tmp_path / "file").write_text("mine")
    # An unwritable folder is refused before the answers, which are not finite, are computed.
    with pytest.raises(OutputError, match=r"file/out: cannot be written"):
        infer_to_folder(checkpoint, arc_dir, tmp_path / "file" / "out", PLAIN)
    with pytest.raises(CheckpointError, match="its answers are not finite"):
        infer_to_folder(checkpoint, arc_dir, tmp_path / "out", PLAIN)
    assert sorted(os.listdir(tmp_path)) == ["checkpoint", "file"]


@pytest.mark.parametrize("batch_size", [1, 256])
def test_an_answer_that_is_not_finite_has_no_grid_and_the_others_stay(
    batch_size: int, arc: PuzzleSet, arc_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The rows of two puzzles, one that is answered first, are too large."""
    sound = wavering(arc, tmp_path / "sound")
    broken = replace(sound, path=tmp_path / "broken", rows=sound.rows.clone())
    broken.rows[[0, -1]] = 3e38
    rows, asked = [], InferSettings(batch_size=batch_size)
    for checkpoint in (sound, broken):
        save_checkpoint(checkpoint)
        out = tmp_path / f"of-{checkpoint.path.name}"
        assert infer_to_folder(checkpoint.path, arc_dir, out, asked).done == 48
        rows.append([row | {"checkpoint": ""} for row in rows_of(out)])
    puzzle_ids = Schedule(arc, asked).items(np.arange(48)).puzzle_ids
    is_broken = np.isin(puzzle_ids, [0, len(sound.rows) - 1])
    none = {"height": 0, "width": 0, "cells": b"", "halt_probability": 0.0, "log_probability": 0.0}
    expected = [row | (none if is_none else {}) for row, is_none in zip(rows[0], is_broken, strict=True)]
    assert_same(rows[1], expected)
    assert warnings(caplog) == [
        "4 of 48 answers are not finite and have no grid: compute in float32, or choose an earlier checkpoint"
    ]


def test_a_full_disk_is_said(trained: Path, arc_dir: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    infer_to_folder(trained, arc_dir, out, SLOW, max_minutes=0)
    said = r"part-0000000000-rank0\.parquet: cannot be written"
    with largest_file(2000), pytest.raises(OutputError, match=said) as caught:
        infer_to_folder(trained, arc_dir, out, SLOW, resume=True)
    assert str(caught.value).endswith("make room, then go on with --resume")
    assert os.listdir(out / "shards") == []
    assert infer_to_folder(trained, arc_dir, out, SLOW, resume=True).done == 96
    assert_same(rows_of(out), rows_of(whole))


@pytest.mark.parametrize(("flags", "message"), [
    ("--candidates-at 4,x", "infer.candidates_at."),
    ("--candidates-at 0", "infer.candidates_at."),
    ("--candidates-at 2.5", "infer.candidates_at."),
    ("--candidates-at 2,5", "a candidate is wanted at step 5, but there are only 4 steps"),
    ("--max-steps 10001", "--max-steps"),
    ("--set infer.max_steps=10001", "infer.max_steps: "),
    ("--rollouts 2", "2 rollouts with noise 0: the first rollout is without noise"),
    ("--noise 0.3", "1 rollouts with noise 0.3"),
    ("--variants 1", "--variants is for Sudokus and mazes"),
])  # fmt: skip
def test_wrong_settings(trained: Path, arc_dir: Path, tmp_path: Path, flags: str, message: str) -> None:
    assert message in fail_here(*command(trained, arc_dir, tmp_path / "out", flags))


@pytest.mark.parametrize("family", ["sudoku", "maze"])
def test_boards_end_with_their_scores(family: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    data, out = request.getfixturevalue(f"{family}_dir"), tmp_path / "out"
    checkpoint = save(tmp_path / "checkpoint", read_puzzle_set(data))
    printed = succeed_here(*command(checkpoint, data, out, "--variants 3 --halt stable --max-steps 6"))
    assert " candidates, exact_accuracy 0." in printed
    assert ", cell_accuracy 0." in printed
    assert {row["variant"] for row in rows_of(out)} == {0, 1, 2, 3}


@pytest.fixture
def fresh_accelerator() -> Iterator[None]:
    """Accelerate keeps the device of its first use for the whole process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is taken here")
@pytest.mark.usefixtures("fresh_accelerator")
def test_a_gpu_of_another_kind_than_cuda_is_not_taken(
    arc_dir: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ACCELERATE_USE_CPU", raising=False)
    for name in ("is_available", "is_built"):
        monkeypatch.setattr(torch.backends.mps, name, lambda: True)
    assert infer_to_folder(trained, arc_dir, tmp_path / "out", PLAIN).candidates > 0


def test_two_processes_answer_as_one(trained: Path, arc_dir: Path, alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "two"
    ended = together(command(trained, arc_dir, out, LONG_FLAGS), tmp_path)
    assert {file.name[-13:] for file in shard_files(out)} == {"rank0.parquet", "rank1.parquet"}
    assert sum("pass@2" in done.stdout for done in ended) >= 1, "whoever is last scores"
    assert "Warning" not in ended[0].stderr + ended[1].stderr
    assert_same(rows_of(out), rows_of(alone))


def test_a_killed_process_loses_its_part(trained: Path, arc_dir: Path, alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    with running_together(command(trained, arc_dir, out, LONG_FLAGS), tmp_path) as (first, second):
        # The processes become independent before this message.
        first.wait_until(lambda: "grids to answer" in first.said())
        second.send(signal.SIGKILL)
        done = first.finish(code=0)
    assert "480 of 960 grids answered so far; this process has answered its share" in done.stdout
    assert len(rows_of(out)) == 480
    assert infer_to_folder(trained, arc_dir, out, LONG, resume=True).done == 960
    assert_same(rows_of(out), rows_of(alone))
