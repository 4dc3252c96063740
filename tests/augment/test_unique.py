"""Augmentations of a task: as many as differ, and the same whatever else is built."""

from dataclasses import replace
from itertools import permutations, product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from arcpipe.augment.sources import grids_of, hide
from arcpipe.augment.unique import distinct_augmentations, likeness
from arcpipe.augmentation import IDENTITY, Augmentation
from arcpipe.grid import Grid
from arcpipe.task import Pair, Task
from augmented import augmented, turned
from puzzles import as_list, made_up_tasks
from strategies import augmentations, grids, solved_tasks


def puzzle(task: Task, augmentation: Augmentation) -> tuple[tuple[tuple[int, ...], bytes], ...]:
    """All that a task shows under an augmentation."""
    turned = [augmented(grid, augmentation) for grid in grids_of(*task.demonstrations, *task.tests)]
    return tuple((grid.shape, grid.tobytes()) for grid in turned)


@given(solved_tasks(), st.integers(0, 20), st.integers(0, 12), st.integers(0, 3))
def test_augmentations_differ_and_more_begin_with_fewer(
    task: Task, num_aug: int, more: int, seed: int
) -> None:
    few = as_list(distinct_augmentations(task, num_aug, seed))
    assert few[0] == IDENTITY
    assert len(few) <= num_aug + 1
    assert len({puzzle(task, augmentation) for augmentation in few}) == len(few)
    assert all(augmentation.colors[0] == 0 for augmentation in few)
    assert as_list(distinct_augmentations(task, num_aug + more, seed))[: len(few)] == few


@settings(max_examples=15)
@given(
    st.lists(st.integers(0, 2), min_size=1, max_size=4), st.lists(st.integers(0, 2), min_size=1, max_size=4)
)
def test_a_task_of_few_colors_has_every_puzzle_that_exists(row: list[int], output: list[int]) -> None:
    grids: list[Grid] = [np.array([cells], np.uint8) for cells in (row, output)]
    few = Task("few", (Pair(*grids),), (Pair(grids[0], None),))
    # What becomes of 1 and 2 is all that shows.
    colors = [(0, *pair, *sorted({*range(1, 10)} - {*pair})) for pair in permutations(range(1, 10), 2)]
    every = {puzzle(few, Augmentation(*both)) for both in product(range(8), colors)}
    # 5 tries for each of 2000 leave hardly a chance to miss one of at most 576.
    assert {puzzle(few, one) for one in as_list(distinct_augmentations(few, 2000, 0))} == every


def is_one_change(grids: list[Grid], others: list[Grid]) -> bool:
    """Whether one turn makes others of grids, cell by cell with one color for each."""
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
    for rows in (pairs, [[grid] for pair in pairs for grid in pair]):
        numbers = likeness(*zip(*rows, strict=True))
        assert (numbers == numbers[0]).tolist() == [is_one_change(rows[0], one) for one in rows]


def test_hidden_outputs_decide_nothing_and_the_seed_and_the_name_do() -> None:
    (one,) = made_up_tasks(1, max_side=8)
    ten = as_list(distinct_augmentations(one, 10, seed=0))
    assert as_list(distinct_augmentations(hide(one), 10, seed=0)) == ten
    assert as_list(distinct_augmentations(one, 10, seed=1)) != ten
    assert as_list(distinct_augmentations(replace(one, id="another"), 10, seed=0)) != ten
