"""Mazes: shortest paths against a plain search, the generator, and sources."""

from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray
from pyarrow import csv, parquet

from arcpipe.augment.maze import canonical, generate_mazes, read_mazes
from arcpipe.augment.puzzles import BoardSettings
from arcpipe.augmentation import apply_dihedral
from arcpipe.boards import (
    CHARACTERS,
    FREE,
    GOAL,
    PATH,
    START,
    WALL,
    at,
    cells_of,
    distances,
    is_shortest_path,
    mark_shortest_paths,
    search,
)

Boards = NDArray[np.uint8]


def board(*lines: str) -> Boards:
    """One maze (1, S, S) as it is drawn."""
    return np.array([[[CHARACTERS.index(character) for character in line] for line in lines]], np.uint8)


def drawn(maze: Boards) -> list[str]:
    return ["".join(CHARACTERS[value] for value in row) for row in maze]


@st.composite
def batches(draw: st.DrawFn) -> Boards:
    """One to three random mazes of one size, with start and goal but not always a way between them."""
    count, side = draw(st.integers(1, 3)), draw(st.integers(2, 7))
    mazes = draw(npst.arrays(np.uint8, (count, side, side), elements=st.sampled_from([WALL, FREE, FREE])))
    for maze in mazes.reshape(count, -1):
        start, goal = draw(st.permutations(range(side * side)))[:2]
        maze[start], maze[goal] = START, GOAL
    return mazes


def plain_search(maze: Boards) -> tuple[NDArray[Any], NDArray[Any]]:
    """Moves and number of shortest ways to each cell, one cell at a time."""
    moves, ways = np.full(maze.shape, -1), np.zeros(maze.shape, int)
    start = tuple(int(place) for place in np.argwhere(maze == START)[0])
    moves[start], ways[start] = 0, 1
    queue = deque([start])
    while queue:
        row, column = queue.popleft()
        for near in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            if min(near) < 0 or max(near) >= len(maze) or maze[near] == WALL:
                continue
            if moves[near] < 0:
                moves[near] = moves[row, column] + 1
                queue.append(near)
            if moves[near] == moves[row, column] + 1:
                ways[near] += ways[row, column]
    return moves, ways


@given(batches())
def test_search_finds_moves_and_ways_of_a_plain_search(mazes: Boards) -> None:
    found = search(mazes != WALL, cells_of(mazes, START))
    expected = [plain_search(maze) for maze in mazes]
    np.testing.assert_array_equal(found.distances, [moves for moves, _ in expected])
    np.testing.assert_array_equal(found.counts, [np.minimum(ways, 2) for _, ways in expected])
    assert distances(mazes).dtype == np.int16


@given(batches())
def test_marked_paths_are_shortest_and_leave_unsolvable_mazes_alone(mazes: Boards) -> None:
    answers = mark_shortest_paths(mazes)
    solvable = at(distances(mazes), cells_of(mazes, GOAL)) > 0
    np.testing.assert_array_equal(is_shortest_path(mazes, answers), solvable)
    np.testing.assert_array_equal(answers[~solvable], mazes[~solvable])
    for dihedral in range(8):
        valid = is_shortest_path(apply_dihedral(mazes, dihedral), apply_dihedral(answers, dihedral))
        np.testing.assert_array_equal(valid, solvable)


@given(batches(), st.data())
def test_one_changed_cell_spoils_a_path(mazes: Boards, data: st.DataObject) -> None:
    answers = mark_shortest_paths(mazes)
    cell = data.draw(st.integers(0, mazes[0].size - 1))
    value = data.draw(st.integers(0, 255))
    assume(answers[0].flat[cell] != value)
    answers[0].flat[cell] = value
    assert not is_shortest_path(mazes, answers)[0]


def test_any_of_several_shortest_paths_is_valid_and_a_detour_is_not() -> None:
    question = board("S  ", "  G", "   ")
    for lines in (("Soo", "  G", "   "), ("So ", " oG", "   "), ("S  ", "ooG", "   ")):
        assert is_shortest_path(question, board(*lines)).all()
    for lines in (("S  ", "o G", "ooo"), ("Soo", "o G", "   "), ("So ", "  G", "   "), ("S  ", "  G", "   ")):
        assert not is_shortest_path(question, board(*lines)).any()
    assert drawn(mark_shortest_paths(question)[0]) == ["Soo", "  G", "   "]


@given(batches(), batches())
def test_keys_are_equal_for_turned_mazes_only(mazes: Boards, others: Boards) -> None:
    keys = canonical(mazes)
    assert keys.shape == (len(mazes),)
    for dihedral in range(8):
        np.testing.assert_array_equal(canonical(apply_dihedral(mazes, dihedral)), keys)
    same = [
        [any(np.array_equal(apply_dihedral(maze, turn), other) for turn in range(8)) for other in others]
        for maze in mazes
    ]
    np.testing.assert_array_equal(keys[:, None] == canonical(others)[None], same)


# Of the smallest so many that some would repeat by chance.
@pytest.mark.parametrize(("count", "size", "min_path"), [(300, 5, 4), (40, 6, 8), (40, 9, 20), (40, 30, 110)])
def test_generated_mazes_differ_and_have_one_shortest_path_that_is_long(
    count: int, size: int, min_path: int
) -> None:
    mazes = generate_mazes(count, size, min_path, seed=3)
    assert mazes.questions.shape == mazes.answers.shape == (count, size, size)
    assert mazes.questions.dtype == mazes.answers.dtype == np.uint8
    for value, number in ((START, 1), (GOAL, 1), (PATH, 0)):
        assert ((mazes.questions == value).sum(axis=(1, 2)) == number).all()
    paths = search(mazes.questions != WALL, cells_of(mazes.questions, START))
    goals = cells_of(mazes.questions, GOAL)
    assert (at(paths.counts, goals) == 1).all()
    assert (at(paths.distances, goals) > min_path).all()
    assert is_shortest_path(mazes.questions, mazes.answers).all()
    assert len(set(canonical(mazes.questions).tolist())) == count


def test_generated_mazes_hold_loops_and_use_the_whole_board() -> None:
    passable = generate_mazes(40, 30, 60, seed=0).questions != WALL
    across, down = passable[..., 1:] & passable[..., :-1], passable[:, 1:] & passable[:, :-1]
    joins = across.sum(axis=(1, 2)) + down.sum(axis=(1, 2))
    assert (joins >= passable.sum(axis=(1, 2))).any(), "without loops there are fewer joins than cells"
    share = passable.mean(axis=0)
    assert share.min() > 0.2
    assert share.max() < 0.95


def test_the_same_mazes_from_all_files(tmp_path: Path) -> None:
    some = generate_mazes(6, 8, 10, seed=0)
    questions, answers = ([drawn(maze) for maze in part] for part in (some.questions, some.answers))
    columns = {"maze": ["".join(lines) for lines in questions], "path": ["".join(lines) for lines in answers]}
    parquet.write_table(pa.table({"rating": range(6), **columns}), tmp_path / "mazes.parquet")
    csv.write_csv(pa.table(columns), tmp_path / "mazes.csv")
    (tmp_path / "solved.txt").write_text("\n\n".join("\n".join(lines) for lines in answers))
    bare = "\n\n\n".join("\r\n".join(lines) for lines in questions)
    (tmp_path / "bare.txt").write_text(f"\n{bare}\n\n")
    for name in ("mazes.csv", "mazes.parquet", "solved.txt", "bare.txt"):
        mazes = read_mazes(BoardSettings(source=str(tmp_path / name), question="maze", answer="path"))
        np.testing.assert_array_equal(mazes.questions, some.questions)
        np.testing.assert_array_equal(mazes.answers, some.answers)
        assert mazes.questions.dtype == mazes.answers.dtype == np.uint8
        assert mazes.files == (tmp_path / name,)
