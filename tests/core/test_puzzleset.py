"""Round trips of the dataset folder; fingerprints of a dataset and of its puzzles."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    of_each, asked = table_of(["a task"], [[IDENTITY, *more]]), tasks[::-1][:2]
    groups = [(of_each.dihedrals, of_each.colors)] * len(tasks)
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
    pair, *others = tasks[0].demonstrations
    assert pair.output is not None
    changed = replace(tasks[0], demonstrations=(Pair(pair.input, 9 - pair.output), *others))
    variants = [
        build(tmp_path / "one", source),
        build(tmp_path / "seed", source, seed=1),
        build(tmp_path / "aug", source, num_aug=2),
        build(tmp_path / "canvas", source, canvas=7),
        build(tmp_path / "fewer", write_source(tmp_path, "fewer", tasks[1:])),
        build(tmp_path / "changed", write_source(tmp_path, "changed", [changed, *tasks[1:]])),
        build(tmp_path / "again", source),
    ]
    *distinct, again = (json_of(of / "manifest.json")["fingerprint"] for of in variants)
    assert len({*distinct}) == len(distinct)
    assert again == distinct[0]


DAMAGE = (Path.unlink, lambda path: path.write_bytes(b"ARROW1"), lambda path: path.write_text("no table"))


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(
    "part", ["examples/train/data-*.arrow", "puzzles/data-*.arrow", "examples/test/state.json"]
)
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


@st.composite
def tables(draw: st.DrawFn) -> PuzzleTable:
    """Tables of a few tasks with any names, under distinct augmentations."""
    names = draw(st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=4, unique=True))
    groups = [draw(st.lists(augmentations(), min_size=1, max_size=4, unique=True)) for _ in names]
    return table_of(names, groups)


def test_fingerprints_stay_as_they_are() -> None:
    """Fingerprints connect checkpoints and datasets of different versions."""
    table = table_of(["007bbfb7"], [[IDENTITY, Augmentation(3, (0, 2, 1, *range(3, 10)))]])
    assert table.fingerprints().tolist() == [0x747C7689B89B9F73, 0x07E29F4FE54A3CB9]


@given(tables(), st.data())
def test_puzzles_are_found_in_any_order_and_others_are_not(table: PuzzleTable, data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(table))))
    kept = list(order[: data.draw(st.integers(0, len(order)))])
    places = {row: place for place, row in enumerate(kept)}
    part = PuzzleTable(table.task_ids, table.tasks[kept], table.dihedrals[kept], table.colors[kept])
    assert part.find(table).tolist() == [places.get(row, -1) for row in range(len(table))]
