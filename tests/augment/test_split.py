"""Which pairs train and which test inputs are predicted, and what is said of tasks that sources share."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcpipe.augment.sources import Source
from arcpipe.augment.split import Overlap, Selection, select
from arcpipe.augmentation import Augmentation
from arcpipe.errors import DataError
from arcpipe.grid import as_grid
from arcpipe.puzzleset import read_puzzle_set
from arcpipe.runs import read_manifest
from arcpipe.task import Pair, Task
from augmented import augmented
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
from strategies import augmentations

# A pattern of cells found in no other grid here; longer than any random one could repeat.
SECRET = as_grid([[7, 1, 4, 9, 2, 8], [3, 6, 5, 0, 7, 7], [9, 9, 1, 3, 8, 4]], "secret")


def test_other_sets_train_with_their_test_pairs_and_the_test_set_does_not(tmp_path: Path) -> None:
    target, other = made_up_tasks(3, seed=1, max_side=8), made_up_tasks(4, seed=2, max_side=8)
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


def choose(*sources: Source, test_set: str = "", exclude_overlap: bool = False) -> Selection:
    """What is selected of sources whose grids all fit."""
    return select(sources, test_set=test_set, max_side=30, canvas=0, exclude_overlap=exclude_overlap)


def trained(chosen: Selection, task_id: str) -> list[Pair]:
    """The pairs of a task that train."""
    (one,) = [task for task in chosen.training if task.id == task_id]
    return [pair for pair in (*one.demonstrations, *one.tests) if pair.output is not None]


# Pairs whose inputs are alike under no augmentation.
FIRST, SECOND, THIRD, ASKED = (
    Pair(rows, grid("3"))
    for rows in (grid("1234", "5678"), grid("112", "221"), grid("12345", "11223"), SECRET)
)
BLACK_TO_RED = (2, 3, 4, 5, 6, 7, 8, 9, 0, 1)
CHANGES = {
    "the same": Augmentation(),
    "turned": Augmentation(dihedral=1),
    "recolored": Augmentation(colors=BLACK_TO_RED),
    "turned and recolored": Augmentation(6, BLACK_TO_RED),
}


@pytest.mark.parametrize("exclude", [False, True])
def test_tasks_that_show_a_pair_of_one_to_predict_are_named_and_left_out_if_asked(exclude: bool) -> None:
    target = Source("a", (Task("target", (FIRST,), (ASKED,)),), ())
    other = Source("b", (Task("shows", (FIRST, SECOND), (THIRD,)), Task("free", (SECOND,), (THIRD,))), ())
    chosen = choose(target, other, test_set="a", exclude_overlap=exclude)
    assert chosen.overlaps == [Overlap("target", "train[0]", "b", "shows", "train[0]", "the same")]
    assert {task.id for task in chosen.training} == {"target", "free", *(() if exclude else ("shows",))}


def copy_of_asked(change: Augmentation) -> Pair:
    return Pair(augmented(ASKED.input, change), grid("34"))


@given(augmentations(), st.sampled_from(["another set", "no test set", "the same set"]))
def test_no_augmentation_of_a_pair_that_is_asked_for_trains(change: Augmentation, where: str) -> None:
    target = Task("target", (FIRST,), (ASKED,))
    other = Task("other", (SECOND, copy_of_asked(change)), (THIRD,))
    if where == "the same set":
        chosen = choose(Source("a", (target, other), ()), test_set="a")
    else:
        sources = Source("a", (target,), ()), Source("b", (other,), ())
        chosen = choose(*sources, test_set="a" if where == "another set" else "")
    assert [(found.task, found.other, found.other_part) for found in chosen.overlaps] == [
        ("target", "other", "train[1]")
    ]
    assert trained(chosen, "other") == [SECOND] + [THIRD] * (where == "another set")
    assert trained(chosen, "target") == [FIRST]


def test_inputs_of_one_color_are_alike_in_every_color_and_other_sizes_are_not() -> None:
    target = Task("target", (FIRST,), (Pair(grid("00", "00", "00"), None),))
    like, unlike = Pair(grid("777", "777"), grid("1")), Pair(grid("00", "00"), grid("2"))
    other = Task("other", (SECOND, like, unlike), (THIRD,))
    chosen = choose(Source("a", (target,), ()), Source("b", (other,), ()), test_set="a")
    assert trained(chosen, "other") == [SECOND, unlike, THIRD]


def test_a_demonstration_trains_that_is_a_test_input_of_its_own_task() -> None:
    own = copy_of_asked(CHANGES["turned and recolored"])
    chosen = choose(Source("a", (Task("target", (FIRST, own), (ASKED,)),), ()))
    assert (trained(chosen, "target"), chosen.overlaps) == ([FIRST, own], [])


def test_a_task_to_predict_without_demonstrations_left_is_predicted(
    tmp_path: Path,
) -> None:
    wide = Pair(augmented(SECRET, CHANGES["turned"]), grid("1" * 9))
    tasks = [Task("target", (FIRST,), (ASKED,)), Task("bare", (wide,), (THIRD,))]
    together = build(tmp_path / "data", write_source(tmp_path, "set", tasks, solved=False), canvas=0)
    alone = build(tmp_path / "alone", write_source(tmp_path, "bare", tasks[1:], solved=False), canvas=0)
    assert read_manifest(together, "dataset")["counts"]["untrained"] == ["bare"]
    puzzles = read_puzzle_set(together)
    assert [name for name, _, _ in training_pairs(puzzles)] == ["target"]
    assert puzzles.table.task_ids[puzzles.test_tasks[1]] == "bare"
    assert puzzles.canvas == 9
    assert (puzzles.table.find(read_puzzle_set(alone).table) >= 0).all()
    assert list(json.loads((together / "challenges.json").read_bytes())) == ["target", "bare"]


def test_a_task_of_another_set_without_a_demonstration_left_does_not_train() -> None:
    other = Task("other", (copy_of_asked(CHANGES["turned"]),), (SECOND,))
    target = Source("a", (Task("target", (FIRST,), (ASKED,)),), ())
    chosen = choose(target, Source("b", (other,), ()), test_set="a")
    assert ([task.id for task in chosen.training], chosen.untrained) == (["target"], ["other"])


def test_sources_of_which_nothing_is_left_to_train_are_refused() -> None:
    turned = copy_of_asked(CHANGES["turned"])
    tasks = Task("one", (THIRD,), (ASKED,)), Task("two", (turned,), (THIRD,))
    with pytest.raises(DataError, match=r"one test\[0\] = two train\[0\] of a, turned; .*--test-set"):
        choose(Source("a", tasks, ()))
