"""Which pairs train and which test inputs are predicted, and what is said of tasks that sources share."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from arcpipe.augment.arc import Source
from arcpipe.augment.select import Overlap, select
from arcpipe.errors import DataError
from arcpipe.grid import as_grid
from arcpipe.puzzleset import read_puzzle_set
from arcpipe.task import Pair
from puzzles import (
    build,
    demonstrations,
    files_holding,
    grid,
    made_up_tasks,
    solved_tests,
    task,
    training_pairs,
    write_source,
)  # fmt: skip

# A pattern of cells found in no other grid here; longer than any random one could repeat.
SECRET = as_grid([[7, 1, 4, 9, 2, 8], [3, 6, 5, 0, 7, 7], [9, 9, 1, 3, 8, 4]], "secret")


def test_other_sets_train_with_their_test_pairs_and_the_test_set_does_not(tmp_path: Path) -> None:
    target, other = made_up_tasks(3, seed=1), made_up_tasks(4, seed=2)
    sources = [write_source(tmp_path, "other", other), write_source(tmp_path, "target", target)]
    puzzles = read_puzzle_set(build(tmp_path / "data", *sources, test_set="target"))
    trained = training_pairs(puzzles)
    expected = demonstrations(target) + demonstrations(other) + solved_tests(other)
    assert sorted(trained) == sorted(expected)
    assert [puzzles.table.task_ids[number] for number in puzzles.test_tasks] == [
        name for name, _, _ in solved_tests(target)
    ]
    challenges = json.loads((tmp_path / "data" / "challenges.json").read_bytes())
    assert list(challenges) == [task.id for task in target]


def test_a_task_to_predict_that_a_training_set_holds_too_does_not_train_its_outputs(tmp_path: Path) -> None:
    shared = task("both", (grid("12"), grid("21")), tests=(Pair(grid("34"), SECRET),))
    others = made_up_tasks(2)
    sources = [
        write_source(tmp_path, "training", [*others, shared]),
        write_source(tmp_path, "target", [shared]),
    ]
    data = build(tmp_path / "data", *sources, test_set="target")
    assert files_holding(data, SECRET.tobytes()) == {"solutions.json"}
    puzzles = read_puzzle_set(data)
    assert puzzles.table.task_ids.count("both") == 1
    assert sorted(training_pairs(puzzles)) == sorted(demonstrations([shared, *others]) + solved_tests(others))


def test_a_pair_that_is_asked_for_elsewhere_does_not_train_under_another_name(tmp_path: Path) -> None:
    asked, other, free = grid("123", "456"), grid("77"), grid("5")
    hidden = task("asked", (other, other), tests=(Pair(asked, SECRET[:2, :3]),))
    copy = task("copy", (asked, SECRET[:2, :3]), (free, free), tests=(Pair(asked, SECRET[:2, :3]),))
    target = write_source(tmp_path, "evaluation", [hidden])
    training = write_source(tmp_path, "training", [copy])
    folder = build(tmp_path / "data", training, target, test_set="evaluation")
    pairs = training_pairs(read_puzzle_set(folder))
    assert [(name, pair) for name, pair, _ in pairs] == [("asked", other.tolist()), ("copy", free.tolist())]


def test_a_test_pair_too_large_for_the_canvas_does_not_train(tmp_path: Path) -> None:
    small, large = grid("1"), np.ones((7, 7), np.uint8)
    target = write_source(
        tmp_path, "evaluation", [task("a", (small, small), tests=(Pair(small, None),))], solved=False
    )
    training = write_source(
        tmp_path, "training", [task("b", (grid("2"), small), tests=(Pair(grid("3"), large),))]
    )
    folder = build(tmp_path / "data", training, target, test_set="evaluation", max_side=3)
    assert {
        name for name, _, output in training_pairs(read_puzzle_set(folder)) if output == large.tolist()
    } == set()
    assert read_puzzle_set(folder).canvas == 1


def test_a_test_set_that_two_sources_are_called_is_refused(tmp_path: Path) -> None:
    sources = [write_source(tmp_path / name, "evaluation", made_up_tasks(2)) for name in ("one", "two")]
    with pytest.raises(DataError, match="should be exactly one of the sources: evaluation, evaluation"):
        build(tmp_path / "data", *sources, test_set="evaluation")


def shared_tasks() -> tuple[Source, Source, list[Overlap]]:
    """A test set of four tasks, a training set that has three of them in its own way, and what they share."""
    whole, shown, asked, own = made_up_tasks(4, seed=5)
    other, free = made_up_tasks(2, seed=6)
    training = [
        replace(whole, id="same"),
        replace(other, id="shows", demonstrations=(*other.demonstrations, shown.demonstrations[0])),
        replace(free, id="asks", demonstrations=(*free.demonstrations, asked.tests[0])),
        replace(free, id="free"),
    ]
    expected = [
        Overlap(target.id, "training", name)
        for target, name in ((whole, "same"), (shown, "shows"), (asked, "asks"))
    ]
    targets = Source("evaluation", (whole, shown, asked, own), ())
    return targets, Source("training", tuple(training), ()), sorted(expected, key=lambda found: found.task)


@pytest.mark.parametrize("exclude", [False, True])
def test_tasks_to_predict_that_another_source_has_are_found_and_left_out_if_asked(exclude: bool) -> None:
    targets, training, expected = shared_tasks()
    chosen = select(
        [training, targets], test_set="evaluation", max_side=30, canvas=0, exclude_overlap=exclude
    )
    assert chosen.overlaps == expected
    trained = {task.id for task in chosen.training} - {task.id for task in targets.tasks}
    assert trained == ({"free"} if exclude else {"same", "shows", "asks", "free"})
    asked = {pair.input.tobytes() for task in targets.tasks for pair in task.tests}
    pairs = [pair for task in chosen.training for pair in (*task.demonstrations, *task.tests)]
    assert not [pair for pair in pairs if pair.output is not None and pair.input.tobytes() in asked]


def test_without_a_test_set_every_source_is_predicted_and_none_overlaps() -> None:
    targets, training, _ = shared_tasks()
    chosen = select([training, targets], test_set="", max_side=30, canvas=0, exclude_overlap=True)
    assert chosen.overlaps == []
    assert len(chosen.targets) == len(chosen.training) == 8
    assert all(pair.output is None for task in chosen.training for pair in task.tests)
