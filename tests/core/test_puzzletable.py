"""The table of puzzles: what a puzzle is known by, finding it elsewhere, and its columns."""

from hypothesis import given
from hypothesis import strategies as st

from arcpipe.augmentation import IDENTITY, Augmentation, PuzzleTable
from strategies import augmentations

NAMES = st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=4, unique=True)


@st.composite
def tables(draw: st.DrawFn) -> PuzzleTable:
    """Tables of a few tasks under distinct augmentations, whatever their names."""
    names = draw(NAMES)
    groups = [draw(st.lists(augmentations(), min_size=1, max_size=4, unique=True)) for _ in names]
    return PuzzleTable.of_groups(names, groups)


def puzzles(table: PuzzleTable) -> list[tuple[str, Augmentation]]:
    return [(table.task_ids[task], table.augmentation(row)) for row, task in enumerate(table.tasks)]


def part(table: PuzzleTable, rows: list[int]) -> PuzzleTable:
    """The puzzles of these rows, in this order."""
    return PuzzleTable(table.task_ids, table.tasks[rows], table.dihedrals[rows], table.colors[rows])


@given(tables(), tables())
def test_fingerprints_are_of_task_and_augmentation_alone(one: PuzzleTable, other: PuzzleTable) -> None:
    known = dict(zip(puzzles(one), one.fingerprints().tolist(), strict=True))
    assert len(set(known.values())) == len(known)
    for puzzle, fingerprint in zip(puzzles(other), other.fingerprints().tolist(), strict=True):
        assert (puzzle in known) == (fingerprint in known.values())
        assert known.get(puzzle, fingerprint) == fingerprint


def test_fingerprints_stay_as_they_are() -> None:
    """Checkpoints and datasets of different versions meet by them."""
    table = PuzzleTable.of_groups(["007bbfb7"], [[IDENTITY, Augmentation(3, (0, 2, 1, *range(3, 10)))]])
    assert [f"{fingerprint:016x}" for fingerprint in table.fingerprints().tolist()] == [
        "747c7689b89b9f73",
        "07e29f4fe54a3cb9",
    ]


@given(tables(), st.data())
def test_puzzles_are_found_in_any_order_and_others_are_not(table: PuzzleTable, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(table))))
    kept = order[: data.draw(st.integers(0, len(order)))]
    places = {row: place for place, row in enumerate(kept)}
    found = part(table, list(kept)).find(table)
    assert found.tolist() == [places.get(row, -1) for row in range(len(table))]
