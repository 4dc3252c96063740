"""Round trips of the dataset folder; fingerprints of a dataset and of its puzzles."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arcpipe.augment.alike import Augmentations
from arcpipe.augment.build import puzzle_set_of, write_puzzle_set
from arcpipe.augmentation import PuzzleTable
from arcpipe.errors import DataError
from arcpipe.puzzleset import read_puzzle_set
from arcpipe.runs import make_manifest
from arcpipe.task import Pair, Task
from files import json_of
from puzzles import (
    IDENTITY,
    Augmentation,
    augmentation_of,
    augmentations,
    build,
    demonstrations,
    made_up_tasks,
    solved_tasks,
    solved_tests,
    table_of,
    training_pairs,
    unpacked,
    write_source,
)


def as_arrays(augmentations: list[Augmentation]) -> Augmentations:
    return (
        np.array([augmentation.dihedral for augmentation in augmentations], np.uint8),
        np.array([augmentation.colors for augmentation in augmentations], np.uint8),
    )


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    return made_up_tasks(6)


@pytest.fixture(scope="module")
def data(tasks: list[Task], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("puzzles")
    return build(folder / "data", write_source(folder, "few", tasks), num_aug=4)


@settings(max_examples=15)
@given(
    st.lists(solved_tasks(), min_size=1, max_size=3, unique_by=lambda task: task.id),
    st.lists(st.builds(Augmentation, st.integers(0, 7)), max_size=3),
)
def test_any_tasks_are_read_as_written(
    tmp_path_factory: pytest.TempPathFactory, tasks: list[Task], more: list[Augmentation]
) -> None:
    folder = tmp_path_factory.mktemp("any") / "data"
    groups, asked = [as_arrays([IDENTITY, *more])] * len(tasks), tasks[::-1][:2]
    write_puzzle_set(folder, puzzle_set_of(tasks, asked, groups, 4), make_manifest("dataset"))
    puzzles = read_puzzle_set(folder)
    # With known outputs the test pairs train too, after the demonstrations of their task.
    everything = [pair for task in tasks for pair in (*demonstrations([task]), *solved_tests([task]))]
    assert training_pairs(puzzles) == everything
    names = [puzzles.table.task_ids[number] for number in puzzles.test_tasks]
    assert list(zip(names, unpacked(puzzles.test_inputs), strict=True)) == [
        (name, given) for name, given, _ in solved_tests(asked)
    ]
    assert puzzles.test_indices.tolist() == [index for task in asked for index in range(len(task.tests))]
    assert puzzles.num_puzzles == len(tasks) * (1 + len(more))


def test_the_fingerprint_knows_all_that_training_sees(tmp_path: Path, tasks: list[Task]) -> None:
    source = write_source(tmp_path, "few", tasks)
    fewer = write_source(tmp_path, "fewer", tasks[1:])
    first = tasks[0].demonstrations[0]
    assert first.output is not None
    changed_pair = Pair(first.input, 9 - first.output)
    changed = [replace(tasks[0], demonstrations=(changed_pair, *tasks[0].demonstrations[1:])), *tasks[1:]]
    variants = [
        build(tmp_path / "one", source),
        build(tmp_path / "seed", source, seed=1),
        build(tmp_path / "aug", source, num_aug=2),
        build(tmp_path / "canvas", source, canvas=7),
        build(tmp_path / "fewer", fewer),
        build(tmp_path / "changed", write_source(tmp_path, "changed", changed)),
    ]
    first, *others = (json_of(of / "manifest.json")["fingerprint"] for of in variants)
    assert len({first, *others}) == len(variants)
    assert json_of(build(tmp_path / "again", source) / "manifest.json")["fingerprint"] == first


PARTS = ("examples/train/data-*.arrow", "puzzles/data-*.arrow", "examples/test/state.json")
DAMAGE = (Path.unlink, lambda path: path.write_bytes(b"ARROW1"), lambda path: path.write_text("no table"))


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("part", PARTS)
def test_damage_is_named(data: Path, tmp_path: Path, part: str, damage: Callable[[Path], None]) -> None:
    broken = shutil.copytree(data, tmp_path / "data")
    (path,) = broken.glob(part)
    damage(path)
    with pytest.raises(DataError, match="damaged dataset folder") as caught:
        read_puzzle_set(broken)
    assert str(broken) in str(caught.value)


def test_tables_of_another_build_are_found_out(tmp_path: Path, tasks: list[Task]) -> None:
    source = write_source(tmp_path, "set", tasks)
    first, second = (build(tmp_path / f"seed{seed}", source, seed=seed) for seed in (0, 1))
    shutil.rmtree(first / "puzzles")
    shutil.copytree(second / "puzzles", first / "puzzles")
    with pytest.raises(DataError, match="its tables are not those that were built"):
        read_puzzle_set(first)


NAMES = st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=4, unique=True)


@st.composite
def tables(draw: st.DrawFn) -> PuzzleTable:
    """Tables of a few tasks with any names, under distinct augmentations."""
    names = draw(NAMES)
    groups = [draw(st.lists(augmentations(), min_size=1, max_size=4, unique=True)) for _ in names]
    return table_of(names, groups)


def puzzles(table: PuzzleTable) -> list[tuple[str, Augmentation]]:
    return [(table.task_ids[task], augmentation_of(table, row)) for row, task in enumerate(table.tasks)]


def part(table: PuzzleTable, rows: list[int]) -> PuzzleTable:
    """Return the puzzles of these rows, in this order."""
    return PuzzleTable(table.task_ids, table.tasks[rows], table.dihedrals[rows], table.colors[rows])


def test_fingerprints_stay_as_they_are() -> None:
    """Fingerprints connect checkpoints and datasets of different versions."""
    table = table_of(["007bbfb7"], [[IDENTITY, Augmentation(3, (0, 2, 1, *range(3, 10)))]])
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
