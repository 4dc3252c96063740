"""Augmentations and tokens of grids: equal to recordings of the reference, and invertible."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from arcpipe.augmentation import DIHEDRAL_INVERSE, apply_dihedral
from arcpipe.codec import ARC, EOS, PAD, GridTable, crop_shapes, decode, dihedral_transform, encode_grids
from arcpipe.grid import Grid
from puzzles import Augmentation, augmentations, augmented, encode, grids, turned

STACKS = arrays(np.uint8, array_shapes(min_dims=2, max_dims=4, max_side=4))


@pytest.mark.parametrize("dihedral", range(8))
def test_dihedrals_are_those_of_the_reference(fixtures_dir: Path, dihedral: int) -> None:
    with np.load(fixtures_dir / "dihedral.npz") as recorded:
        grid, forward, inverse = (
            recorded[key] for key in ("grid", f"forward_{dihedral}", f"inverse_{dihedral}")
        )
    for apply in (apply_dihedral, turned):
        assert np.array_equal(apply(grid, dihedral), forward)
        assert np.array_equal(apply(grid, DIHEDRAL_INVERSE[dihedral]), inverse)


@given(STACKS)
def test_a_stack_of_grids_is_turned_grid_by_grid(stack: Grid) -> None:
    for dihedral in range(8):
        together = apply_dihedral(stack, dihedral)
        assert together.flags["C_CONTIGUOUS"]
        for index in np.ndindex(stack.shape[:-2]):
            assert np.array_equal(together[index], turned(stack[index], dihedral))


@pytest.mark.parametrize("pair", [0, 1, 2])
@pytest.mark.parametrize("side", ["in", "out"])
def test_tokens_are_those_of_the_reference(fixtures_dir: Path, pair: int, side: str) -> None:
    with np.load(fixtures_dir / "grid_encoding.npz") as recorded:
        tokens = encode(recorded[f"pair{pair}/{side}"], 30)
        assert tokens.dtype == np.uint8
        assert np.array_equal(tokens, recorded[f"pair{pair}/seq_{side}"])


def test_crops_are_those_of_the_reference(fixtures_dir: Path) -> None:
    with np.load(fixtures_dir / "crop.npz") as recorded:
        canvases, shapes, cropped = recorded["canvases"], recorded["shapes"], recorded["grids"]
    assert crop_shapes(canvases).tolist() == shapes.tolist()
    for grid, (height, width), expected in zip(decode(canvases), shapes, cropped, strict=True):
        assert (grid is None) == (height == 0)
        assert grid is None or np.array_equal(grid, expected[:height, :width])


@given(grids(8), st.integers(0, 4), st.integers(0, 4))
def test_a_placed_grid_has_its_border_and_nothing_else(grid: Grid, top: int, left: int) -> None:
    height, width = grid.shape
    canvas = encode(grid, 12, (top, left)).reshape(12, 12)
    assert np.array_equal(canvas[top : top + height, left : left + width], grid + ARC.first)
    border = np.zeros((12, 12), bool)
    border[top + height : top + height + 1, left : left + width] = True
    border[top : top + height, left + width : left + width + 1] = True
    assert np.array_equal(canvas == EOS, border)
    assert np.count_nonzero(canvas != PAD) == grid.size + np.count_nonzero(border)


@given(
    st.lists(
        st.tuples(grids(6), augmentations(), st.tuples(st.integers(0, 3), st.integers(0, 3))), min_size=1
    )
)
def test_augmenting_is_part_of_encoding(items: list[tuple[Grid, Augmentation, tuple[int, int]]]) -> None:
    table, every = GridTable.pack([grid for grid, _, _ in items], 6).with_eos(ARC), np.arange(len(items))
    transform = dihedral_transform(
        ARC, table, every, 9,
        dihedrals=np.array([augmentation.dihedral for _, augmentation, _ in items]),
        colors=np.array([augmentation.colors for _, augmentation, _ in items], np.uint8),
        offsets=np.array([offset for _, _, offset in items]),
    )  # fmt: skip
    tokens = encode_grids(table, every, transform)
    for row, (grid, augmentation, offset) in zip(tokens, items, strict=True):
        assert np.array_equal(row, encode(augmented(grid, augmentation), 9, offset))


@given(st.lists(st.integers(0, 15), min_size=36, max_size=36))
def test_whatever_is_decoded_is_a_grid_or_nothing(tokens: list[int]) -> None:
    canvas = np.array(tokens).reshape(6, 6)
    (grid,) = decode(np.array([tokens]))
    if grid is None:
        assert not ARC.first <= canvas[0, 0] < ARC.vocabulary
    else:
        assert np.array_equal(grid + ARC.first, canvas[: grid.shape[0], : grid.shape[1]])
        assert grid.max() <= 9
        # It is the largest rectangle of colors in the corner.
        is_color, sides = (canvas >= ARC.first) & (canvas < ARC.vocabulary), range(1, 7)
        assert grid.size == max(h * w for h in sides for w in sides if is_color[:h, :w].all())
