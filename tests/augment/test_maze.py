"""Mazes: shortest paths against a plain search, sources and what they say of broken ones, the generator."""

from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from arcpipe.augment.maze import Mazes, read_mazes
from arcpipe.augment.maze_generator import generate_mazes
from arcpipe.augmentation import apply_dihedral
from arcpipe.errors import DataError
from arcpipe.maze_rules import (
    CHARACTERS,
    FREE,
    GOAL,
    PATH,
    START,
    WALL,
    at,
    canonical,
    cells_of,
    distances,
    is_shortest_path,
    mark_shortest_paths,
    overlap,
    search,
)

Boards = NDArray[np.uint8]


def board(*lines: str) -> Boards:
    """One maze (1, S, S) as it is drawn."""
    return np.array([[[CHARACTERS.index(character) for character in line] for line in lines]], np.uint8)


def drawn(maze: Boards) -> list[str]:
    return ["".join(CHARACTERS[value] for value in row) for row in maze]


def text(mazes: Boards) -> list[str]:
    return ["".join(drawn(maze)) for maze in mazes]


def turned(mazes: Boards, dihedral: int) -> Boards:
    return np.stack([apply_dihedral(maze, dihedral) for maze in mazes])


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
        valid = is_shortest_path(turned(mazes, dihedral), turned(answers, dihedral))
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


def test_start_beside_goal_needs_no_path() -> None:
    question = board("SG", "  ")
    np.testing.assert_array_equal(mark_shortest_paths(question), question)
    assert is_shortest_path(question, question).all()


@given(batches(), batches())
def test_keys_are_equal_for_turned_mazes_only(mazes: Boards, others: Boards) -> None:
    keys = canonical(mazes)
    assert keys.shape == (len(mazes),)
    for dihedral in range(8):
        np.testing.assert_array_equal(canonical(turned(mazes, dihedral)), keys)
    same = [
        [any(np.array_equal(apply_dihedral(maze, turn), other) for turn in range(8)) for other in others]
        for maze in mazes
    ]
    np.testing.assert_array_equal(keys[:, None] == canonical(others)[None], same)
    np.testing.assert_array_equal(overlap(mazes, others), np.any(same, axis=1))


def test_no_mazes_are_searched_without_harm() -> None:
    none = np.zeros((0, 5, 5), np.uint8)
    assert mark_shortest_paths(none).shape == (0, 5, 5)
    assert is_shortest_path(none, none).shape == canonical(none).shape == (0,)


@pytest.mark.parametrize(("size", "min_path"), [(5, 6), (6, 8), (9, 20), (30, 110)])
def test_generated_mazes_have_one_shortest_path_that_is_long(size: int, min_path: int) -> None:
    mazes = generate_mazes(40, size, min_path, seed=3)
    assert mazes.questions.shape == mazes.answers.shape == (40, size, size)
    assert mazes.questions.dtype == mazes.answers.dtype == np.uint8
    for value in (START, GOAL):
        assert ((mazes.questions == value).sum(axis=(1, 2)) == 1).all()
    found = search(mazes.questions != WALL, cells_of(mazes.questions, START))
    goals = cells_of(mazes.questions, GOAL)
    assert (at(found.counts, goals) == 1).all()
    assert (at(found.distances, goals) > min_path).all()
    assert is_shortest_path(mazes.questions, mazes.answers).all()
    assert not (mazes.questions == PATH).any()
    assert len(set(canonical(mazes.questions).tolist())) == 40


def test_generated_mazes_hold_loops_and_use_the_whole_board() -> None:
    passable = generate_mazes(40, 30, 60, seed=0).questions != WALL
    across, down = passable[..., 1:] & passable[..., :-1], passable[:, 1:] & passable[:, :-1]
    joins = across.sum(axis=(1, 2)) + down.sum(axis=(1, 2))
    assert (joins >= passable.sum(axis=(1, 2))).any(), "without loops there are fewer joins than cells"
    share = passable.mean(axis=0)
    assert share.min() > 0.2
    assert share.max() < 0.95


def test_generated_mazes_depend_on_the_seed_and_grow_with_the_count() -> None:
    first, again, longer, other = (
        generate_mazes(count, 12, 20, seed).questions for count, seed in ((30, 1), (30, 1), (300, 1), (30, 2))
    )
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, longer[:30])
    assert not overlap(first, longer[30:]).any()
    assert not overlap(first, other).any()


@pytest.mark.parametrize(
    ("count", "size", "min_path", "expected"),
    [
        (2, 6, 30, r"^0 of 2 mazes of 6 x 6 .* more than 30 moves in 4096 tries, the longest seen has \d\d:"),
        (2, 4, 1, "mazes of 4 x 4: the side should be 5 to 64"),
        (2, 65, 1, "mazes of 65 x 65: the side should be 5 to 64"),
    ],
)
def test_mazes_that_cannot_be_generated(count: int, size: int, min_path: int, expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        generate_mazes(count, size, min_path, seed=0)


@pytest.fixture(scope="module")
def some() -> Mazes:
    return generate_mazes(6, 8, 10, seed=0)


def write_csv(path: Path, questions: list[str], answers: list[str], header: str = "question,answer") -> str:
    rows = [f"{question},{answer}" for question, answer in zip(questions, answers, strict=True)]
    path.write_text("\n".join([header, *rows, ""]), encoding="utf-8")
    return str(path)


def test_the_same_mazes_from_all_files(tmp_path: Path, some: Mazes) -> None:
    questions, answers = text(some.questions), text(some.answers)
    table, solved, bare = tmp_path / "mazes.parquet", tmp_path / "solved.txt", tmp_path / "bare.txt"
    pq.write_table(pa.table({"rating": range(6), "maze": questions, "path": answers}), table)
    solved.write_text("\n\n".join("\n".join(drawn(maze)) for maze in some.answers))
    bare.write_text("\n" + "\n\n\n".join("\r\n".join(drawn(maze)) for maze in some.questions) + "\n\n")
    for mazes in (
        read_mazes(write_csv(tmp_path / "mazes.csv", questions, answers)),
        read_mazes(str(table), question="maze", answer="path"),
        read_mazes(str(solved)),
        read_mazes(str(bare)),
    ):
        np.testing.assert_array_equal(mazes.questions, some.questions)
        np.testing.assert_array_equal(mazes.answers, some.answers)
        assert mazes.questions.dtype == mazes.answers.dtype == np.uint8
        assert [path.parent for path in mazes.files] == [tmp_path]


BROKEN = {
    "no square": (("S G     ", "S G     "), "row 1: question has 8 characters, not those of a square"),
    "too large": (("S" * 65**2, "S" * 65**2), "row 1: question has 4225 characters, not those of a square"),
    "character": (("S x  G   ", "SoooG    "), "row 1: question holds 'x' in line 1, column 3 of the maze"),
    "answer's character": (("S G      ", "SoG     ."), "row 1: answer holds '.' in line 3, column 3"),
    "path in the question": (("SoG      ", "SoG      "), "row 1: question marks a path with 'o'"),
    "no start": (("  G      ", "ooG      "), "row 1: no start 'S'"),
    "two starts": (("S GS     ", "SoGS     "), "row 1: more than one start 'S'"),
    "no goal": (("S        ", "So       "), "row 1: no goal 'G'"),
    "two goals": (("S G  G   ", "SoG  G   "), "row 1: more than one goal 'G'"),
    "no way": (("S#G # #  ", "S#G # #  "), "row 1: no way from the start to the goal"),
    "other walls": (("S G #    ", "SoG      "), "row 1: the answer differs from the question in more than"),
    "other goal": (("S G      ", "SoooG    "), "row 1: the answer differs from the question in more than"),
    "broken path": (("S#G      ", "S#Go o o "), "row 1: the answer's path is broken"),
    "no path": (("S G      ", "S G      "), "row 1: the answer's path is broken"),
    "detour": (("S G      ", "S Gooo   "), "row 1: the answer marks another path than a shortest one"),
    "more than the path": (
        ("S G      ", "SoG  o   "),
        "row 1: the answer marks another path than a shortest",
    ),
    "short answer": (("S G      ", "SoG"), "row 1: answer has 3 characters, expected 9"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_rows_are_named(tmp_path: Path, case: str) -> None:
    (question, answer), expected = BROKEN[case]
    path = write_csv(tmp_path / "mazes.csv", [question], [answer])
    with pytest.raises(DataError) as caught:
        read_mazes(path)
    assert str(caught.value).startswith(f"{path}: {expected}")
    assert "\n" not in str(caught.value)


def test_the_first_of_several_broken_rows_is_named_and_the_rest_counted(tmp_path: Path) -> None:
    questions = ["S G      ", "SoG      ", "S G      ", "         "]
    answers = ["SoG      "] * 4
    path = write_csv(tmp_path / "mazes.csv", questions, answers)
    with pytest.raises(DataError, match=r"row 2: question marks a path with 'o'$"):
        read_mazes(path)
    path = write_csv(tmp_path / "mazes.csv", questions[::2] + questions[3:], answers[:3])
    with pytest.raises(DataError, match=r"row 3: no start 'S'$"):
        read_mazes(path)
    path = write_csv(tmp_path / "mazes.csv", ["S        "] * 3, ["S        "] * 3)
    with pytest.raises(DataError, match=r"row 1: no goal 'G' \(and 2 more like it\)$"):
        read_mazes(path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "no mazes"),
        ("\n\n\n", "no mazes"),
        ("S", "maze 1: 1 lines, a maze has 2 to 64"),
        ("SG\n  \n\nSG\n  \n  \n", "maze 2: 3 lines where maze 1 has 2"),
        ("SG\n  \n\nSG\n \n", "maze 2: line 2 has 1 characters, for a square it should have 2"),
        ("SG\n  \n\nSG\n x\n", "maze 2: it holds 'x' in line 2, column 2 of the maze"),
        ("SG\n  \n\nSG\n \u00b7\n", "maze 2: line 2 is ' \\xb7'"),
        ("SG\n  \n\nS#\n#G\n", "maze 2: no way from the start to the goal"),
        ("S \nG \n\nSo\nGo\n", "maze 2: the answer marks another path than a shortest one"),
    ],
)
def test_broken_text_files_are_named(tmp_path: Path, content: str, expected: str) -> None:
    path = tmp_path / "mazes.txt"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_mazes(str(path))
    assert str(caught.value).startswith(f"{path}: {expected}")
    assert "\n" not in str(caught.value)
