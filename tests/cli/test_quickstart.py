"""`arcpipe quickstart`, in miniature: what it leaves, that it goes on, and that it repeats itself."""

import json
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from arcpipe.runs import read_manifest
from commands import arcpipe_command, environment, fail_here, run_here, succeed_here

STAGES = ["augment", "train", "infer", "vote"]
PATIENCE_S = 60


def table_of(stdout: str) -> dict[str, list[str]]:
    """The printed table: title -> its words."""
    rows = re.findall(r"^(tasks \(Kaggle\)|test outputs|seconds) +(.*)$", stdout, re.MULTILINE)
    return {title: words.split() for title, words in rows}


def wait_for(file: Path) -> None:
    """Until the file has a line."""
    give_up = time.monotonic() + PATIENCE_S
    while not (file.exists() and file.stat().st_size):
        assert time.monotonic() < give_up, f"nothing in {file}"
        time.sleep(0.005)


def steps_in(metrics: Path) -> list[int]:
    return [json.loads(line)["step"] for line in metrics.read_text().splitlines()]


def test_it_leaves_every_file_and_names_the_ones_to_open(mini: Any) -> None:
    made = {path.name for path in mini.folder.iterdir()}
    assert {"data", "run", "predictions", "submission.json", "tasks.csv", "manifest.json"} <= made
    assert not [path for path in mini.cwd.rglob("*") if path.name.endswith(".tmp")]
    for kind in ("dataset", "run", "predictions"):
        read_manifest(mini.folder / kind.replace("dataset", "data"), kind)
    named = re.findall(r"^(runs/\S+)  ", mini.stdout, re.MULTILINE)
    assert len(named) == 3
    assert all((mini.cwd / path).is_file() for path in named)
    assert [command[0] for command in mini.commands] == STAGES


def test_its_table_holds_the_score_and_the_seconds_of_each_stage(mini: Any) -> None:
    assert re.search(r"^ +pass@1 +pass@2$", mini.stdout, re.MULTILINE)
    table = table_of(mini.stdout)
    assert table["seconds"][::2] == STAGES
    assert all(word.isdigit() for word in table["seconds"][1::2])

    files = (mini.folder / "submission.json", mini.folder / "data" / "solutions.json")
    score = json.loads(succeed_here("score", *files, "--json", cwd=mini.cwd))
    one, two = score["pass_at_1"], score["pass_at_2"]
    for title, mean in {"tasks (Kaggle)": "mean_over_tasks", "test outputs": "mean_over_outputs"}.items():
        assert table[title][:2] == [f"{one[mean]:.3f}", f"{two[mean]:.3f}"]
    outputs, tasks = score["num_outputs"], score["num_tasks"]
    assert table["test outputs"][2:] == f"{two['solved_outputs']} of {outputs} solved".split()
    assert table["tasks (Kaggle)"][2:] == f"{two['solved_tasks']} of {tasks} solved wholly".split()
    assert len((mini.folder / "tasks.csv").read_text().splitlines()) == 1 + outputs


def test_a_second_call_prints_the_same_and_runs_nothing_again(mini: Any, tiny: list[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in mini.folder.rglob("*") if path.is_file()}
    done = run_here("quickstart", *tiny, cwd=mini.cwd)
    assert (done.returncode, done.stdout.strip()) == (0, mini.stdout.partition("\n\n")[2].strip())
    assert "$ arcpipe" not in done.stderr
    assert [line.split()[-5] for line in done.stderr.splitlines()] == STAGES
    assert {path: path.stat().st_mtime_ns for path in mini.folder.rglob("*") if path.is_file()} == before


def test_the_printed_commands_make_the_same_submission(mini: Any, tmp_path: Path) -> None:
    folder = str(mini.folder.relative_to(mini.cwd))
    for command in mini.commands:
        succeed_here(*(word.replace(folder, "by-hand") for word in command), cwd=tmp_path)
    by_hand = tmp_path / "by-hand"
    assert (by_hand / "submission.json").read_bytes() == (mini.folder / "submission.json").read_bytes()
    for folder_name in ("data", "run", "predictions"):
        kind = folder_name.replace("data", "dataset")
        quick, hand = (read_manifest(root / folder_name, kind) for root in (mini.folder, by_hand))
        assert quick["recipe"] == hand["recipe"]


def test_an_interrupted_one_goes_on_to_the_same_end(mini: Any, tiny: list[str], tmp_path: Path) -> None:
    out = tmp_path / "stopped"
    metrics = out / "run" / "metrics.jsonl"
    arguments = ("quickstart", *tiny, "--out", out)
    process = subprocess.Popen(
        arcpipe_command(*arguments), cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True
    )
    try:
        wait_for(metrics)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    last_step = read_manifest(out / "run", "run")["recipe"]["train"]["steps"]
    stopped_at = steps_in(metrics)[-1]
    assert process.returncode == 2
    assert stderr.splitlines()[-1].startswith("arcpipe: interrupted; the same command goes on")
    assert f"stopped at step {stopped_at} on a signal" in stderr
    assert 1 <= stopped_at < last_step
    assert not (out / "submission.json").exists()

    succeed_here(*arguments, cwd=tmp_path)
    assert steps_in(metrics) == list(range(1, last_step + 1))
    assert (out / "submission.json").read_bytes() == (mini.folder / "submission.json").read_bytes()


def test_a_finished_one_is_neither_mixed_nor_overwritten(mini: Any, tiny: list[str]) -> None:
    folder = mini.folder.relative_to(mini.cwd)
    for arguments, message in {
        ("--set", "train.lr=0.5"): f"{folder} was made with other settings",
        ("--out", str(folder)): f"{folder} exists already",
    }.items():
        assert fail_here("quickstart", *tiny, *arguments, cwd=mini.cwd).startswith(message)
