"""The ARC dataset as built: its canvas, what it keeps apart, and carrying puzzles over with `extend`."""

from pathlib import Path

import numpy as np
import pytest
import torch

from arcpipe.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from arcpipe.model_config import TRMConfig
from arcpipe.puzzleset import PuzzleSet, read_puzzle_set
from arcpipe.runs import make_manifest
from arcpipe.task import Pair, Task
from arcpipe.trm import TRM
from puzzles import SECRET, build, files_holding, grid, made_up_tasks, task, unpacked, write_source


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    return made_up_tasks(6)


def test_test_outputs_are_in_solutions_json_and_nowhere_else(tmp_path: Path) -> None:
    shown = grid("123456", "654321", "246135")
    hidden = task(
        "a", (grid("112", "221"), shown), tests=(Pair(grid("12"), grid("3")), Pair(grid("21"), SECRET))
    )
    data = build(tmp_path / "data", write_source(tmp_path, "few", [hidden, *made_up_tasks(3)]))
    # That a demonstration is found shows that the search would find a leak.
    assert files_holding(data, shown.tobytes()) == {"examples", "challenges.json"}
    assert files_holding(data, SECRET.tobytes()) == {"solutions.json"}
    assert SECRET.tolist() not in unpacked(read_puzzle_set(data).outputs)


def test_the_smallest_canvas_does_not_look_at_hidden_outputs(tmp_path: Path) -> None:
    hidden = task("a", (grid("12"), grid("21")), tests=(Pair(grid("1"), SECRET),))
    assert read_puzzle_set(build(tmp_path / "data", write_source(tmp_path, "few", [hidden]))).canvas == 2


def puzzles_of(puzzles: PuzzleSet, name: str) -> list[int]:
    """The fingerprints of a task's puzzles, in their order."""
    table = puzzles.table
    return [int(one) for one in table.fingerprints()[table.of_task(table.task_ids.index(name))]]


def test_a_puzzle_has_one_fingerprint_in_every_dataset(tmp_path: Path, tasks: list[Task]) -> None:
    source = write_source(tmp_path, "few", tasks)
    turned = write_source(tmp_path, "turned", tasks[::-1])
    few = read_puzzle_set(build(tmp_path / "few", source, num_aug=3))
    many = read_puzzle_set(build(tmp_path / "many", turned, num_aug=9, canvas=12))
    for name in few.table.task_ids:
        assert puzzles_of(many, name)[: len(puzzles_of(few, name))] == puzzles_of(few, name)
    everything = many.table.fingerprints()
    assert len(set(everything.tolist())) == len(everything)
    other_seed = read_puzzle_set(build(tmp_path / "seed", source, num_aug=3, seed=1))
    assert puzzles_of(other_seed, tasks[0].id)[0] == puzzles_of(few, tasks[0].id)[0]
    assert puzzles_of(other_seed, tasks[0].id) != puzzles_of(few, tasks[0].id)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory, tasks: list[Task]) -> Path:
    """A folder with a dataset of four tasks, and a checkpoint whose rows begin with the puzzle's id."""
    folder = tmp_path_factory.mktemp("old")
    source = write_source(folder, "old", tasks[:4])
    puzzles = read_puzzle_set(build(folder / "dataset", source, num_aug=5, canvas=6))
    config = TRMConfig(
        hidden_size=16, num_heads=2, num_layers=1, puzzle_size=16, puzzle_tokens=1, max_steps=1
    )
    weights = TRM(config, puzzles.family.vocabulary, puzzles.num_tokens).state_dict()
    rows = torch.zeros(puzzles.num_puzzles, 16)
    rows[:, 0] = torch.arange(puzzles.num_puzzles)
    checkpoint = Checkpoint(
        path=folder / "checkpoint", config=config, family="arc", canvas=puzzles.canvas,
        vocabulary=puzzles.family.vocabulary, raw=weights, ema=weights, rows=rows, puzzles=puzzles.table,
        manifest=make_manifest("checkpoint", step=1),
    )  # fmt: skip
    save_checkpoint(checkpoint)
    return folder


@pytest.mark.parametrize("kind", ["dataset", "checkpoint"])
def test_a_known_task_keeps_its_augmentations(
    tmp_path: Path, tasks: list[Task], old: Path, kind: str
) -> None:
    source = write_source(tmp_path, "new", tasks[:1:-1])
    # Another seed and count, which only new tasks obey.
    settings = {"seed": 9, "canvas": 6}
    new = read_puzzle_set(build(tmp_path / "new", source, extend=str(old / kind), **settings))
    fresh = read_puzzle_set(build(tmp_path / "fresh", source, **settings))
    before = read_puzzle_set(old / "dataset")
    for one in tasks[2:]:
        assert puzzles_of(new, one.id) == puzzles_of(before if one in tasks[:4] else fresh, one.id)
    rows = load_checkpoint(old / "checkpoint").puzzles.find(new.table)
    known = np.isin(new.table.tasks, [new.table.task_ids.index(one.id) for one in tasks[2:4]])
    assert np.array_equal(rows >= 0, known)


def test_rows_of_a_checkpoint_are_those_of_the_puzzles(tmp_path: Path, tasks: list[Task], old: Path) -> None:
    source = write_source(tmp_path, "part", tasks[3:1:-1])
    part = read_puzzle_set(build(tmp_path / "part", source, extend=str(old / "dataset"), canvas=6))
    checkpoint = load_checkpoint(old / "checkpoint")
    rows = checkpoint.rows_of(part)[:, 0].long()
    assert np.array_equal(checkpoint.puzzles.fingerprints()[rows], part.table.fingerprints())
