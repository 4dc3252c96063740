"""Augmentations of a task: as many as differ, and the same whatever else is built."""

from dataclasses import replace
from itertools import permutations, product

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from arcpipe.augment.unique import distinct_augmentations
from arcpipe.augmentation import IDENTITY, Augmentation
from arcpipe.grid import Grid
from arcpipe.task import Pair, Task
from augmented import augmented
from puzzles import as_list, made_up_tasks
from strategies import solved_tasks


def puzzle(task: Task, augmentation: Augmentation) -> tuple[tuple[tuple[int, ...], bytes], ...]:
    """All that a task shows under an augmentation."""
    pairs = (*task.demonstrations, *task.tests)
    grids = [grid for pair in pairs for grid in (pair.input, pair.output) if grid is not None]
    turned = [augmented(grid, augmentation) for grid in grids]
    return tuple((grid.shape, grid.tobytes()) for grid in turned)


@given(solved_tasks(), st.integers(0, 20), st.integers(0, 3))
def test_no_two_augmentations_of_a_task_give_the_same_puzzle(task: Task, num_aug: int, seed: int) -> None:
    chosen = as_list(distinct_augmentations(task, num_aug, seed))
    assert chosen[0] == IDENTITY
    assert len(chosen) <= num_aug + 1
    made = {puzzle(task, augmentation) for augmentation in chosen}
    assert len(made) == len(chosen)
    assert all(augmentation.colors[0] == 0 for augmentation in chosen)


@given(solved_tasks(), st.integers(0, 12), st.integers(0, 12), st.integers(0, 3))
def test_more_augmentations_begin_with_fewer(task: Task, few: int, more: int, seed: int) -> None:
    first = as_list(distinct_augmentations(task, few, seed))
    assert as_list(distinct_augmentations(task, few + more, seed))[: len(first)] == first


@given(
    st.lists(st.integers(0, 2), min_size=1, max_size=4), st.lists(st.integers(0, 2), min_size=1, max_size=4)
)
def test_a_task_of_few_colors_has_every_puzzle_that_exists(given: list[int], wanted: list[int]) -> None:
    grids: list[Grid] = [np.array([cells], np.uint8) for cells in (given, wanted)]
    few = Task("few", (Pair(*grids),), (Pair(grids[0], None),))
    # What becomes of 1 and 2 is all that shows.
    colors = [(0, *pair, *sorted({*range(1, 10)} - {*pair})) for pair in permutations(range(1, 10), 2)]
    every = {puzzle(few, Augmentation(*both)) for both in product(range(8), colors)}
    # 5 tries for each of 2000 leave hardly a chance to miss one of at most 576.
    chosen = {puzzle(few, augmentation) for augmentation in as_list(distinct_augmentations(few, 2000, 0))}
    assert chosen == every


def test_hidden_outputs_decide_nothing_and_the_seed_and_the_name_do() -> None:
    (one,) = made_up_tasks(1, max_side=8)
    chosen = as_list(distinct_augmentations(one, 10, seed=0))
    hidden = replace(one, tests=tuple(Pair(pair.input, None) for pair in one.tests))
    assert as_list(distinct_augmentations(hidden, 10, seed=0)) == chosen
    assert as_list(distinct_augmentations(one, 10, seed=1)) != chosen
    assert as_list(distinct_augmentations(replace(one, id="another"), 10, seed=0)) != chosen
