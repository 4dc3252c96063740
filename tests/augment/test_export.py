"""The reference's layout: what its files hold, read as its trainer reads them."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from arcpipe.augment.export import export_trm
from arcpipe.augment.puzzles import MazeSettings, SudokuSettings, build_maze, build_sudoku
from arcpipe.augmentation import Augmentation
from arcpipe.codec import ARC, encode
from arcpipe.errors import DataError
from arcpipe.grid import Grid
from arcpipe.official import read_identifiers
from arcpipe.puzzleset import read_puzzle_set
from arcpipe.task import Pair, Task
from puzzles import build, made_up_tasks, write_source
from strategies import plain_task
from sudokus import follows_the_rules

CANVAS = 8
NUM_AUG = 80
Content = tuple[tuple[int, ...], bytes]


@dataclass(frozen=True)
class Row:
    """A row of an exported split: the name of its puzzle, its tokens, and the numbers of group and puzzle."""

    name: str
    tokens: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    group: int
    puzzle: int


def rows_of(folder: Path, split: str) -> list[Row]:
    """The rows of a split, found by its indices."""
    names = json.loads((folder / "identifiers.json").read_bytes())
    parts = ("inputs", "labels", "puzzle_identifiers", "puzzle_indices", "group_indices")
    inputs, labels, identifiers, puzzles, groups = (
        np.load(folder / split / f"all__{part}.npy") for part in parts
    )
    assert {inputs.dtype, labels.dtype} == {np.dtype(np.uint8)}
    assert {identifiers.dtype, puzzles.dtype, groups.dtype} == {np.dtype(np.int32)}
    assert (puzzles[0], puzzles[-1], groups[0], groups[-1]) == (0, len(inputs), 0, len(identifiers))
    assert len(inputs) == len(labels)
    assert len(puzzles) == len(identifiers) + 1
    return [
        Row(names[identifiers[puzzle]], inputs[row], labels[row], group, puzzle)
        for group in range(len(groups) - 1)
        for puzzle in range(groups[group], groups[group + 1])
        for row in range(puzzles[puzzle], puzzles[puzzle + 1])
    ]


def find_grid(tokens: NDArray[np.uint8]) -> tuple[Grid, tuple[int, int]]:
    """The grid on a canvas, and its place."""
    canvas = tokens.reshape(CANVAS, CANVAS)
    lines, columns = np.nonzero(canvas >= ARC.first)
    top, left = int(lines.min()), int(columns.min())
    cells = canvas[top : lines.max() + 1, left : columns.max() + 1]
    return (cells - ARC.first).astype(np.uint8), (top, left)


def undone(name: str) -> tuple[str, Augmentation]:
    """The task in a puzzle's name, and the inverse of the augmentation there."""
    task, *rest = name.split("|||")
    if not rest:
        return task, Augmentation()
    dihedral, colors = rest
    return task, Augmentation(int(dihedral.removeprefix("t")), tuple(map(int, colors))).inverse()


def content(grid: Grid) -> Content:
    return grid.shape, grid.tobytes()


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    return made_up_tasks(8)


@pytest.fixture(scope="module")
def data(tasks: list[Task], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    sources = [write_source(folder, "training", tasks[4:]), write_source(folder, "evaluation", tasks[:4])]
    return build(folder / "data", *sources, num_aug=NUM_AUG, canvas=CANVAS, test_set="evaluation")


@pytest.fixture(scope="module")
def made(data: Path) -> Path:
    """The export of `data`; its training split is more rows than are written at once."""
    export_trm(data, data.parent / "trm", seed=0)
    return data.parent / "trm"


def base_pairs(tasks: list[Task], part: str) -> list[tuple[str, Content, Content]]:
    return [
        (task.id, *(content(np.array(grid, np.uint8)) for grid in pair))
        for task in tasks
        for pair in plain_task(task)[part]
    ]


def test_every_training_row_undone_is_a_base_example_and_none_is_missing(
    data: Path, made: Path, tasks: list[Task]
) -> None:
    rows = rows_of(made, "train")
    assert len(rows) > 1024, "the rows should fill more than one part"
    found, exact = Counter[Any](), Counter[Any]()
    for row in rows:
        (given, _), (wanted, _) = find_grid(row.tokens), find_grid(row.labels)
        task, inverse = undone(row.name)
        found[task, content(inverse.apply(given)), content(inverse.apply(wanted))] += 1
        exact[row.name, content(given), content(wanted)] += 1
    base = base_pairs(tasks, "train") + base_pairs(tasks[4:], "test")
    table = read_puzzle_set(data).table
    num_puzzles = Counter(table.task_ids[number] for number in table.tasks)
    assert found == Counter({pair: num_puzzles[pair[0]] * count for pair, count in Counter(base).items()})
    assert len(exact) == len(rows), "an example of a puzzle comes once"


def test_groups_are_tasks_and_their_puzzles_are_rows_of_the_embedding_table(data: Path, made: Path) -> None:
    rows, table = rows_of(made, "train"), read_puzzle_set(data).table
    by_group = {row.group: undone(row.name)[0] for row in rows}
    assert all(by_group[row.group] == undone(row.name)[0] for row in rows)
    assert sorted(by_group.values()) == sorted(table.task_ids)
    named = read_identifiers(made / "identifiers.json")
    assert len(named) == len(table) + 1
    # Row 0 is <blank>; the others as `arcpipe checkpoint export` numbers them.
    assert np.array_equal(named.fingerprints()[1:], table.fingerprints())
    assert len({row.puzzle for row in rows}) == len(table)


def test_one_example_of_each_puzzle_stays_in_the_corner_and_the_others_lie_anywhere(made: Path) -> None:
    corners, places = Counter[int](), set()
    for row in rows_of(made, "train"):
        (given, place), (wanted, other_place) = find_grid(row.tokens), find_grid(row.labels)
        assert place == other_place
        assert np.array_equal(row.tokens, encode(given, CANVAS, place))
        assert np.array_equal(row.labels, encode(wanted, CANVAS, place))
        corners[row.puzzle] += place == (0, 0)
        room = [CANVAS - max(sides) for sides in zip(given.shape, wanted.shape, strict=True)]
        places.add(tuple((start > 0) + (start == most) for start, most in zip(place, room, strict=True)))
    assert min(corners.values()) == 1
    assert places == {(row, column) for row in range(3) for column in range(3)}


def test_the_places_depend_on_the_seed_alone(data: Path, made: Path, tmp_path: Path) -> None:
    def inputs(folder: Path, split: str = "train") -> bytes:
        return (folder / split / "all__inputs.npy").read_bytes()

    for seed in (0, 1):
        export_trm(data, tmp_path / str(seed), seed=seed)
    assert inputs(tmp_path / "0") == inputs(made) != inputs(tmp_path / "1")
    assert inputs(tmp_path / "1", "test") == inputs(made, "test")


def test_tests_lie_in_the_corner_under_every_puzzle_of_their_task(made: Path, tasks: list[Task]) -> None:
    found = Counter[Any]()
    rows = rows_of(made, "test")
    for row in rows:
        (given, place), (wanted, _) = find_grid(row.tokens), find_grid(row.labels)
        assert place == (0, 0)
        task, inverse = undone(row.name)
        found[task, content(inverse.apply(given)), content(inverse.apply(wanted))] += 1
    assert set(found) == set(base_pairs(tasks[:4], "test"))
    puzzles = {row.puzzle for row in rows}
    assert puzzles == set(range(len(puzzles)))
    assert json.loads((made / "test_puzzles.json").read_bytes()) == {
        task.id: {
            part: [dict(zip(("input", "output"), pair, strict=True)) for pair in pairs]
            for part, pairs in plain_task(task).items()
        }
        for task in tasks[:4]
    }


def test_the_facts_of_a_split(made: Path) -> None:
    rows = rows_of(made, "train")
    num_puzzles = len({row.puzzle for row in rows})
    assert json.loads((made / "train" / "dataset.json").read_bytes()) == {
        "pad_id": 0,
        "ignore_label_id": 0,
        "blank_identifier_id": 0,
        "vocab_size": 12,
        "seq_len": CANVAS**2,
        "num_puzzle_identifiers": num_puzzles + 1,
        "total_groups": 8,
        "mean_puzzle_examples": len(rows) / num_puzzles,
        "total_puzzles": num_puzzles,
        "sets": ["all"],
    }


def test_a_zero_stands_for_an_output_that_is_not_known(tasks: list[Task], tmp_path: Path) -> None:
    source = write_source(tmp_path, "hidden", tasks, solved=False)
    summary = export_trm(build(tmp_path / "data", source, canvas=CANVAS), tmp_path / "trm", seed=0)
    assert not summary.solved
    expected = encode(np.zeros((1, 1), np.uint8), CANVAS)
    # Black stays black under every augmentation.
    assert all(np.array_equal(row.labels, expected) for row in rows_of(tmp_path / "trm", "test"))
    written = json.loads((tmp_path / "trm" / "test_puzzles.json").read_bytes())
    assert {str(test["output"]) for task in written.values() for test in task["test"]} == {"[[0]]"}


def test_an_output_that_the_canvas_cannot_hold_is_named(tmp_path: Path) -> None:
    test = Pair(np.ones((1, 1), np.uint8), np.ones((9, 2), np.uint8))
    large = Task("large", made_up_tasks(1)[0].demonstrations, (test,))
    data = build(tmp_path / "data", write_source(tmp_path, "few", [large]), canvas=5)
    with pytest.raises(DataError, match="task large: the output of test 0 does not fit the canvas of 5"):
        export_trm(data, tmp_path / "trm", seed=0)
    assert not (tmp_path / "trm").exists()


@pytest.mark.parametrize("count", [3, None])
def test_sudokus_share_an_identifier_and_each_is_a_group_of_shuffles(
    tmp_path: Path, count: int | None
) -> None:
    build_sudoku(SudokuSettings(generate=5, test=4, side=4, num_aug=count), tmp_path / "data")
    summary = export_trm(tmp_path / "data", tmp_path / "trm", seed=0, num_aug=None if count else 3)
    assert (summary.train_rows, summary.test_rows, summary.puzzles) == (5 * 4, 4, 20)
    assert json.loads((tmp_path / "trm" / "identifiers.json").read_bytes()) == ["<blank>"]
    assert not (tmp_path / "trm" / "test_puzzles.json").exists()
    puzzles = read_puzzle_set(tmp_path / "data")
    rows = rows_of(tmp_path / "trm", "train")
    for number, row in enumerate(rows):
        question, answer = (tokens.reshape(4, 4) - 1 for tokens in (row.tokens, row.labels))
        assert follows_the_rules(answer)
        assert np.array_equal(question[question > 0], answer[question > 0])
        assert row.group == number // 4
        if number % 4 == 0:
            assert np.array_equal(question, puzzles.inputs.grid(number // 4))
            assert np.array_equal(answer, puzzles.outputs.grid(number // 4))
    assert len({row.tokens.tobytes() for row in rows}) > 15
    for number, row in enumerate(rows_of(tmp_path / "trm", "test")):
        assert np.array_equal(row.tokens.reshape(4, 4) - 1, puzzles.test_inputs.grid(number))
        assert follows_the_rules(row.labels.reshape(4, 4) - 1)


def test_mazes_are_turned_and_flipped(tmp_path: Path) -> None:
    build_maze(MazeSettings(generate=3, test=2, size=8, min_path=6, num_aug=7), tmp_path / "data")
    export_trm(tmp_path / "data", tmp_path / "trm", seed=0)
    puzzles = read_puzzle_set(tmp_path / "data")
    for number, row in enumerate(rows_of(tmp_path / "trm", "train")):
        group, dihedral = divmod(number, 8)
        inverse = Augmentation(dihedral).inverse()
        assert row.group == group
        for tokens, table in ((row.tokens, puzzles.inputs), (row.labels, puzzles.outputs)):
            assert np.array_equal(inverse.apply(tokens.reshape(8, 8) - 1), table.grid(group))
    facts = json.loads((tmp_path / "trm" / "train" / "dataset.json").read_bytes())
    assert (facts["vocab_size"], facts["num_puzzle_identifiers"], facts["total_groups"]) == (6, 1, 3)


def test_without_tests_there_is_no_split_of_them(tmp_path: Path) -> None:
    build_sudoku(SudokuSettings(generate=2, side=4, num_aug=0), tmp_path / "data")
    summary = export_trm(tmp_path / "data", tmp_path / "trm", seed=0)
    assert (summary.train_rows, summary.test_rows) == (2, 0)
    assert not (tmp_path / "trm" / "test").exists()
