"""Several processes answer what one answers, and one that dies takes nothing else with it."""

from pathlib import Path

import pytest

from arcpipe.predictions import shard_files
from arcpipe.puzzleset import PuzzleSet
from commands import run_here
from inference import rows_of, save
from processes import start_together

FLAGS = ("--batch-size", 8, "--rollouts", 40, "--noise", 0.5)


@pytest.fixture(scope="module")
def folder(arc: PuzzleSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint, and what one process answers with it."""
    return tmp_path_factory.mktemp("several")


@pytest.fixture(scope="module")
def alone(folder: Path, arc: PuzzleSet, arc_dir: Path) -> Path:
    save(folder / "checkpoint", arc)
    done = run_here(*arguments(folder, arc_dir, folder / "alone"))
    assert done.returncode == 0, done.stderr
    return folder / "alone"


def arguments(folder: Path, data: Path, out: Path, *flags: object) -> list[object]:
    return ["infer", "--checkpoint", folder / "checkpoint", "--data", data, "--out", out, *FLAGS, *flags]


def assert_same(out: Path, expected: Path) -> None:
    found, wanted = rows_of(out), rows_of(expected)
    assert len(found) == len(wanted) == 48 * 40
    for one, other in zip(found, wanted, strict=True):
        for name in ("halt_probability", "log_probability"):
            assert one.pop(name) == pytest.approx(other.pop(name), abs=1e-4)
        assert one == other


def test_two_processes_answer_what_one_answers(folder: Path, alone: Path, arc_dir: Path) -> None:
    out = folder / "two"
    both = start_together(arguments(folder, arc_dir, out), folder)
    said = [process.communicate(timeout=100) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert {file.name[-13:] for file in shard_files(out)} == {"rank0.parquet", "rank1.parquet"}
    assert sum("pass@2" in stdout for stdout, _ in said) >= 1, "whoever is last scores"
    assert "Warning" not in said[0][1] + said[1][1]
    assert_same(out, alone)


def test_a_killed_process_loses_its_part_only_and_others_go_on_with_it(
    folder: Path, alone: Path, arc_dir: Path
) -> None:
    out = folder / "killed"
    first, second = start_together(arguments(folder, arc_dir, out), folder)
    assert first.stderr is not None
    # They part before this is said.
    while "grids to answer" not in first.stderr.readline():
        pass
    second.kill()
    stdout, stderr = first.communicate(timeout=100)
    second.communicate(timeout=10)
    assert (first.returncode, second.returncode) == (0, -9), stderr
    assert "960 of 1920 grids answered, not all done: go on with --resume" in stdout
    assert len(rows_of(out)) == 960
    done = run_here(*arguments(folder, arc_dir, out, "--resume"))
    assert done.returncode == 0, done.stderr
    assert_same(out, alone)
