"""Inference from folders to a folder: what it leaves, how it goes on, what it warns of and refuses."""

import logging
import os
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arcpipe.errors import ArcpipeError, CheckpointError, DataError, OutputError
from arcpipe.infer import solve
from arcpipe.infer.predict import InferSettings
from arcpipe.infer.run import infer_to_folder
from arcpipe.predictions import shard_files
from arcpipe.puzzleset import PuzzleSet, read_puzzle_set
from arcpipe.runs import file_hash, read_manifest, write_json
from arcpipe.task import Task
from commands import arcpipe_command, environment, run_here, succeed
from inference import rows_of, save
from puzzles import build, write_source

PLAIN = InferSettings()
SLOW = InferSettings(batch_size=2, max_steps=8, candidates_at=[3], halt="learned", rollouts=2, noise=0.5)


@pytest.fixture(scope="module")
def trained(arc_dir: Path, arc: PuzzleSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint trained, as it says, on the dataset of `arc_dir`."""
    fingerprint = read_manifest(arc_dir, "dataset")["fingerprint"]
    dataset = {"path": str(arc_dir), "fingerprint": fingerprint}
    return save(tmp_path_factory.mktemp("trained") / "checkpoint", arc, dataset=dataset)


@pytest.fixture(scope="module")
def whole(trained: Path, arc_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The predictions of SLOW, without a break."""
    out = tmp_path_factory.mktemp("whole") / "out"
    infer_to_folder(trained, arc_dir, out, SLOW)
    return out


@pytest.fixture(scope="module")
def part_dir(tasks: list[Task], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of two of the three tasks."""
    folder = tmp_path_factory.mktemp("part")
    return build(folder / "data", write_source(folder, "small", tasks[:2]), canvas=6, num_aug=7)


def assert_same(found: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """The same candidates; probabilities may differ by how many rows were computed together."""
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for name, value in one.items():
            wanted = pytest.approx(other[name], abs=1e-4) if isinstance(value, float) else other[name]
            assert value == wanted, name


def test_the_folder_says_what_it_holds(whole: Path, trained: Path, arc_dir: Path) -> None:
    manifest = read_manifest(whole, "predictions")
    assert manifest["checkpoint"] == f"{trained}@7"
    assert (manifest["family"], manifest["canvas"], manifest["items"]) == ("arc", 6, 96)
    assert manifest["dataset"] == read_manifest(arc_dir, "dataset")["fingerprint"]
    assert manifest["recipe"]["infer"]["halt"] == "learned"
    assert {row["checkpoint"] for row in rows_of(whole)} == {f"{trained}@7"}


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seconds=st.lists(st.floats(0, 0.3), min_size=1, max_size=3))
def test_after_any_deadlines_what_is_there_is_right_and_resuming_completes_it(
    whole: Path, trained: Path, arc_dir: Path, tmp_path_factory: pytest.TempPathFactory, seconds: list[float]
) -> None:
    out, expected = (
        tmp_path_factory.mktemp("deadlines") / "out",
        {row["order"]: row for row in rows_of(whole)},
    )
    for number, limit in enumerate(seconds):
        result = infer_to_folder(trained, arc_dir, out, SLOW, resume=number > 0, max_minutes=limit / 60)
        found = rows_of(out)
        assert_same(found, [expected[row["order"]] for row in found])
        assert result.candidates == len(found)
    assert infer_to_folder(trained, arc_dir, out, SLOW, resume=True).done == 96
    assert_same(rows_of(out), [*expected.values()])


def test_no_time_at_all_leaves_a_folder_to_go_on_with(trained: Path, arc_dir: Path, tmp_path: Path) -> None:
    result = infer_to_folder(trained, arc_dir, tmp_path / "out", PLAIN, max_minutes=0)
    assert (result.candidates, result.done, result.total) == (0, 0, 48)
    assert "0 of 48 grids answered, not all done: go on with --resume" in result.text
    assert rows_of(tmp_path / "out") == []


def test_a_signal_keeps_what_is_finished(trained: Path, arc_dir: Path, tmp_path: Path) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    flags = ("--batch-size", 1, "--rollouts", 9999, "--noise", 1)
    request = ("infer", "--checkpoint", trained, "--data", arc_dir, *flags)
    started = [
        subprocess.Popen(
            arcpipe_command(*request, "--out", number.name),
            cwd=tmp_path, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for number in numbers
    ]  # fmt: skip
    for process, number in zip(started, numbers, strict=True):
        assert process.stderr is not None
        while "grids to answer" not in (line := process.stderr.readline()):
            assert line, "it ended"
        time.sleep(0.3)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == 0, stderr
        found = len(rows_of(tmp_path / number.name))
        assert stdout.startswith(f"{number.name}: {found} candidates, pass@1 ")
        assert stdout.endswith(
            f"; {found} of {48 * 9999} grids answered, stopped by a signal: go on with --resume\n"
        )


def test_shards_are_written_while_it_runs(
    trained: Path, arc_dir: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(solve, "FLUSH_EVERY_S", 0.0)
    infer_to_folder(trained, arc_dir, tmp_path / "out", SLOW)
    assert len(shard_files(tmp_path / "out")) > 20
    assert_same(rows_of(tmp_path / "out"), rows_of(whole))


def test_a_damaged_shard_is_set_aside_and_its_part_answered_again(
    trained: Path, arc_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(solve, "FLUSH_EVERY_S", 0.0)
        infer_to_folder(trained, arc_dir, out, SLOW)
    expected, file = rows_of(out), shard_files(out)[5]
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(DataError, match=f"{file.name}: not a whole Parquet file"):
        rows_of(out)
    infer_to_folder(trained, arc_dir, out, SLOW, resume=True)
    assert f"{file.name}.damaged" in warnings(caplog)[0]
    assert file.with_name(f"{file.name}.damaged").exists()
    assert_same(rows_of(out), expected)


def test_a_finished_folder_is_left_as_it_is(whole: Path, trained: Path, arc_dir: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in shard_files(whole)}
    assert infer_to_folder(trained, arc_dir, whole, SLOW, resume=True).done == 96
    assert {file: file.stat().st_mtime_ns for file in shard_files(whole)} == before


def test_only_the_same_request_is_resumed(
    whole: Path, trained: Path, arc: PuzzleSet, arc_dir: Path, part_dir: Path, tmp_path: Path
) -> None:
    copy = shutil.copytree(trained, tmp_path / "moved")
    another_batch = InferSettings(**{**vars(SLOW), "batch_size": 5, "compile": "off"})
    assert infer_to_folder(copy, arc_dir, whole, another_batch, resume=True).done == 96
    succeed("checkpoint", "export", trained, "--format", "arcpipe", "--out", "handed-on", cwd=tmp_path)
    assert infer_to_folder(tmp_path / "handed-on", arc_dir, whole, SLOW, resume=True).done == 96
    with pytest.raises(
        ArcpipeError, match=r"resumed with another recipe \(infer.max_steps: 8 -> 0; infer.halt"
    ):
        infer_to_folder(trained, arc_dir, whole, PLAIN, resume=True)
    with pytest.raises(DataError, match="cannot be resumed with another dataset: it was made for"):
        infer_to_folder(trained, part_dir, whole, SLOW, resume=True)
    other = save(tmp_path / "other", arc, step=8)
    with pytest.raises(ArcpipeError, match="cannot be resumed with another checkpoint: it was made with"):
        infer_to_folder(other, arc_dir, whole, SLOW, resume=True)
    with pytest.raises(DataError, match="no such folder"):
        infer_to_folder(trained, arc_dir, tmp_path / "missing", SLOW, resume=True)
    with pytest.raises(OutputError, match="exists already: go on with --resume"):
        infer_to_folder(trained, arc_dir, whole, SLOW)


def test_a_folder_from_before_hashes_is_resumed_and_other_weights_are_not(
    whole: Path, trained: Path, arc_dir: Path, arc: PuzzleSet, tmp_path: Path
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


def test_a_compiled_network_answers_as_it_is(trained: Path, arc_dir: Path, tmp_path: Path) -> None:
    """Or as without, where it cannot be compiled."""
    out, plain = tmp_path / "out", tmp_path / "plain"
    succeed(
        "infer", "--checkpoint", trained, "--data", arc_dir, "--out", out, "--compile", "on",
        "--batch-size", 20, cwd=tmp_path,
    )  # fmt: skip
    infer_to_folder(trained, arc_dir, plain, PLAIN)
    assert_same(rows_of(out), rows_of(plain))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_another_dataset_than_that_of_the_training_is_warned_of_and_answered(
    part_dir: Path, trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert infer_to_folder(trained, part_dir, tmp_path / "out", PLAIN).candidates > 0
    assert warnings(caplog) == [
        f"{trained}: trained on another dataset than {part_dir}: its test outputs may have been trained on"
    ]


def test_the_dataset_of_the_training_is_not_warned_of(
    arc_dir: Path, trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    infer_to_folder(trained, arc_dir, tmp_path / "out", PLAIN)
    assert not warnings(caplog)


def test_a_checkpoint_that_does_not_say_its_dataset_is_not_warned_of(
    arc: PuzzleSet, part_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    infer_to_folder(save(tmp_path / "checkpoint", arc), part_dir, tmp_path / "out", PLAIN)
    assert not warnings(caplog)


def test_where_nothing_can_be_written_nothing_is_computed(
    arc: PuzzleSet, arc_dir: Path, tmp_path: Path
) -> None:
    # Computing would say that the answers are not finite.
    checkpoint = save(tmp_path / "checkpoint", arc, weight=3e38)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match=r"file/out: cannot be written"):
        infer_to_folder(checkpoint, arc_dir, tmp_path / "file" / "out", PLAIN)


def test_nothing_is_left_of_an_inference_without_an_answer(
    arc: PuzzleSet, arc_dir: Path, tmp_path: Path
) -> None:
    checkpoint = save(tmp_path / "checkpoint", arc, weight=3e38)
    with pytest.raises(CheckpointError, match="its answers are not finite"):
        infer_to_folder(checkpoint, arc_dir, tmp_path / "out", PLAIN)
    assert os.listdir(tmp_path) == ["checkpoint"]


def test_a_full_disk_is_said_with_the_way_on(
    trained: Path, arc_dir: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    infer_to_folder(trained, arc_dir, out, SLOW, max_minutes=0)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        with pytest.raises(OutputError, match=r"part-0000000000-rank0\.parquet: cannot be written") as caught:
            infer_to_folder(trained, arc_dir, out, SLOW, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(caught.value).endswith("make room, then go on with --resume")
    assert os.listdir(out / "shards") == []
    assert infer_to_folder(trained, arc_dir, out, SLOW, resume=True).done == 96
    assert_same(rows_of(out), rows_of(whole))


@pytest.mark.parametrize("steps", ["4,x", "0", "-1", "4,,8", "2.5"])
def test_steps_that_are_none_are_refused(trained: Path, arc_dir: Path, tmp_path: Path, steps: str) -> None:
    flags = ("--out", tmp_path / "out", f"--candidates-at={steps}")
    done = run_here("infer", "--checkpoint", trained, "--data", arc_dir, *flags)
    assert done.returncode == 2
    assert "infer.candidates_at." in done.stderr
    assert "input should be " in done.stderr


@pytest.mark.parametrize(("family", "metric"), [("sudoku", "exact_accuracy"), ("maze", "exact_accuracy")])
def test_boards_end_with_their_scores(
    family: str, metric: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    data = request.getfixturevalue(f"{family}_dir")
    checkpoint = save(tmp_path / "checkpoint", read_puzzle_set(data))
    flags = ("--variants", 3, "--halt", "stable", "--max-steps", 6)
    done = run_here("infer", "--checkpoint", checkpoint, "--data", data, "--out", tmp_path / "out", *flags)
    assert done.returncode == 0, done.stderr
    assert f" candidates, {metric} 0." in done.stdout
    assert ", cell_accuracy 0." in done.stdout
    assert {row["variant"] for row in rows_of(tmp_path / "out")} == {0, 1, 2, 3}


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
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: True)
    assert infer_to_folder(trained, arc_dir, tmp_path / "out", PLAIN).candidates > 0
