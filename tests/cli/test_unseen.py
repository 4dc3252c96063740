"""Test outputs never train: with, without and with wrong solutions, all that is made is the same."""

import json
from pathlib import Path
from typing import Any

import pytest

from arcpipe.predictions import read_shard
from arcpipe.runs import write_json
from arcpipe.task import challenges_json, read_challenges
from commands import succeed_here

# All that reaches the submission, but for the manifests, which hold times and hashes of files.
MADE = (
    "data/challenges.json", "data/examples/*/*.arrow", "data/puzzles/*.arrow",
    "run/checkpoints/*/*.safetensors", "run/checkpoints/*/puzzles.parquet", "predictions/shards/*.parquet",
    "submission.json",
)  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    """What must not depend on solutions, by its path: bytes of files, candidates of shards."""
    return {
        path.relative_to(folder).as_posix(): candidates(path) if "shards" in path.parts else path.read_bytes()
        for pattern in MADE
        for path in sorted(folder.glob(pattern))
    }


def candidates(shard: Path) -> bytes:
    """A shard but for the column that names the checkpoint by its path."""
    return repr(read_shard(shard).drop_columns("checkpoint").to_pylist()).encode()


@pytest.mark.parametrize("solutions", ["none", "wrong"])
def test_solutions_change_nothing(mini: Any, tiny: list[str], tmp_path: Path, solutions: str) -> None:
    """Wrong ones are so in every output: other cells, and shapes larger than any grid."""
    tasks = read_challenges(mini.folder / "data" / "challenges.json")
    wrong = {
        task.id: [[[index] * 7] * (pair.input.shape[0] + 2) for index, pair in enumerate(task.tests)]
        for task in tasks
    }
    write_json(tmp_path / "arc-agi_small_challenges.json", challenges_json(tasks))
    if solutions == "wrong":
        write_json(tmp_path / "arc-agi_small_solutions.json", wrong)
    source = ("--set", 'data.sources=["arc-agi_small_challenges.json"]')
    succeed_here("quickstart", "--out", "made", *tiny, *source, cwd=tmp_path)
    made, right = tmp_path / "made", mini.folder
    assert (made / "tasks.csv").exists() == (made / "data" / "solutions.json").exists()
    assert (made / "data" / "solutions.json").exists() == (solutions == "wrong")
    if solutions == "wrong":
        assert json.loads((made / "data" / "solutions.json").read_bytes()) == wrong

    expected, found = contents(right), contents(made)
    assert len([name for name in expected if name.endswith((".arrow", ".safetensors", ".parquet"))]) >= 7
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
    one, other = (json.loads((folder / "data" / "manifest.json").read_bytes()) for folder in (right, made))
    assert one["fingerprint"] == other["fingerprint"]
    assert one["files"] != other["files"]
