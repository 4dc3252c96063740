"""The batch solver against a plain recursive one that follows its definition word for word."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from arcpipe.augment.sudoku_generator import generate_sudokus
from arcpipe.augment.sudoku_solver import candidates, search, solve_boards
from arcpipe.sudoku_rules import BOXES
from sudokus import EASY, FEWEST_CLUES, HARD, board, full_board, text, units


class PlainSolver:
    """All solutions and the number of boards split, one board and one cell at a time."""

    def __init__(self, question: NDArray[np.uint8]) -> None:
        self.side = len(question)
        self.units = units(self.side)
        self.answers: list[NDArray[np.uint8]] = []
        self.rating = 0
        every = set(range(1, self.side + 1))
        self._search({place: {int(digit)} if digit else every for place, digit in np.ndenumerate(question)})

    def _search(self, cells: dict[tuple[int, ...], set[int]]) -> None:
        while (new := self._singles(cells)) != cells:
            cells = new
        if not all(cells.values()) or any(self._is_broken([cells[at] for at in unit]) for unit in self.units):
            return
        open_places = [place for place in sorted(cells) if len(cells[place]) > 1]
        if not open_places:
            answer = np.zeros((self.side, self.side), np.uint8)
            for place, digits in cells.items():
                (answer[place],) = digits
            self.answers.append(answer)
            return
        self.rating += 1
        place = min(open_places, key=lambda at: len(cells[at]))
        for digit in sorted(cells[place]):
            self._search({**cells, place: {digit}})

    def _singles(self, cells: dict[tuple[int, ...], set[int]]) -> dict[tuple[int, ...], set[int]]:
        cells = dict(cells)
        for unit in self.units:
            for place in unit:
                for other in unit:
                    if len(cells[place]) == 1 and other != place:
                        cells[other] = cells[other] - cells[place]
            for digit in range(1, self.side + 1):
                homes = [place for place in unit if digit in cells[place]]
                if len(homes) == 1:
                    cells[homes[0]] = {digit}
        return cells

    def _is_broken(self, unit: list[set[int]]) -> bool:
        return set().union(*unit) != set(range(1, self.side + 1))


@given(st.sampled_from([4, 6]), st.integers(0, 2**32), st.floats(0.3, 1.0))
def test_random_boards_have_the_solutions_and_ratings_of_the_plain_solver(
    side: int, seed: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    question = np.where(rng.random((side, side)) < share, full_board(side), np.uint8(0))
    if rng.random() < 0.5:
        question[tuple(rng.integers(0, side, 2))] = rng.integers(1, side + 1)
    if (question > 0).sum() < side:
        return
    plain, found = PlainSolver(question), solve_boards(question[None])
    expected = min(2, len(plain.answers))
    assert found.count[0] == expected
    assert found.rating[0] == (-1 if expected == 2 else plain.rating)
    answer = plain.answers[0] if expected == 1 else np.zeros_like(question)
    assert np.array_equal(found.answers[0], answer)


@pytest.mark.parametrize("side", [6, 9])
def test_generated_puzzles_have_the_ratings_of_the_plain_solver(side: int) -> None:
    boards = generate_sudokus(12, side, seed=5)
    found = solve_boards(boards.questions)
    plain = [PlainSolver(question) for question in boards.questions]
    assert found.rating.tolist() == [solver.rating for solver in plain]
    assert all(
        np.array_equal(solver.answers, answer[None])
        for solver, answer in zip(plain, found.answers, strict=True)
    )
    if side == 9:
        assert found.rating.max() > 0


@pytest.mark.parametrize("puzzle", [EASY, FEWEST_CLUES, HARD])
def test_published_puzzles_have_their_published_solutions(puzzle: tuple[str, str]) -> None:
    found = solve_boards(board(puzzle[0])[None])
    assert found.count.tolist() == [1]
    assert text(found.answers[0]) == puzzle[1]
    assert (found.rating[0] == 0) == (puzzle != HARD)


def test_what_has_no_single_solution() -> None:
    clash, stuck = board(EASY[0]), board(EASY[0])
    clash[0, 8] = 5
    stuck[0, 2] = 2
    found = solve_boards(np.stack([clash, stuck, np.zeros_like(clash)]))
    assert found.count.tolist() == [0, 0, 2]
    assert found.rating.tolist() == [0, 0, -1]
    assert not found.answers.any()


def test_each_puzzle_is_judged_by_itself() -> None:
    puzzles = np.stack([board(EASY[0]), board(HARD[0]), np.zeros((9, 9), np.uint8), board(FEWEST_CLUES[0])])
    many = np.random.default_rng(0).integers(0, 4, 600)
    alone, together = solve_boards(puzzles), solve_boards(puzzles[many])
    assert np.array_equal(together.count, alone.count[many])
    assert np.array_equal(together.answers, alone.answers[many])
    assert np.array_equal(together.rating, alone.rating[many])


def test_there_are_288_full_boards_of_side_4() -> None:
    first = np.zeros((4, 4, 4), np.uint8)
    first[:, 0, 0] = [1, 2, 3, 4]
    count, _, _ = search(candidates(first), limit=255)
    assert count.tolist() == [72, 72, 72, 72]


@pytest.mark.parametrize("side", BOXES)
def test_no_puzzles_have_no_solutions(side: int) -> None:
    found = solve_boards(np.zeros((0, side, side), np.uint8))
    assert found.count.shape == found.rating.shape == (0,)
    assert found.answers.shape == (0, side, side)
