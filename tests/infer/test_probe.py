"""When the answers of a network prove its rows."""

import pytest

from arcpipe.infer.probe import Proof


@pytest.mark.parametrize(
    ("right", "shifted", "gained", "lost", "parts", "holds"),
    [
        (64, 0, 64, 0, (16, 16, 16, 16), True),
        # Less known by heart, and puzzles that the next row answers too.
        (40, 20, 24, 4, (10, 10, 10, 10), True),
        # Wrong rows: no better than those beside them.
        (0, 0, 0, 0, (0, 0, 0, 0), False),
        (30, 28, 12, 10, (8, 8, 7, 7), False),
        # The next rows are right: one off.
        (10, 60, 0, 50, (4, 3, 2, 1), False),
        # A draw went wrong before the last quarter.
        (46, 3, 44, 1, (16, 15, 14, 1), False),
        # One row for all.
        (3, None, 0, 0, (1, 1, 1, 0), True),
    ],
)
def test_rows_are_proven_beyond_chance_in_every_quarter(
    right: int, shifted: int | None, gained: int, lost: int, parts: tuple[int, ...], holds: bool
) -> None:
    assert Proof(64, right, shifted, gained, lost, parts).holds == holds
