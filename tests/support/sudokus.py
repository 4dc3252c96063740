"""Sudoku boards for tests, and their rules written out plainly."""

import numpy as np
from numpy.typing import NDArray

from arcpipe.sudoku_rules import BOXES

# Published puzzles with their solutions: one that singles solve, one of 17 clues, one of the hardest.
EASY = (
    "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79",
    "534678912672195348198342567859761423426853791713924856961537284287419635345286179",
)
FEWEST_CLUES = (
    "................12....34.........3......5.4.6.127........1....849....6..6........",
    "269518734834697512175234869546982371987351426312746985753169248491823657628475193",
)
HARD = (
    "98.7..6....5.9..7......5..48...53...2...1.5....19...3.6.......2..7..9.1.......4..",
    "982734651465192378713865924876253149239416587541978236654381792327649815198527463",
)


def board(text: str) -> NDArray[np.uint8]:
    """The board (S, S) of a text of S * S digits, `.` for an empty cell."""
    side = round(len(text) ** 0.5)
    return np.array([0 if cell == "." else int(cell) for cell in text], np.uint8).reshape(side, side)


def text(cells: NDArray[np.uint8]) -> str:
    """The text of a board (S, S)."""
    return "".join("." if cell == 0 else str(cell) for cell in cells.ravel())


def full_board(side: int) -> NDArray[np.uint8]:
    """A full board (S, S): the digits in order, each row shifted against the one above."""
    height, width = BOXES[side]
    row, column = np.indices((side, side))
    return ((width * (row % height) + row // height + column) % side + 1).astype(np.uint8)


def units(side: int) -> list[list[tuple[int, int]]]:
    """The cells of each row, column and box."""
    height, width = BOXES[side]
    everything = [(row, column) for row in range(side) for column in range(side)]
    homes = ("row", 0), ("column", 1), ("box", 2)
    groups: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for row, column in everything:
        box = row // height * (side // width) + column // width
        for name, at in homes:
            groups.setdefault((name, (row, column, box)[at]), []).append((row, column))
    return list(groups.values())


def follows_the_rules(cells: NDArray[np.uint8]) -> bool:
    """Whether each row, column and box of a full board holds each digit once."""
    digits = set(range(1, len(cells) + 1))
    return all({int(cells[place]) for place in unit} == digits for unit in units(len(cells)))
