from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcpipe.augmentation import (
    DIHEDRAL_COMPOSE,
    DIHEDRAL_INVERSE,
    IDENTITY,
    IDENTITY_COLORS,
    Augmentation,
    apply_dihedral,
)
from arcpipe.grid import Grid
from strategies import augmentations, grids


@pytest.mark.parametrize("dihedral", range(8))
def test_dihedrals_are_those_of_the_reference(fixtures_dir: Path, dihedral: int) -> None:
    with np.load(fixtures_dir / "dihedral.npz") as recorded:
        grid = recorded["grid"]
        assert np.array_equal(apply_dihedral(grid, dihedral), recorded[f"forward_{dihedral}"])
        inverse = DIHEDRAL_INVERSE[dihedral]
        assert np.array_equal(apply_dihedral(grid, inverse), recorded[f"inverse_{dihedral}"])


def test_a_recorded_augmentation_recolors_and_turns_alike(fixtures_dir: Path) -> None:
    with np.load(fixtures_dir / "grid_encoding.npz") as recorded:
        _, dihedral, colors = str(recorded["aug_name"]).split("|||")
        augmentation = Augmentation(int(dihedral.removeprefix("t")), tuple(int(digit) for digit in colors))
        assert np.array_equal(augmentation.apply(recorded["aug_in"]), recorded["aug_out"])
        undone = augmentation.inverse().apply(recorded["aug_out"])
        assert np.array_equal(undone, recorded["aug_inverse_of_out"])


@given(augmentations(), grids())
def test_the_inverse_undoes_an_augmentation(augmentation: Augmentation, grid: Grid) -> None:
    assert np.array_equal(augmentation.inverse().apply(augmentation.apply(grid)), grid)
    assert augmentation.then(augmentation.inverse()) == IDENTITY
    assert augmentation.inverse().then(augmentation) == IDENTITY


@given(augmentations(), augmentations(), grids())
def test_a_composition_acts_like_its_parts_in_order(
    first: Augmentation, second: Augmentation, grid: Grid
) -> None:
    assert np.array_equal(first.then(second).apply(grid), second.apply(first.apply(grid)))


@given(augmentations(), augmentations(), augmentations())
def test_composition_is_associative(a: Augmentation, b: Augmentation, c: Augmentation) -> None:
    assert a.then(b).then(c) == a.then(b.then(c))


def test_the_eight_dihedrals_differ() -> None:
    grid = np.array([[1, 2, 0], [0, 0, 0]], np.uint8)
    images = [apply_dihedral(grid, dihedral) for dihedral in range(8)]
    assert len({(image.shape, image.tobytes()) for image in images}) == 8


def test_every_dihedral_has_one_inverse_in_the_composition_table() -> None:
    for dihedral, inverse in enumerate(DIHEDRAL_INVERSE):
        assert DIHEDRAL_COMPOSE[inverse][dihedral] == 0
        assert sorted(DIHEDRAL_COMPOSE[dihedral]) == list(range(8))


@given(augmentations(), grids())
def test_an_augmented_grid_is_a_grid_of_its_own(augmentation: Augmentation, grid: Grid) -> None:
    before = grid.copy()
    augmented = augmentation.apply(grid)
    assert augmented.dtype == np.uint8
    assert augmented.flags["C_CONTIGUOUS"]
    augmented[:] = 0
    assert np.array_equal(grid, before)


@given(st.permutations(range(10)).map(tuple), grids())
def test_colors_map_a_value_to_its_place_in_the_tuple(colors: tuple[int, ...], grid: Grid) -> None:
    recolored = Augmentation(colors=colors).apply(grid)
    assert recolored.tolist() == [[colors[value] for value in row] for row in grid.tolist()]


def test_equal_augmentations_are_one_dictionary_key() -> None:
    assert {Augmentation(3): "a", Augmentation(3, IDENTITY_COLORS): "b"} == {Augmentation(3): "b"}


@pytest.mark.parametrize(("dihedral", "colors"), [(8, IDENTITY_COLORS), (0, (0,) * 10), (0, tuple(range(9)))])
def test_what_is_no_group_element_cannot_be_built(dihedral: int, colors: tuple[int, ...]) -> None:
    with pytest.raises(AssertionError):
        Augmentation(dihedral, colors)
