"""Canvas buckets: their tokens, the bucket of each task, and the division of a batch among them."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from arcpipe.batches import IGNORE, TrainingStream
from arcpipe.buckets import bucket_sides, crop, fitting_side, layout_of, needed_sides, pad_back
from arcpipe.codec import ARC, PAD, GridTable
from arcpipe.grid import Grid
from arcpipe.puzzleset import PuzzleSet, read_puzzle_set
from arcpipe.task import Pair, Task
from puzzles import (
    BUCKETS,
    CANVAS,
    IDENTITY,
    build,
    encode,
    grids,
    sized_data,
    sized_tasks,
    solved_tasks,
    table_of,
    write_source,
)

BATCH = 16


@pytest.fixture(scope="module")
def puzzles(tmp_path_factory: pytest.TempPathFactory) -> PuzzleSet:
    return read_puzzle_set(sized_data(tmp_path_factory.mktemp("sized")))


def set_of(*tasks: Task, canvas: int = 30) -> PuzzleSet:
    """A puzzle set of tasks, each under one puzzle."""
    pairs = [(number, pair) for number, task in enumerate(tasks) for pair in task.demonstrations]
    tests = [(number, pair.input) for number, task in enumerate(tasks) for pair in task.tests]
    numbers = np.array([number for number, _ in pairs], np.int32)
    outputs = [pair.output for _, pair in pairs if pair.output is not None]
    return PuzzleSet(
        family=ARC,
        canvas=canvas,
        table=table_of([task.id for task in tasks], [[IDENTITY]] * len(tasks)),
        inputs=GridTable.pack([pair.input for _, pair in pairs], canvas),
        outputs=GridTable.pack(outputs, canvas),
        example_tasks=numbers,
        example_groups=numbers,
        test_inputs=GridTable.pack([grid for _, grid in tests], canvas),
        test_tasks=np.array([number for number, _ in tests], np.int32),
    )


def blank(height: int, width: int) -> Grid:
    return np.zeros((height, width), np.uint8)


@given(grids(9), st.integers(0, 5), st.integers(0, 5))
def test_the_tokens_of_a_bucket_are_those_of_a_canvas_of_its_size(grid: Grid, top: int, left: int) -> None:
    side = 1 + max(grid.shape[0] + top, grid.shape[1] + left)
    whole = torch.from_numpy(encode(grid, 30, (top, left)))[None]
    cropped = crop(whole, side, 30)
    assert np.array_equal(cropped[0].numpy(), encode(grid, side, (top, left)))
    assert torch.equal(pad_back(cropped, side, 30), whole)
    assert PAD == 0, "what is around a bucket counts as PAD"


@given(solved_tasks(), st.lists(st.integers(2, 29), unique=True).map(sorted))
def test_no_known_grid_is_too_large_for_its_bucket(task: Task, buckets: list[int]) -> None:
    (side,) = bucket_sides(set_of(task), buckets).tolist()
    known = [grid for pair in task.demonstrations for grid in (pair.input, pair.output)]
    for grid in (*known, *(pair.input for pair in task.tests)):
        assert grid is not None
        assert max(grid.shape) <= fitting_side(side, 30)
    # It is the smallest such canvas: the needed side does not fit the next smaller one.
    smaller = [bucket for bucket in buckets if bucket < side]
    assert not smaller or needed_sides(set_of(task))[0] > fitting_side(smaller[-1], 30)


@pytest.mark.parametrize(("pairs", "tests", "side"), [
    # A single output shape is expected again, whatever the size of the test.
    ([(3, 3, 5, 5), (2, 2, 5, 5)], [(9, 9)], 9),
    ([(3, 3, 5, 5), (4, 4, 5, 5)], [(4, 4)], 5),
    # All outputs three times as high as the inputs, and as wide.
    ([(2, 2, 6, 2), (3, 2, 9, 2)], [(4, 7)], 12),
    ([(2, 2, 2, 6), (2, 3, 2, 9)], [(4, 7)], 21),
    # A fractional ratio is rounded up; and a ratio that floats get wrong.
    ([(2, 2, 3, 3), (4, 4, 6, 6)], [(7, 7)], 11),
    ([(25, 1, 7, 1), (25, 2, 7, 2)], [(25, 25)], 25),
    # Different ratios: twice the largest.
    ([(2, 2, 4, 4), (3, 3, 9, 9)], [(4, 4)], 24),
    # Never more than the whole canvas.
    ([(1, 1, 9, 9), (2, 2, 18, 18)], [(10, 10)], 30),
    # Without tests, and with the largest grid among the inputs.
    ([(8, 2, 1, 1), (3, 3, 2, 2)], [], 8),
])  # fmt: skip
def test_a_side(pairs: list[tuple[int, int, int, int]], tests: list[tuple[int, int]], side: int) -> None:
    """The needed side of a task whose demonstrations have these shapes of input and output."""
    demonstrations = tuple(Pair(blank(*shape[:2]), blank(*shape[2:])) for shape in pairs)
    task = Task("task", demonstrations, tuple(Pair(blank(*shape), None) for shape in tests))
    assert needed_sides(set_of(task)).tolist() == [side]


def test_the_outputs_of_tests_decide_nothing(tmp_path: Path) -> None:
    tasks = sized_tasks()
    larger = [replace(task, tests=tuple(Pair(of.input, blank(8, 8)) for of in task.tests)) for task in tasks]
    without = [replace(task, tests=tuple(Pair(of.input, None) for of in task.tests)) for task in tasks]
    found = []
    for name, those in (("one", tasks), ("other", larger), ("none", without)):
        source = write_source(tmp_path / name, "sized", those, solved=those is not without)
        puzzles = read_puzzle_set(build(tmp_path / name / "data", source, canvas=CANVAS))
        layout = layout_of(puzzles, BUCKETS, BATCH)
        found.append((layout.sides, layout.rows, layout.task_sides.tolist()))
    assert found[0] == found[1] == found[2]


@given(
    st.lists(st.integers(1, 8), min_size=1, max_size=40),
    st.lists(st.integers(2, 7), unique=True).map(sorted),
    st.integers(1, 200),
)
def test_a_layout_covers_the_batch(sides: list[int], buckets: list[int], batch_size: int) -> None:
    squares = [blank(side, side) for side in sides]
    tasks = [Task(f"task{number}", (Pair(grid, grid),), ()) for number, grid in enumerate(squares)]
    puzzles = set_of(*tasks, canvas=CANVAS)
    layout = layout_of(puzzles, buckets, batch_size)
    assert sum(layout.rows) == batch_size
    assert min(layout.rows) > 0
    assert set(layout.task_sides.tolist()) == set(layout.sides)
    # Inference, given the remaining buckets, puts each task on the same canvas.
    assert bucket_sides(puzzles, layout.buckets).tolist() == layout.task_sides.tolist()
    unit = np.gcd.reduce(layout.rows)
    for num_ranks in (1, 2, 4):
        if unit % num_ranks == 0:
            shares = [layout.own_rows(rank, num_ranks) for rank in range(num_ranks)]
            assert sorted(np.concatenate(shares).tolist()) == list(range(batch_size))
            of_row = np.repeat(layout.sides, layout.rows)
            for accumulation in (1, 3):
                parts = layout.parts(num_ranks, accumulation)
                seen = np.concatenate([np.arange(rows.start, rows.stop) for rows, _ in parts])
                assert seen.tolist() == list(range(batch_size // num_ranks))
                for rows, side in parts:
                    assert all((of_row[share[rows]] == side).all() for share in shares)


def test_the_rows_of_a_real_batch_divide_among_processes(puzzles: PuzzleSet) -> None:
    for batch_size in (768, 3072):
        assert not np.remainder(layout_of(puzzles, BUCKETS, batch_size).rows, 16).any()


@pytest.fixture(scope="module")
def batches(puzzles: PuzzleSet) -> TrainingStream:
    layout = layout_of(puzzles, BUCKETS, BATCH)
    return TrainingStream(puzzles, batch_size=BATCH, seed=3, placement=True, layout=layout)


def test_each_row_is_on_its_canvas_with_all_its_tokens(puzzles: PuzzleSet, batches: TrainingStream) -> None:
    of_row = np.repeat(batches.layout.sides, batches.layout.rows).tolist()
    reached = Counter[int]()
    for step in range(30):
        batch = batches[step]
        assert bucket_sides(puzzles, BUCKETS)[puzzles.table.tasks[batch.puzzle_ids]].tolist() == of_row
        for tokens, labels, side in zip(batch.inputs, batch.labels, of_row, strict=True):
            for values, none in ((tokens, PAD), (labels, IGNORE)):
                square = values.view(CANVAS, CANVAS)
                assert (square[side:] == none).all()
                assert (square[:, side:] == none).all()
                if side < CANVAS:
                    colors = square >= ARC.first
                    assert not colors[side - 1].any()
                    assert not colors[:, side - 1].any()
                    reached[side] += int(colors[side - 2].any())
    # Some are placed as far down as the row of EOS permits.
    assert min(reached.values()) > 20


def test_each_canvas_has_epochs_of_its_own(puzzles: PuzzleSet, batches: TrainingStream) -> None:
    """With three examples per task, all canvases finish an epoch every three steps."""
    tasks = [puzzles.table.tasks[batches[step].puzzle_ids] for step in range(3)]
    for start, rows in ((0, 8), (8, 4), (12, 4)):
        count = Counter(np.concatenate([of_step[start : start + rows] for of_step in tasks]).tolist())
        assert sum(count.values()) == 3 * rows
        assert set(count.values()) == {3 * rows // len(count)}
