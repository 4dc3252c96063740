"""`arcpipe bench`: what it measures, says and writes; not how fast this machine is."""

import json
import re
from pathlib import Path

import pytest

from arcpipe.commands.bench import table_text
from arcpipe.commands.bench_all import Part, bench_all, parts_for
from arcpipe.errors import ArcpipeError
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


def test_all_stages_make_one_folder_and_one_that_fails_does_not_end_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [
        Part("Vote", ["bench", "vote", "--candidates", "600", "--tests", "4"]),
        Part("Data", ["bench", "augment", "--source", str(tmp_path / "none.json")]),
        Part("Step", ["bench", "train", "--shape", "small", "--steps", "1", "--max-minutes", "0.001"]),
    ]
    with pytest.raises(ArcpipeError, match=r"^Data: arcpipe bench augment ended with exit code 2: .*none"):
        bench_all(parts, tmp_path / "out")
    written = json.loads((tmp_path / "out" / "bench.json").read_bytes())
    assert written["machine"]["cpu"]["cores"] >= 1
    assert written["versions"]["torch"]
    vote, data, step = written["parts"]
    assert vote["commands"] == ["arcpipe bench vote --candidates 600 --tests 4"]
    assert vote["settings"]["candidates"] == 600
    assert vote["rows"][0]["value"] > 0
    assert (data["rows"], data["failure"] != "") == ([], True)
    assert step["settings"]["shape"] == "small"
    assert step["rows"][0]["form"] == "plain float32"
    assert step["rows"][1]["seconds"] == "no time left"
    text, printed = (tmp_path / "out" / "bench.md").read_text(), capsys.readouterr().out
    assert "| figure | unit | value |\n| --- | --- | ---: |\n| arcpipe vote | s |" in text
    for one in written["parts"]:
        assert f"## {one['title']}\n" in text
        assert one["title"] in printed


def test_no_stage_begins_when_the_time_is_up(tmp_path: Path) -> None:
    bench_all(parts_for(on_gpu=False, quick=True, scratch=tmp_path), tmp_path / "out", max_minutes=0)
    found = json.loads((tmp_path / "out" / "bench.json").read_bytes())["parts"]
    assert {one["title"] for one in found} == {"Training step, small", "Inference", "Vote", "Data"}
    assert {one["failure"] for one in found} == {"not begun: the time was up"}


def test_without_a_model_one_is_made_up_and_no_accuracy_compared(tmp_path: Path) -> None:
    (part,) = (
        part for part in parts_for(on_gpu=False, quick=True, scratch=tmp_path) if part.title == "Inference"
    )
    bench_all([part], tmp_path / "out")
    (found,) = json.loads((tmp_path / "out" / "bench.json").read_bytes())["parts"]
    assert len(found["commands"]) == 3
    assert found["note"].endswith("(sudoku-4x4 --steps 20): no accuracy is compared")
    assert list(found["rows"][0]) == ["way", "grids/s", "ratio", "steps", "agreement"]


def test_a_given_model_is_taken_as_it_is(tmp_path: Path) -> None:
    parts = parts_for(on_gpu=True, quick=False, scratch=tmp_path, model=["run", "data"])
    assert [part.needs for part in parts] == [[]] * 5
    commands = [" ".join(part.command) for part in parts]
    assert all("bench train" in command and "--batch-size 768" in command for command in commands[:2])
    assert commands[2].startswith("bench infer --checkpoint run --data data ")


def test_wrong_options_of_all_stages_are_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "runs" / "bench").mkdir(parents=True)
    assert fail("bench", cwd=tmp_path).startswith("runs/bench exists already: ")
    assert fail("bench", "--out", "x", "--data", "d", cwd=tmp_path).startswith("--checkpoint and --data go")
    said = fail("bench", "--quick", "vote", cwd=tmp_path)
    assert said == "--quick before vote: is for all stages; see arcpipe bench vote --help"
