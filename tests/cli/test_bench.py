"""`arcpipe bench`: what it measures, says and writes; not how fast this machine is."""

import json
import re
from pathlib import Path

import pytest

from arcpipe.bench import table_text
from commands import fail, succeed
from puzzles import made_up_tasks, write_source


def test_a_bench_of_augment_prints_a_table_and_writes_the_same_figures(tmp_path: Path) -> None:
    source = write_source(tmp_path, "few", made_up_tasks(20, max_side=8))
    (tmp_path / "scratch").mkdir()
    flags = ("--num-aug", 30, "--batch-size", 8, "--workers", 1, "--json", "bench.json")
    arguments = ("bench", "augment", "--source", source, *flags)
    printed = succeed(*arguments, cwd=tmp_path, env={"TMPDIR": str(tmp_path / "scratch")})
    heading, *lines, note = printed.splitlines()
    assert heading.split() == ["figure", "unit", "arcpipe", "baseline", "ratio"]
    assert [re.split(" {2,}", line)[0] for line in lines] == [
        "build", "peak memory", "disk", "batches of 8, 0 workers", "batches of 8, 1 workers",
    ]  # fmt: skip
    assert note.startswith(
        "620 puzzles. Baseline: measured at 20 augmentations, 420 puzzles, and multiplied by 1.5"
    )
    assert not list((tmp_path / "scratch").iterdir())

    written = json.loads((tmp_path / "bench.json").read_bytes())
    assert written["note"] == note
    assert written["settings"]["num_aug"] == 30
    assert written["machine"]["cpu"]["cores"] >= 1
    assert written["versions"]["numpy"]
    rows = {row["figure"]: row for row in written["rows"]}
    assert table_text(written["rows"]) == "\n".join([heading, *lines])
    for row in rows.values():
        assert min(row["arcpipe"], row["baseline"], row["ratio"]) > 0
        better = (
            row["baseline"] / row["arcpipe"] if row["unit"] != "1/s" else row["arcpipe"] / row["baseline"]
        )
        assert row["ratio"] == pytest.approx(better)
    # A grid of the baseline takes a byte for each of 900 cells, as the files of both parts do.
    assert rows["disk"]["baseline"] > 620 * 2 * 900 / 1e6

    assert fail(*arguments, cwd=tmp_path) == "bench.json exists already: choose another --json or remove it"


def test_a_bench_of_no_source_is_refused_in_one_line(tmp_path: Path) -> None:
    said = fail("bench", "augment", "--source", "none.json", "--json", "bench.json", cwd=tmp_path)
    assert said.startswith("none.json: no such file or folder")
    assert not list(tmp_path.iterdir())


def test_a_table_has_texts_to_the_left_and_numbers_to_the_right() -> None:
    rows = [
        {"figure": "build", "unit": "s", "arcpipe": 2.7182, "ratio": 104.4},
        {"figure": "disk", "unit": "MB", "arcpipe": 22212.3, "ratio": 0.01234},
    ]
    assert table_text(rows).splitlines() == [
        "figure  unit  arcpipe   ratio",
        "build   s        2.72     104",
        "disk    MB     22,212  0.0123",
    ]
