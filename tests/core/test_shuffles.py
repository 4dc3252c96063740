"""Shuffles of Sudoku boards keep the rules, undo themselves, and come about equally often."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcpipe.rng import random_bits
from arcpipe.sudoku_rules import BOXES, Shuffle, shuffles
from sudokus import full_board

SIDES = st.sampled_from(list(BOXES))
SEEDS = st.integers(0, 2**64 - 1)
NUMBERS = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=8)


def shuffles_of(side: int, seed: int, numbers: list[int]) -> Shuffle:
    variants = np.array(numbers, np.uint64)
    return shuffles(side, seed, np.arange(len(variants)), variants)


def test_random_bits_are_splitmix64() -> None:
    assert int(random_bits(0)[0]) == 0xE220A8397B1DCDAF


@given(SIDES, SEEDS, NUMBERS)
def test_the_inverse_undoes_a_shuffle(side: int, seed: int, numbers: list[int]) -> None:
    boards = np.random.default_rng(1).integers(0, side + 1, (len(numbers), side, side), np.uint8)
    shuffle = shuffles_of(side, seed, numbers)
    assert np.array_equal(shuffle.inverse().apply(shuffle.apply(boards)), boards)
    assert np.array_equal(shuffle.apply(shuffle.inverse().apply(boards)), boards)


def test_a_shuffle_depends_on_seed_board_and_variant_alone() -> None:
    boards, variants = np.array([5, 5, 6, 5]), np.array([8, 9, 8, 8])
    together = shuffles(9, 1, boards, variants).apply(np.repeat(full_board(9)[None], 4, axis=0))
    assert np.array_equal(together[0], together[3])
    for other in (1, 2):
        assert not np.array_equal(together[0], together[other])
    alone = shuffles(9, 1, boards[1:2], variants[1:2]).apply(full_board(9)[None])
    assert np.array_equal(alone[0], together[1])
    assert not np.array_equal(shuffles(9, 2, boards[1:2], variants[1:2]).apply(full_board(9)[None]), alone)


@pytest.mark.parametrize("side", BOXES)
def test_all_shuffles_are_about_equally_likely(side: int) -> None:
    count = 20_000
    shuffle = shuffles(side, 0, np.zeros(count, np.int64), np.arange(1, count + 1))
    for orders in (shuffle.rows, shuffle.columns, shuffle.digits[:, 1:] - 1):
        for place in range(side):
            share = np.bincount(orders[:, place], minlength=side) / count
            assert np.abs(share - 1 / side).max() < 0.015
    assert abs(shuffle.transpose.mean() - (0.5 if side != 6 else 0.0)) < 0.015
