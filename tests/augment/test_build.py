"""The ARC dataset as built: its canvas, what it keeps apart, and carrying puzzles over with `extend`."""

from pathlib import Path

import numpy as np
import pytest
import torch

from arcpipe.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from arcpipe.grid import as_grid
from arcpipe.model_config import TRMConfig
from arcpipe.puzzleset import PuzzleSet, read_puzzle_set
from arcpipe.runs import make_manifest
from arcpipe.task import Pair, Task
from arcpipe.trm import TRM
from puzzles import build, files_holding, grid, made_up_tasks, task, unpacked, write_source

# A pattern of cells found in no other grid here; longer than any random one could repeat.
SECRET = as_grid([[7, 1, 4, 9, 2, 8], [3, 6, 5, 0, 7, 7], [9, 9, 1, 3, 8, 4]], "secret")


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    return made_up_tasks(6)


def test_test_outputs_are_in_solutions_json_and_nowhere_else(tmp_path: Path) -> None:
    shown = grid("123456", "654321", "246135")
    tests = (Pair(grid("12"), grid("3")), Pair(grid("21"), SECRET))
    few = [task("a", (grid("112", "221"), shown), tests=tests), *made_up_tasks(3)]
    data = build(tmp_path / "data", write_source(tmp_path, "few", few))
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


def checkpoint_of(puzzles: PuzzleSet, path: Path) -> Checkpoint:
    """A checkpoint with a row for each puzzle, whose first number is the puzzle's id."""
    config = TRMConfig(
        hidden_size=16, num_heads=2, num_layers=1, puzzle_size=16, puzzle_tokens=1, max_steps=1
    )
    torch.manual_seed(0)
    weights = TRM(config, puzzles.family.vocabulary, puzzles.num_tokens).state_dict()
    rows = torch.zeros(puzzles.num_puzzles, 16)
    rows[:, 0] = torch.arange(puzzles.num_puzzles)
    found = Checkpoint(
        path=path, config=config, family="arc", canvas=puzzles.canvas, vocabulary=puzzles.family.vocabulary,
        raw=weights, ema=weights, rows=rows, puzzles=puzzles.table,
        manifest=make_manifest("checkpoint", step=1),
    )  # fmt: skip
    save_checkpoint(found)
    return load_checkpoint(path)


@pytest.mark.parametrize("kind", ["dataset", "checkpoint"])
def test_a_task_that_is_known_keeps_its_augmentations_and_a_new_one_gets_its_own(
    tmp_path: Path, tasks: list[Task], kind: str
) -> None:
    old_folder = build(tmp_path / "old", write_source(tmp_path, "old", tasks[:4]), num_aug=5, canvas=6)
    old = read_puzzle_set(old_folder)
    checkpoint = checkpoint_of(old, tmp_path / "checkpoint")
    source = write_source(tmp_path, "new", tasks[:1:-1])
    new = read_puzzle_set(
        # Another seed and count, which only new tasks obey.
        build(
            tmp_path / "new", source, extend=str(tmp_path / kind.replace("dataset", "old")), seed=9, canvas=6
        )
    )
    for one in tasks[2:4]:
        assert puzzles_of(new, one.id) == puzzles_of(old, one.id)
    fresh = read_puzzle_set(build(tmp_path / "fresh", source, seed=9, canvas=6))
    for one in tasks[4:]:
        assert puzzles_of(new, one.id) == puzzles_of(fresh, one.id)
    places = checkpoint.puzzles.find(new.table)
    known = np.isin(new.table.tasks, [new.table.task_ids.index(one.id) for one in tasks[2:4]])
    assert np.array_equal(places >= 0, known)
    assert np.array_equal(checkpoint.puzzles.fingerprints()[places[known]], new.table.fingerprints()[known])
    part = read_puzzle_set(
        build(
            tmp_path / "part", write_source(tmp_path, "part", tasks[3:1:-1]), extend=str(old_folder), canvas=6
        )
    )
    assert checkpoint.rows_of(part)[:, 0].tolist() == checkpoint.puzzles.find(part.table).tolist()
