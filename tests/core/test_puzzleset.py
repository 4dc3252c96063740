"""The dataset folder: what training may see, what it may not, and that it comes back as written."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arcpipe.augment.build import augmentations_of
from arcpipe.augmentation import IDENTITY, Augmentation
from arcpipe.errors import DataError, OutputError
from arcpipe.grid import Grid, as_grid
from arcpipe.puzzleset import GridTable, PuzzleSet, read_puzzle_set, write_puzzle_set
from arcpipe.runs import make_manifest
from arcpipe.task import Pair, Task
from puzzles import build, made_up_tasks, write_source
from strategies import plain_task, solved_tasks

# A pattern of cells found in no other grid here; longer than any random one could repeat.
SECRET = as_grid([[7, 1, 4, 9, 2, 8], [3, 6, 5, 0, 7, 7], [9, 9, 1, 3, 8, 4]], "secret")


def grid(*rows: str) -> Grid:
    return as_grid([[int(cell) for cell in row] for row in rows], "grid")


def task(task_id: str, *pairs: tuple[Grid, Grid], tests: tuple[Pair, ...]) -> Task:
    return Task(task_id, tuple(Pair(*pair) for pair in pairs), tests)


def unpacked(table: GridTable) -> list[Any]:
    """The grids of a table as lists of rows."""
    return [
        cells[:height, :width].tolist()
        for cells, (height, width) in zip(table.cells, table.shapes, strict=True)
    ]


def training_pairs(puzzles: PuzzleSet) -> list[tuple[str, Any, Any]]:
    """The training examples: task id, input, output."""
    names = [puzzles.task_ids[number] for number in puzzles.example_tasks]
    return list(zip(names, unpacked(puzzles.inputs), unpacked(puzzles.outputs), strict=True))


def demonstrations(tasks: list[Task]) -> list[tuple[str, Any, Any]]:
    return [(task.id, *pair) for task in tasks for pair in plain_task(task)["train"]]


def solved_tests(tasks: list[Task]) -> list[tuple[str, Any, Any]]:
    return [(task.id, *pair) for task in tasks for pair in plain_task(task)["test"]]


def fingerprint(folder: Path) -> str:
    found: str = json.loads((folder / "manifest.json").read_bytes())["fingerprint"]
    return found


def files_holding(folder: Path, cells: bytes) -> set[str]:
    """The files under a dataset folder that hold these cells, as bytes or as JSON."""
    text = str(list(cells)).replace(" ", "").strip("[]").encode()
    found = set()
    for path in folder.rglob("*"):
        if path.is_file():
            held = path.read_bytes()
            if cells in held or text in held.replace(b"[", b"").replace(b"]", b""):
                found.add(path.relative_to(folder).parts[0])
    return found


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    return made_up_tasks(6)


@pytest.fixture(scope="module")
def data(tasks: list[Task], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("puzzles")
    return build(folder / "data", write_source(folder, "few", tasks), num_aug=4)


def test_a_dataset_comes_back_as_its_tasks(data: Path, tasks: list[Task]) -> None:
    puzzles = read_puzzle_set(data)
    assert puzzles.task_ids == [task.id for task in tasks]
    assert training_pairs(puzzles) == demonstrations(tasks)
    names = [puzzles.task_ids[number] for number in puzzles.test_tasks]
    assert list(zip(names, unpacked(puzzles.test_inputs), strict=True)) == [
        (name, given) for name, given, _ in solved_tests(tasks)
    ]
    assert puzzles.num_tokens == puzzles.canvas**2


def test_test_indices_count_within_each_task(data: Path, tasks: list[Task]) -> None:
    puzzles = read_puzzle_set(data)
    counts = [len(task.tests) for task in tasks]
    assert set(counts) == {1, 2}, "the tasks should differ in this"
    assert puzzles.test_indices.tolist() == [index for count in counts for index in range(count)]


def test_the_puzzles_of_a_task_are_adjacent_identity_first_and_as_drawn(
    data: Path, tasks: list[Task]
) -> None:
    puzzles = read_puzzle_set(data)
    assert np.all(np.diff(puzzles.puzzle_tasks) >= 0)
    for number, task in enumerate(tasks):
        hidden = replace(task, tests=tuple(Pair(pair.input, None) for pair in task.tests))
        own = [puzzles.augmentation(int(puzzle)) for puzzle in puzzles.puzzles_of(number)]
        assert own == augmentations_of(hidden, num_aug=4, seed=0)
        assert own[0] == IDENTITY


@settings(max_examples=15)
@given(
    st.lists(solved_tasks(), min_size=1, max_size=3, unique_by=lambda task: task.id),
    st.lists(st.builds(Augmentation, st.integers(0, 7)), max_size=3),
)
def test_any_tasks_are_read_as_written(
    tmp_path_factory: pytest.TempPathFactory, tasks: list[Task], more: list[Augmentation]
) -> None:
    folder = tmp_path_factory.mktemp("any") / "data"
    manifest = make_manifest("dataset", canvas=4)
    write_puzzle_set(folder, tasks, tasks[:1], [[IDENTITY, *more]] * len(tasks), manifest)
    puzzles = read_puzzle_set(folder)
    # Outputs are given here, so the test pairs train, after the demonstrations of their task.
    everything = [pair for task in tasks for pair in (*demonstrations([task]), *solved_tests([task]))]
    assert training_pairs(puzzles) == everything
    assert unpacked(puzzles.test_inputs) == [given for _, given, _ in solved_tests(tasks[:1])]
    assert puzzles.num_puzzles == len(tasks) * (1 + len(more))


def test_test_outputs_are_in_solutions_json_and_nowhere_else(tmp_path: Path) -> None:
    shown = grid("123456", "654321", "246135")
    tests = (Pair(grid("12"), grid("3")), Pair(grid("21"), SECRET))
    few = [task("a", (grid("1"), shown), tests=tests), *made_up_tasks(3)]
    data = build(tmp_path / "data", write_source(tmp_path, "few", few))
    # That a demonstration is found shows that the search would find a leak.
    assert files_holding(data, shown.tobytes()) == {"examples", "challenges.json"}
    assert files_holding(data, SECRET.tobytes()) == {"solutions.json"}
    assert SECRET.tolist() not in unpacked(read_puzzle_set(data).outputs)


def test_other_sets_train_with_their_test_pairs_and_the_test_set_does_not(tmp_path: Path) -> None:
    target, other = made_up_tasks(3, seed=1), made_up_tasks(4, seed=2)
    sources = [write_source(tmp_path, "other", other), write_source(tmp_path, "target", target)]
    puzzles = read_puzzle_set(build(tmp_path / "data", *sources, test_set="target"))
    trained = training_pairs(puzzles)
    expected = demonstrations(target) + demonstrations(other) + solved_tests(other)
    assert sorted(trained) == sorted(expected)
    assert [puzzles.task_ids[number] for number in puzzles.test_tasks] == [
        name for name, _, _ in solved_tests(target)
    ]
    challenges = json.loads((tmp_path / "data" / "challenges.json").read_bytes())
    assert list(challenges) == [task.id for task in target]


def test_a_task_to_predict_that_a_training_set_holds_too_does_not_train_its_outputs(tmp_path: Path) -> None:
    shared = task("both", (grid("12"), grid("21")), tests=(Pair(grid("34"), SECRET),))
    others = made_up_tasks(2)
    sources = [
        write_source(tmp_path, "training", [*others, shared]),
        write_source(tmp_path, "target", [shared]),
    ]
    data = build(tmp_path / "data", *sources, test_set="target")
    assert files_holding(data, SECRET.tobytes()) == {"solutions.json"}
    puzzles = read_puzzle_set(data)
    assert puzzles.task_ids.count("both") == 1
    assert sorted(training_pairs(puzzles)) == sorted(demonstrations([shared, *others]) + solved_tests(others))


def test_the_fingerprint_does_not_know_the_solutions(tmp_path: Path, tasks: list[Task]) -> None:
    wrong = [replace(task, tests=tuple(Pair(pair.input, SECRET) for pair in task.tests)) for task in tasks]
    folders = {}
    for kind, source_tasks, solved in (
        ("right", tasks, True),
        ("wrong", wrong, True),
        ("none", tasks, False),
    ):
        source = write_source(tmp_path / kind, "few", source_tasks, solved=solved)
        folders[kind] = build(tmp_path / kind / "data", source)
    assert not (folders["none"] / "solutions.json").exists()
    assert len({fingerprint(folder) for folder in folders.values()}) == 1


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
    assert len({fingerprint(folder) for folder in variants}) == len(variants)
    assert fingerprint(build(tmp_path / "again", source)) == fingerprint(variants[0])


@given(solved_tasks(), st.integers(0, 20), st.integers(0, 3))
def test_no_two_augmentations_of_a_task_give_the_same_puzzle(task: Task, num_aug: int, seed: int) -> None:
    chosen = augmentations_of(task, num_aug, seed)
    assert chosen[0] == IDENTITY
    assert len(chosen) <= num_aug + 1
    grids = [grid for pair in (*task.demonstrations, *task.tests) for grid in (pair.input, pair.output)]
    made = {
        tuple((turned.shape, turned.tobytes()) for turned in (augmentation.apply(grid) for grid in grids))  # type: ignore[arg-type]
        for augmentation in chosen
    }
    assert len(made) == len(chosen)
    assert all(augmentation.colors[0] == 0 for augmentation in chosen)


@pytest.mark.parametrize(
    ("given", "wanted", "distinct"),
    [
        ("0", "0", 1),  # black stays black, and one cell looks the same from all sides
        ("0", "1", 9),  # nine colors for the 1
        ("1", "2", 72),  # nine for the 1, eight for the 2
        ("11", "1", 18),  # lying or standing
        ("12", "0", 144),  # lying or standing; turned round it is the same as recolored
        ("12", "1", 288),  # turned round it is not
    ],
)
def test_a_symmetric_task_has_as_many_puzzles_as_can_be_counted(
    given: str, wanted: str, distinct: int
) -> None:
    one = task("one", (grid(given), grid(wanted)), tests=(Pair(grid("0"), None),))
    # Enough tries that none is missed.
    assert len(augmentations_of(one, num_aug=1000, seed=0)) == distinct


def test_augmentations_of_a_task_do_not_depend_on_other_tasks(tmp_path: Path, tasks: list[Task]) -> None:
    alone = read_puzzle_set(build(tmp_path / "alone", write_source(tmp_path, "alone", tasks[2:3])))
    among = read_puzzle_set(build(tmp_path / "among", write_source(tmp_path, "among", tasks)))
    chosen = [among.augmentation(int(puzzle)) for puzzle in among.puzzles_of(2)]
    assert [alone.augmentation(puzzle) for puzzle in range(alone.num_puzzles)] == chosen


def test_a_canvas_that_is_too_small_is_refused(tmp_path: Path) -> None:
    wide = task("wide", (grid("1"), grid("12345")), tests=(Pair(grid("1"), grid("1")),))
    source = write_source(tmp_path, "few", [wide])
    with pytest.raises(DataError, match="task wide: a grid of side 5 does not fit canvas 4"):
        build(tmp_path / "data", source, canvas=4)
    assert not (tmp_path / "data").exists()
    assert read_puzzle_set(build(tmp_path / "data", source, canvas=5)).canvas == 5
    assert read_puzzle_set(build(tmp_path / "smallest", source)).canvas == 5


def test_the_smallest_canvas_does_not_look_at_hidden_outputs(tmp_path: Path) -> None:
    hidden = task("a", (grid("12"), grid("21")), tests=(Pair(grid("1"), SECRET),))
    assert read_puzzle_set(build(tmp_path / "data", write_source(tmp_path, "few", [hidden]))).canvas == 2


def test_an_existing_folder_is_not_built_over(tmp_path: Path, tasks: list[Task]) -> None:
    source = write_source(tmp_path, "few", tasks)
    (tmp_path / "data").mkdir()
    with pytest.raises(OutputError, match="exists already"):
        build(tmp_path / "data", source)
    assert not list((tmp_path / "data").iterdir())


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def make_text(path: Path) -> None:
    path.write_text("this is no table")


@pytest.mark.parametrize("damage", [remove, cut, make_text])
@pytest.mark.parametrize("part", ["examples/data-*.arrow", "puzzles/data-*.arrow", "examples/state.json"])
def test_a_damaged_dataset_is_said_to_be_damaged(
    data: Path, tmp_path: Path, part: str, damage: Callable[[Path], None]
) -> None:
    broken = shutil.copytree(data, tmp_path / "data")
    (path,) = broken.glob(part)
    damage(path)
    with pytest.raises(DataError, match="damaged dataset folder") as caught:
        read_puzzle_set(broken)
    assert str(broken) in str(caught.value)


def test_a_dataset_without_its_manifest_is_none(data: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(data, tmp_path / "data")
    (broken / "manifest.json").unlink()
    with pytest.raises(DataError, match="no dataset folder"):
        read_puzzle_set(broken)


def test_a_pair_that_is_asked_for_elsewhere_does_not_train_under_another_name(tmp_path: Path) -> None:
    asked, other, free = grid("123", "456"), grid("77"), grid("5")
    hidden = task("asked", (other, other), tests=(Pair(asked, SECRET[:2, :3]),))
    copy = task("copy", (asked, SECRET[:2, :3]), (free, free), tests=(Pair(asked, SECRET[:2, :3]),))
    target = write_source(tmp_path, "evaluation", [hidden])
    training = write_source(tmp_path, "training", [copy])
    folder = build(tmp_path / "data", training, target, test_set="evaluation")
    pairs = training_pairs(read_puzzle_set(folder))
    assert [(name, pair) for name, pair, _ in pairs] == [("asked", other.tolist()), ("copy", free.tolist())]


def test_a_test_pair_too_large_for_the_canvas_does_not_train(tmp_path: Path) -> None:
    small, large = grid("1"), np.ones((7, 7), np.uint8)
    target = write_source(
        tmp_path, "evaluation", [task("a", (small, small), tests=(Pair(small, None),))], solved=False
    )
    training = write_source(
        tmp_path, "training", [task("b", (grid("2"), small), tests=(Pair(grid("3"), large),))]
    )
    folder = build(tmp_path / "data", training, target, test_set="evaluation", max_side=3)
    assert {
        name for name, _, output in training_pairs(read_puzzle_set(folder)) if output == large.tolist()
    } == set()
    assert read_puzzle_set(folder).canvas == 1


def test_a_test_set_that_two_sources_are_called_is_refused(tmp_path: Path, tasks: list[Task]) -> None:
    sources = [write_source(tmp_path / name, "evaluation", tasks) for name in ("one", "two")]
    with pytest.raises(DataError, match="should be exactly one of the sources: evaluation, evaluation"):
        build(tmp_path / "data", *sources, test_set="evaluation")


def test_tables_of_another_build_are_found_out(tmp_path: Path, tasks: list[Task]) -> None:
    source = write_source(tmp_path, "set", tasks)
    first, second = (build(tmp_path / f"seed{seed}", source, seed=seed) for seed in (0, 1))
    shutil.rmtree(first / "puzzles")
    shutil.copytree(second / "puzzles", first / "puzzles")
    with pytest.raises(DataError, match="its tables are not those that were built"):
        read_puzzle_set(first)


def test_test_indices_are_right_in_any_order_of_tasks(tmp_path: Path) -> None:
    three = [
        task(name, (grid("1"), grid("2")), tests=(Pair(grid("3"), None), Pair(grid("4"), None)))
        for name in "abc"
    ]
    manifest = make_manifest("dataset", canvas=1)
    write_puzzle_set(tmp_path / "data", three, [three[2], three[0]], [[IDENTITY]] * 3, manifest)
    puzzles = read_puzzle_set(tmp_path / "data")
    assert puzzles.test_tasks.tolist() == [2, 2, 0, 0]
    assert puzzles.test_indices.tolist() == [0, 1, 0, 1]
