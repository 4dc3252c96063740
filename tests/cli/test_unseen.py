"""Test outputs never train: with, without and with wrong solutions, all that is made is the same."""

import json
from pathlib import Path
from typing import Any

import pytest

from arcpipe.predictions import read_shard
from arcpipe.runs import write_json
from arcpipe.task import Task, challenges_json, read_challenges
from commands import succeed

# All that reaches the submission, but for the manifests, which hold times and hashes of files.
SEEN = ("data/challenges.json", "data/examples/*/*.arrow", "data/puzzles/*.arrow")
MADE = (
    "run/checkpoints/*/*.safetensors", "run/checkpoints/*/puzzles.parquet", "predictions/shards/*.parquet",
)  # fmt: skip
ANSWER = "submission.json"
SOURCE = ("--set", 'data.sources=["arc-agi_small_challenges.json"]')


def garbage(tasks: list[Task]) -> dict[str, Any]:
    """A solutions file that is wrong in every output: other cells, and shapes larger than any grid."""
    return {
        task.id: [[[index] * 7] * (pair.input.shape[0] + 2) for index, pair in enumerate(task.tests)]
        for task in tasks
    }


def contents(folder: Path) -> dict[str, bytes]:
    """What must not depend on solutions, by its path: bytes of files, candidates of shards."""
    files = [path for pattern in (*SEEN, *MADE, ANSWER) for path in sorted(folder.glob(pattern))]
    return {
        path.relative_to(folder).as_posix(): candidates(path) if "shards" in path.parts else path.read_bytes()
        for path in files
    }


def candidates(shard: Path) -> bytes:
    """A shard but for the column that names the checkpoint by its path."""
    return repr(read_shard(shard).drop_columns("checkpoint").to_pylist()).encode()


@pytest.fixture(scope="module")
def tasks(mini: Any) -> list[Task]:
    """The tasks of the miniature quickstart as a competition hands them out."""
    return read_challenges(mini.folder / "data" / "challenges.json")


@pytest.fixture(scope="module")
def made(
    mini: Any, tasks: list[Task], tiny: list[str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The folders of quickstarts on the same challenges, by what their solutions are."""
    folders = {"right": mini.folder}
    for kind in ("none", "garbage"):
        cwd = tmp_path_factory.mktemp(kind)
        write_json(cwd / "arc-agi_small_challenges.json", challenges_json(tasks))
        if kind == "garbage":
            write_json(cwd / "arc-agi_small_solutions.json", garbage(tasks))
        succeed("quickstart", "--out", "made", *tiny, *SOURCE, cwd=cwd)
        folders[kind] = cwd / "made"
    return folders


def test_the_solutions_were_what_they_are_called(made: dict[str, Path], tasks: list[Task]) -> None:
    files = {kind: folder / "data" / "solutions.json" for kind, folder in made.items()}
    assert not files["none"].exists()
    right, wrong = (json.loads(files[kind].read_bytes()) for kind in ("right", "garbage"))
    assert wrong == garbage(tasks)
    assert right.keys() == wrong.keys()
    assert all(right[task_id] != wrong[task_id] for task_id in right)


def test_data_weights_predictions_and_submission_are_the_same_byte_for_byte(made: dict[str, Path]) -> None:
    right, none, wrong = (contents(made[kind]) for kind in ("right", "none", "garbage"))
    shard = "predictions/shards/part-0000000000-rank0.parquet"
    assert {"submission.json", "data/challenges.json", shard} <= right.keys()
    assert {Path(name).name for name in right} >= {"model.safetensors", "puzzles.safetensors"}
    assert sum(name.endswith(".arrow") for name in right) >= 2
    for other in (none, wrong):
        assert other.keys() == right.keys()
        assert [name for name in right if other[name] != right[name]] == []


def test_the_fingerprint_of_the_dataset_is_of_what_training_sees(made: dict[str, Path]) -> None:
    manifests = [json.loads((folder / "data" / "manifest.json").read_bytes()) for folder in made.values()]
    assert len({manifest["fingerprint"] for manifest in manifests}) == 1
    assert len({json.dumps(manifest["files"]) for manifest in manifests}) == 3


def test_without_solutions_there_is_a_submission_and_no_score(made: dict[str, Path]) -> None:
    left = {path.name for path in made["none"].iterdir()}
    assert "submission.json" in left
    assert "tasks.csv" not in left
