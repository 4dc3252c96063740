"""The eight dihedrals are the official ones; so is what the other tests expect of an augmentation."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays

from arcpipe.augmentation import DIHEDRAL_INVERSE, Augmentation, apply_dihedral
from arcpipe.grid import Grid
from augmented import augmented, restored, turned

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


def test_a_recorded_augmentation_recolors_and_turns_alike(fixtures_dir: Path) -> None:
    with np.load(fixtures_dir / "grid_encoding.npz") as recorded:
        _, dihedral, colors = str(recorded["aug_name"]).split("|||")
        augmentation = Augmentation(int(dihedral.removeprefix("t")), tuple(int(digit) for digit in colors))
        assert np.array_equal(augmented(recorded["aug_in"], augmentation), recorded["aug_out"])
        assert np.array_equal(restored(recorded["aug_out"], augmentation), recorded["aug_inverse_of_out"])
