"""Generated Sudokus: one solution each, nothing to spare, no puzzle twice, train and test apart."""

import numpy as np
import pytest
from numpy.typing import NDArray

from arcpipe.augment.sudoku_generator import canonical, generate_split, generate_sudokus
from arcpipe.augment.sudoku_solver import candidates, search, solve_boards
from arcpipe.errors import DataError
from arcpipe.puzzleset import is_valid
from arcpipe.shuffles import shuffles
from arcpipe.sudoku_rules import BOXES


def distinct(boards: NDArray[np.uint8]) -> int:
    return len(np.unique(boards.reshape(len(boards), -1), axis=0))


@pytest.mark.parametrize("side", BOXES)
def test_each_puzzle_has_one_solution_and_no_clue_to_spare(side: int) -> None:
    boards = generate_sudokus(40, side, seed=2)
    found = solve_boards(boards.questions)
    assert (found.count == 1).all()
    assert np.array_equal(found.answers, boards.answers)
    assert np.array_equal(found.rating, boards.ratings)
    assert is_valid("sudoku", boards.questions, boards.answers).all()
    assert distinct(boards.questions) == 40
    for question in boards.questions[:10]:
        clues = np.argwhere(question)
        without = np.repeat(question[None], len(clues), axis=0)
        without[np.arange(len(clues)), clues[:, 0], clues[:, 1]] = 0
        assert (solve_boards(without).count == 2).all()


def test_puzzles_depend_on_the_seed_and_more_begin_with_fewer() -> None:
    many, few, other = (generate_sudokus(count, 4, seed) for count, seed in ((1500, 0), (70, 0), (70, 1)))
    assert np.array_equal(many.questions[:70], few.questions)
    assert not np.array_equal(few.questions, other.questions)
    assert distinct(many.questions) == len(many) == 1500


def test_a_least_rating_is_kept() -> None:
    boards = generate_sudokus(20, 6, seed=0, min_rating=1)
    assert boards.ratings is not None
    assert boards.ratings.min() >= 1
    assert np.array_equal(solve_boards(boards.questions).rating, boards.ratings)


def test_what_cannot_be_generated_says_so() -> None:
    with pytest.raises(
        DataError, match=r"0 of 3 4 x 4 puzzles with a rating of at least 1.* seen: 0\): ask for"
    ):
        generate_sudokus(3, 4, seed=0, min_rating=1)
    with pytest.raises(DataError, match="side 5: the side should be 4, 6, 9"):
        generate_sudokus(3, 5, seed=0)


def test_the_canonical_key_forgets_shuffles_alone() -> None:
    boards = generate_sudokus(300, 4, seed=0).questions
    numbers = np.arange(len(boards))
    keys = canonical(boards)
    assert np.array_equal(canonical(shuffles(4, 9, numbers, numbers + 1).apply(boards)), keys)
    # Up to shuffles there are 36 puzzles without a clue to spare, and 2 full boards.
    assert len(np.unique(canonical(generate_sudokus(8000, 4, seed=0).questions))) == 36
    _, full, _ = search(candidates(np.zeros((1, 4, 4), np.uint8)), limit=1)
    assert canonical(full) in canonical(generate_sudokus(300, 4, seed=0).answers)
    assert len(np.unique(canonical(generate_sudokus(300, 4, seed=0).answers))) == 2


@pytest.mark.parametrize(
    ("side", "train_count", "test_count"),
    [(4, 300, 40), (4, 10, 10), (4, 1, 2000), (4, 50, 0), (6, 300, 40), (9, 5, 5)],
)
def test_train_and_test_have_nothing_in_common(side: int, train_count: int, test_count: int) -> None:
    train, test = generate_split(train_count, test_count, side, seed=0)
    assert (len(train), len(test)) == (train_count, test_count)
    assert distinct(np.concatenate([train.questions, test.questions])) == train_count + test_count
    if side == 4:
        assert not np.isin(canonical(train.questions), canonical(test.questions)).any()
    else:
        assert distinct(np.concatenate([train.answers, test.answers])) == train_count + test_count
