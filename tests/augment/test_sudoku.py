"""Sudoku sources: what each form reads, what it says of a broken one, subsamples, and the rules."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from arcpipe.augment.sudoku import read_sudokus, select
from arcpipe.augment.sudoku_generator import generate_sudokus
from arcpipe.errors import DataError
from arcpipe.puzzleset import is_valid
from arcpipe.shuffles import shuffles
from arcpipe.sudoku_rules import BOXES, repeats
from sudokus import EASY, FEWEST_CLUES, HARD, board, follows_the_rules, full_board, text

PUZZLES = [EASY, FEWEST_CLUES, HARD]
Rows = list[list[str]]


def rows_of(puzzles: list[tuple[str, str]] = PUZZLES) -> Rows:
    return [["book, page 1", *puzzle, str(7 * number)] for number, puzzle in enumerate(puzzles)]


def write_csv(path: Path, rows: Rows, header: str = "source,question,answer,rating") -> str:
    lines = [header, *(",".join(f'"{cell}"' if "," in cell else cell for cell in row) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def refusal(spec: str) -> str:
    with pytest.raises(DataError) as caught:
        read_sudokus(spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_same_puzzles_from_all_forms(tmp_path: Path) -> None:
    columns = dict(zip(("source", "question", "answer", "rating"), zip(*rows_of(), strict=True), strict=True))
    parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
    zeros = [[question.replace(".", "0"), answer] for question, answer in PUZZLES]
    (tmp_path / "a.txt").write_text("\n" + "\n\n".join(question for question, _ in PUZZLES))
    for spec, ratings in {
        write_csv(tmp_path / "a.csv", rows_of()): [0, 7, 14],
        str(tmp_path / "a.parquet"): [0, 7, 14],
        write_csv(tmp_path / "zeros.csv", zeros, "question,answer"): None,
        str(tmp_path / "a.txt"): None,
    }.items():
        boards = read_sudokus(spec)
        assert [(text(q), text(a)) for q, a in zip(boards.questions, boards.answers, strict=True)] == PUZZLES
        assert (None if boards.ratings is None else boards.ratings.tolist()) == ratings
        assert (boards.files, boards.verified, boards.side, len(boards)) == ((Path(spec),), 3, 9, 3)


@pytest.mark.parametrize("side", BOXES)
def test_boards_of_every_side(tmp_path: Path, side: int) -> None:
    made = generate_sudokus(20, side, seed=1)
    lines = [[text(q), text(a)] for q, a in zip(made.questions, made.answers, strict=True)]
    spec = write_csv(tmp_path / "a.csv", lines, "puzzle,solution")
    read = read_sudokus(spec, question="puzzle", answer="solution")
    assert np.array_equal(read.questions, made.questions)
    assert np.array_equal(read.answers, made.answers)


def put(row: int, column: int, change: Callable[[str], str]) -> Callable[[Rows], None]:
    """An edit of a table: one field is changed."""

    def edit(rows: Rows) -> None:
        rows[row][column] = change(rows[row][column])

    return edit


QUESTION, ANSWER, RATING = 1, 2, 3
BROKEN = {
    "short": (put(1, QUESTION, lambda cells: cells[1:]), "row 2: question has 80 characters"),
    "all short": (
        put(0, QUESTION, lambda cells: cells[1:]),
        "row 1: question has 80 characters, a board has",
    ),
    "short answer": (put(2, ANSWER, lambda cells: cells[1:]), "row 3: answer has 80 characters"),
    "letter": (
        put(2, QUESTION, lambda cells: "x" + cells[1:]),
        "row 3: question holds 'x', allowed are 1 to 9",
    ),
    "no ascii": (put(2, QUESTION, lambda cells: "\u00e9" + cells[1:]), "row 3: question holds"),
    "open answer": (
        put(1, ANSWER, lambda cells: "." + cells[1:]),
        "row 2: answer holds '.', allowed are 1 to 9",
    ),
    "clash": (
        put(0, QUESTION, lambda cells: cells[:2] + "5" + cells[3:]),
        "row 1: question holds a digit twice",
    ),
    "bad answer": (put(1, ANSWER, lambda cells: cells[:-1] + "5"), "row 2: answer holds a digit twice"),
    "other answer": (put(1, ANSWER, lambda _: EASY[1]), "row 2: answer changes a digit that question gives"),
    "two solutions": (
        put(2, QUESTION, lambda cells: "." * 70 + cells[70:]),
        "row 3: question has more than one",
    ),
    "rating": (put(1, RATING, lambda _: "hard"), "column 'rating' should hold a whole number in each row"),
    "no rating": (put(1, RATING, lambda _: ""), "column 'rating' should hold a whole number in each row"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_rows_are_named(tmp_path: Path, case: str) -> None:
    edit, expected = BROKEN[case]
    rows = rows_of()
    edit(rows)
    spec = write_csv(tmp_path / "a.csv", rows)
    message = refusal(spec)
    assert message.startswith(f"{spec}: ")
    assert expected in message


def test_the_first_of_many_broken_rows_is_named(tmp_path: Path) -> None:
    rows = rows_of([EASY, HARD, HARD, HARD])
    for row in rows[1:]:
        row[QUESTION] = "99" + row[QUESTION][2:]
    message = refusal(write_csv(tmp_path / "a.csv", rows))
    assert "row 2: question holds a digit twice" in message
    assert "(and 2 more" in message


def test_only_so_many_puzzles_are_solved(tmp_path: Path) -> None:
    rows = rows_of()
    rows[2][QUESTION] = "." * 81
    spec = write_csv(tmp_path / "a.csv", rows)
    assert "row 3" in refusal(spec)
    assert read_sudokus(spec, verify=2).verified == 2
    assert read_sudokus(spec, verify=0).verified == 0


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "no puzzles"),
        ("\n \n", "no puzzles"),
        ("123", "line 1 has 3 characters, a board has one for each cell: 16 for 4 x 4"),
        (f"\n{EASY[0]}\n{EASY[0][1:]}", "line 3 has 80 characters, 81 in line 2"),
        (f"{EASY[0]}\n{'x' + EASY[0][1:]}", "line 2 holds 'x', allowed are 1 to 9 and . or 0"),
        ("5" + "." * 15, "line 1 holds '5', allowed are 1 to 4"),
        (f"{EASY[0]}\n\n55{EASY[0][2:]}", "line 3: a digit stands twice"),
        (f"{EASY[0]}\n{EASY[0].replace('..7', '.27', 1)}", "line 2: the puzzle has no solution"),
        (f"{EASY[0]}\n{'.' * 81}", "line 2: the puzzle has more than one solution"),
    ],
)
def test_broken_text_files_are_named(tmp_path: Path, content: str, expected: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text(content)
    message = refusal(str(path))
    assert message.startswith(f"{path}: ")
    assert expected in message


def test_a_subsample_is_drawn_by_its_seed_in_the_order_of_the_file(tmp_path: Path) -> None:
    boards = generate_sudokus(200, 4, seed=0)
    spec = tmp_path / "boards.txt"
    spec.write_text("\n".join("".join(map(str, board.ravel())) for board in boards.questions))
    some = read_sudokus(str(spec), subsample=50, seed=[3])
    places = [int(np.flatnonzero((boards.questions == one).all(axis=(1, 2)))[0]) for one in some.questions]
    assert places == sorted(set(places))
    assert len(some) == some.verified == 50
    assert np.array_equal(some.answers, boards.answers[places])
    assert np.array_equal(read_sudokus(str(spec), subsample=50, seed=[3]).questions, some.questions)
    assert not np.array_equal(read_sudokus(str(spec), subsample=50, seed=[4]).questions, some.questions)
    assert np.array_equal(read_sudokus(str(spec), subsample=200).questions, boards.questions)
    with pytest.raises(DataError, match="subsample of 201 was asked for, but there are 200"):
        read_sudokus(str(spec), subsample=201)


def test_selected_puzzles_are_verified_up_to_the_first_that_was_not() -> None:
    boards = select(generate_sudokus(10, 4, seed=0), np.arange(10))
    partly = select(boards, np.array([3, 1]))
    assert partly.verified == 2
    assert select(partly, np.array([1, 0, 1])).verified == 3


@given(st.sampled_from(list(BOXES)), st.integers(0, 2**32), st.integers(0, 255), st.booleans())
def test_an_answer_is_valid_if_it_follows_the_rules_and_keeps_the_givens(
    side: int, seed: int, value: int, damaged: bool
) -> None:
    rng = np.random.default_rng(seed)
    shuffle = shuffles(side, seed, np.array([0]), np.array([1]))
    answer = shuffle.apply(full_board(side)[None])[0]
    question = np.where(rng.random(answer.shape) < 0.4, answer, np.uint8(0))
    other = shuffles(side, seed, np.array([0]), np.array([2])).apply(full_board(side)[None])[0]
    if damaged:
        answer[tuple(rng.integers(0, side, 2))] = value
    for candidate in (answer, other):
        keeps = bool(((question == 0) | (question == candidate)).all())
        expected = keeps and follows_the_rules(candidate)
        assert is_valid("sudoku", question[None], candidate[None]).tolist() == [expected]


def test_repeats_are_found_in_rows_columns_and_boxes() -> None:
    boards = np.zeros((5, 6, 6), np.uint8)
    boards[:, 0, 0] = 3
    boards[0, 0, 5] = boards[1, 5, 0] = boards[2, 1, 2] = boards[3, 2, 1] = boards[4, 1, 3] = 3
    assert repeats(boards).tolist() == [True, True, True, False, False]
    assert not repeats(np.stack([board(EASY[0]), board(HARD[1])])).any()
