"""Generated Sudokus: random full boards, from which clues are taken while the solution is unique."""

from collections.abc import Iterator
from itertools import count as counting
from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray

from arcpipe.augment.sources import SolvedPuzzles
from arcpipe.augment.sudoku_solver import candidates, digits_of, propagate, search, solve_boards
from arcpipe.errors import DataError
from arcpipe.log import progress
from arcpipe.sudoku_rules import BOXES

_FULL_AT_ONCE = 1024
_FRUITLESS_DRAWS = 20
_KEYS_AT_ONCE = 4096
# Purposes of generators, beside the seed.
_GENERATE, _SPLIT = 1, 2
_SMALL = 4
"""The side whose puzzles are so few, up to shuffles, that train and test are kept apart by them."""


def generate_sudokus(count: int, side: int, seed: int, min_rating: int = 0) -> SolvedPuzzles:
    """Generate `count` puzzles of side 4, 6 or 9 with one solution, which have no clue to spare.

    All puzzles differ, and for sides 6 and 9 all solutions too. They are not equally likely. A larger
    count begins with the puzzles of a smaller one.

    Args:    min_rating: the least number of boards that `solve_boards` splits for each.
    Raises:  DataError if there is no such side, or so many, or such hard ones, do not come up.
    """
    if side not in BOXES:
        raise DataError(f"Sudoku boards of side {side}: the side should be {', '.join(map(str, BOXES))}")
    parts: list[SolvedPuzzles] = []
    seen: set[bytes] = set()
    found = fruitless = hardest = 0
    with progress(total=count, initial=0, unit="puzzle", desc="generate") as bar:
        for drawn in _draws(side, seed):
            assert drawn.ratings is not None
            hardest = max(hardest, int(drawn.ratings.max()))
            fitting = np.flatnonzero(drawn.ratings >= min_rating).tolist()
            chosen = [item for item in fitting if _is_new(drawn, item, seen)]
            parts.append(drawn.take(np.array(chosen[: count - found], np.intp)))
            found += len(parts[-1])
            bar.update(len(parts[-1]))
            if found == count:
                return _join(parts)
            fruitless = 0 if chosen else fruitless + 1
            if fruitless == _FRUITLESS_DRAWS:
                break
    raise DataError(
        f"{found} of {count} {side} x {side} puzzles with a rating of at least {min_rating} were found, then "
        f"{fruitless * _FULL_AT_ONCE} tries brought no other (highest rating seen: {hardest}): ask for fewer "
        "puzzles, a lower rating or a larger side"
    )


def generate_split(
    train_count: int, test_count: int, side: int, seed: int, min_rating: int = 0
) -> tuple[SolvedPuzzles, SolvedPuzzles]:
    """Generate training and test puzzles, as `generate_sudokus` does, that have nothing in common.

    For side 4 no puzzle of one set becomes one of the other by a shuffle, whatever its digits, rows,
    columns and transposition (their solutions coincide: there are 288). For sides 6 and 9 no two
    puzzles share a question or an answer; that two are shuffles of each other is not ruled out.

    Raises:  DataError if so many, or such hard ones, do not come up.
    """
    total = train_count + test_count
    if side != _SMALL:
        boards = generate_sudokus(total, side, seed, min_rating)
        test, train = np.split(np.arange(total), [test_count])
        return boards.take(train), boards.take(test)
    # Whole classes go to the test set, the last of which may be cut: more puzzles are drawn than asked for.
    # The most frequent of the 36 classes holds a tenth of them at most, which leaves enough to train.
    boards = generate_sudokus(total + total // 4 + 50, side, seed, min_rating)
    _, classes, sizes = np.unique(canonical(boards.questions), return_inverse=True, return_counts=True)
    order = np.random.default_rng([seed, _SPLIT]).permutation(len(sizes))
    num_test = int(np.searchsorted(np.cumsum(sizes[order]), test_count)) + 1 if test_count else 0
    in_test = np.isin(classes, order[:num_test])
    train, test = np.flatnonzero(~in_test)[:train_count], np.flatnonzero(in_test)[:test_count]
    return boards.take(train), boards.take(test)


def canonical(boards: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """Return a key (N,) of boards (N, 4, 4), the same for all that shuffles turn into each other alone."""
    cells = np.arange(16).reshape(4, 4)
    lines = [list(order) for order in _band_orders()]
    turned = [grid[rows][:, columns] for grid in (cells, cells.T) for rows in lines for columns in lines]
    weights = np.exp2(np.argsort(np.reshape(turned, (-1, 16)), axis=1)).T
    parts = np.array_split(boards, 1 + len(boards) // _KEYS_AT_ONCE)
    return np.concatenate([_least_key(part, weights) for part in parts])


def _least_key(boards: NDArray[np.uint8], weights: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Return the least number (N,) of each board; `weights` (16, K) are its cells' bits as turned K ways."""
    is_digit = boards.reshape(-1, 1, 16) == np.arange(1, 5)[:, None]
    # A digit's cells as 16 bits; sorted, they forget which digit it is.
    masks = np.sort((is_digit.astype(np.float64) @ weights).astype(np.uint64), axis=1)
    keys = masks << np.arange(0, 64, 16, dtype=np.uint64)[:, None]
    least: NDArray[np.uint64] = np.bitwise_or.reduce(keys, axis=1).min(axis=1)
    return least


def _draws(side: int, seed: int) -> Iterator[SolvedPuzzles]:
    """Draw lots of puzzles without end, each a function of side, seed and its number."""
    for lot in counting():
        rng = np.random.default_rng([seed, _GENERATE, side, lot])
        answers = _full_boards(side, rng)
        questions = _take_clues(answers, rng)
        solutions = solve_boards(questions)
        yield SolvedPuzzles(questions, answers, solutions.rating, (), len(answers))


def _full_boards(side: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw random full boards (N, S, S), N up to _FULL_AT_ONCE.

    An empty board gets a random candidate in a random open cell, again and again, with what singles
    follow from it; the boards that end in a contradiction are left out.
    """
    cells = candidates(np.zeros((_FULL_AT_ONCE, side, side), np.uint8))
    full = []
    while cells.shape[2]:
        done = propagate(cells)
        full.append(digits_of(done.cells[..., done.solved]))
        stuck = done.cells[..., done.stuck].reshape(side * side, -1)
        board = np.arange(stuck.shape[1])
        is_open = np.bitwise_count(stuck) > 1
        place = np.argmax(rng.random(stuck.shape) * is_open, axis=0)
        bits = np.uint16(1) << np.arange(side, dtype=np.uint16)[:, None]
        possible = (stuck[place, board] & bits) != 0
        stuck[place, board] = bits[np.argmax(rng.random(possible.shape) * possible, axis=0), 0]
        cells = np.concatenate([done.cells[..., done.unfinished], stuck.reshape(side, side, -1)], axis=2)
    return np.concatenate(full)


def _take_clues(answers: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Empty each cell of full boards (N, S, S), in a random order, if the solution stays the only one."""
    total, side, _ = answers.shape
    questions = answers.reshape(total, side * side).copy()
    board = np.arange(total)
    every = np.uint16((1 << side) - 1)
    order = rng.permuted(np.tile(np.arange(side * side), (total, 1)), axis=1)
    for place in order.T:
        clue = questions[board, place]
        questions[board, place] = 0
        cells = candidates(questions.reshape(-1, side, side))
        # There is a second solution if the cell can hold another digit.
        cells[place // side, place % side, board] = every & ~(np.uint16(1) << (clue - np.uint8(1)))
        others, _, _ = search(cells, limit=1)
        questions[board, place] = np.where(others == 0, 0, clue)
    return questions.reshape(-1, side, side)


def _is_new(puzzles: SolvedPuzzles, item: int, seen: set[bytes]) -> bool:
    """Return whether a puzzle's question (side 4) or answer has not been seen, and remember it."""
    key = (puzzles.questions if puzzles.side == _SMALL else puzzles.answers)[item].tobytes()
    known = key in seen
    seen.add(key)
    return not known


def _join(parts: list[SolvedPuzzles]) -> SolvedPuzzles:
    """Return the puzzles of several lots as one."""
    return SolvedPuzzles(
        np.concatenate([part.questions for part in parts]),
        np.concatenate([part.answers for part in parts]),
        np.concatenate([part.ratings for part in parts if part.ratings is not None]),
        (),
        sum(len(part) for part in parts),
    )


def _band_orders() -> list[tuple[int, ...]]:
    """Return the eight orders of four lines that keep the two of a band together."""
    return [
        (*first, *second)
        for bands in permutations(((0, 1), (2, 3)))
        for first, second in product(*map(permutations, bands))
    ]
