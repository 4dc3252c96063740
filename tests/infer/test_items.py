"""The work list: fair rounds over the test inputs, and its division among processes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcpipe.augmentation import PuzzleTable
from arcpipe.errors import DataError
from arcpipe.infer.config import InferSettings
from arcpipe.infer.items import Schedule, WorkQueue, original_grids
from arcpipe.puzzleset import PuzzleSet, read_puzzle_set
from puzzles import build, made_up_tasks, write_source


def every(schedule: Schedule) -> list[tuple[int, int, int, int]]:
    items = schedule.items(np.arange(len(schedule)))
    columns = (items.tests, items.puzzle_ids, items.variants, items.rollouts)
    return [*zip(*(column.tolist() for column in columns), strict=True)]


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> PuzzleSet:
    """Tasks that have 1, 4, 8 and 8 puzzles."""
    folder = tmp_path_factory.mktemp("uneven")
    data = build(folder / "data", write_source(folder, "all", made_up_tasks(4)), num_aug=7, canvas=5)
    puzzles = read_puzzle_set(data)
    table = puzzles.table
    number = np.concatenate([np.arange(count) for count in np.bincount(table.tasks)])
    kept = number < np.array([1, 4, 8, 8])[table.tasks]
    some = PuzzleTable(table.task_ids, table.tasks[kept], table.dihedrals[kept], table.colors[kept])
    return replace(puzzles, table=some)


def test_each_test_input_meets_each_puzzle_of_its_task_in_fair_rounds(uneven: PuzzleSet) -> None:
    schedule = every(Schedule(uneven, InferSettings(rollouts=2)))
    assert sorted(schedule) == [
        (test, int(puzzle), 0, rollout)
        for test, task in enumerate(uneven.test_tasks)
        for puzzle in uneven.table.of_task(task)
        for rollout in range(2)
    ]
    left = np.bincount([test for test, *_ in schedule])
    had = np.zeros_like(left)
    for test, *_ in schedule:
        had[test] += 1
        left[test] -= 1
        waiting = had[left > 0]
        assert not len(waiting) or had.max() <= waiting.min() + 1


def test_votes_are_the_first_ways_of_each_test_input(uneven: PuzzleSet) -> None:
    few, whole = every(Schedule(uneven, InferSettings(votes=3))), every(Schedule(uneven, InferSettings()))
    for test in range(len(uneven.test_tasks)):
        ways = [item for item in whole if item[0] == test]
        assert [item for item in few if item[0] == test] == ways[:3]


def test_a_maze_has_so_many_variants(maze_dir: Path) -> None:
    with pytest.raises(DataError, match="--variants 8: a maze has 7 turns"):
        Schedule(read_puzzle_set(maze_dir), InferSettings(variants=8))


def test_a_board_without_a_cell_value_is_no_grid(sudoku_dir: Path) -> None:
    puzzles = read_puzzle_set(sudoku_dir)
    items = Schedule(puzzles, InferSettings()).items(np.arange(2))
    tokens = np.zeros((2, puzzles.num_tokens), np.uint8)
    tokens[1, 0] = puzzles.family.first
    shapes, cells = original_grids(puzzles, items, tokens)
    assert shapes.tolist() == [[0, 0], [4, 4]]
    assert len(cells) == 16


@given(st.integers(0, 200_000), st.integers(0, 1000), st.integers(1, 4), st.integers(1, 70_000))
def test_processes_share_what_is_not_done(length: int, holes: int, num_ranks: int, at_once: int) -> None:
    done = np.unique(np.random.default_rng(holes).integers(0, length, holes)) if length else np.zeros(0, int)
    undone = np.setdiff1d(np.arange(length), done)
    shares = []
    for rank in range(num_ranks):
        work = WorkQueue(length, done, rank, num_ranks)
        assert len(undone) // num_ranks <= work.left <= -(-len(undone) // num_ranks)
        parts = [np.zeros(0, np.int64)]
        while work.left:
            parts.append(work.take(at_once))
        shares.append(np.concatenate(parts))
        assert (np.diff(shares[-1]) > 0).all(), "in the order of the schedule"
        assert not len(work.take(1))
    np.testing.assert_array_equal(np.sort(np.concatenate(shares)), undone)


@pytest.mark.parametrize(("tests", "num_ranks"), [(1, 2), (8, 4), (240, 4), (239, 4)])
def test_each_process_has_a_like_share_of_each_test_input(tests: int, num_ranks: int) -> None:
    votes = 128
    for rank in range(num_ranks):
        work = WorkQueue(tests * votes, np.zeros(0, np.int64), rank, num_ranks)
        counts = np.bincount(work.take(work.left) % tests, minlength=tests)
        assert (abs(counts - votes / num_ranks) < 24).all()
