"""The benchmark of the vote, on few candidates."""

from pathlib import Path

import pyarrow as pa

from arcpipe.infer.bench_vote import VoteBenchSettings, bench_vote, made_up
from arcpipe.predictions import read_candidates


def test_made_up_candidates_depend_on_the_seed_alone() -> None:
    first, same, other = (
        pa.concat_tables(made_up(VoteBenchSettings(1000, 7, seed))).combine_chunks() for seed in (1, 1, 2)
    )
    assert first == same
    assert first["cells"] != other["cells"]
    assert len(first) == 1000
    assert first["order"].to_pylist() == list(range(1000))


def test_the_figures_are_of_all_candidates(tmp_path: Path) -> None:
    rows, note = bench_vote(VoteBenchSettings(1500, 4, 0), tmp_path)
    values = {row["figure"]: row["value"] for row in rows}
    assert sum(map(len, read_candidates([tmp_path / "predictions"]))) == 1500
    assert (tmp_path / "submission.json").exists()
    assert abs(values["candidates"] - 1500 / values["arcpipe vote"]) < 1e-6 * values["candidates"]
    assert values["peak memory"] > 10
    assert note.startswith("1500 candidates of 4 test inputs, sides of 3 to 30, ")
    assert note.endswith(" on the first 400 of them")
