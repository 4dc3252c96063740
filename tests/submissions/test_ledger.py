"""The ledger has whole lines and one entry per file; a score is printed even if it cannot be entered."""

import logging
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import orjson
import pytest

from arcpipe.runs import file_hash, make_manifest, write_json
from arcpipe.submissions.ledger import add_fact, enter_file, read_ledger
from arcpipe.task import Task, solutions_json
from commands import environment, run_here, succeed_here
from files import json_of
from limited import largest_file

Content = dict[str, Any]
WRITER = """
import sys
from pathlib import Path
from arcpipe.submissions.ledger import add_fact
ledger, name, count = sys.argv[1:]
for number in range(int(count)):
    add_fact(Path(ledger), "ab" * 32, "kaggle", reference=f"{name}-{number}", score=number, note="x" * 200)
"""
ONE, OTHER = "1" * 64, "1" * 60 + "2222"


def run(*words: object) -> str:
    return succeed_here("submissions", *words)


@pytest.mark.parametrize("names", ["ab", "aa"])
def test_two_processes_append_whole_lines_and_each_fact_once(ledger: Path, names: str) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(ledger), name, "300"], env=environment())
        for name in names
    ]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    *lines, last = ledger.read_bytes().split(b"\n")
    assert last == b""
    references = [orjson.loads(line)["reference"] for line in lines]
    for name in set(names):
        mine = [reference for reference in references if reference[0] == name]
        assert mine == [f"{name}-{number}" for number in range(300)]
    [entry] = read_ledger(ledger)
    assert len(entry.kaggle) == len(lines) == 300 * len(set(names))


def test_a_fact_is_added_once_and_nothing_is_ever_changed(ledger: Path, file: Path) -> None:
    for reference, score, sha256 in (("r1", 0.1, ONE), ("r1", 0.2, ONE), ("r1", 0.1, OTHER)):
        before = ledger.read_bytes() if ledger.exists() else b""
        add_fact(ledger, sha256, "kaggle", reference=reference, score=score)
        once = ledger.read_bytes()
        add_fact(ledger, sha256, "kaggle", reference=reference, score=score)
        assert once.startswith(before)
        assert before != once == ledger.read_bytes()
    assert [len(entry.kaggle) for entry in read_ledger(ledger)] == [2, 1]

    copied = shutil.copy(file, "copy.json")
    for path in (file, file, Path(copied)):
        assert enter_file(ledger, path) == file_hash(path)
    assert read_ledger(ledger)[-1].files == ["submission.json", "copy.json"]


@pytest.mark.parametrize("kept", [1, 60, -2, -1])
def test_an_interrupted_writer_does_no_harm(
    ledger: Path, kept: int, caplog: pytest.LogCaptureFixture
) -> None:
    for reference in ("r1", "r2"):
        add_fact(ledger, ONE, "kaggle", reference=reference, score=0.1)
    first, torn = ledger.read_bytes().splitlines()
    ledger.write_bytes(first + b"\n" + torn[:kept])

    [entry] = read_ledger(ledger)
    assert [fact["reference"] for fact in entry.kaggle] == ["r1"]
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        f"{ledger}: line 2 is cut off and left out: a writer was interrupted"
    ]
    add_fact(ledger, ONE, "kaggle", reference="r2", score=0.1)
    assert ledger.read_bytes().startswith(first + b"\n" + torn[:kept] + b"\n")
    [entry] = read_ledger(ledger)
    assert [fact["reference"] for fact in entry.kaggle] == ["r1", "r2"]


@pytest.fixture
def scored(content: Content, file: Path, ledger: Path) -> tuple[str, str]:
    """The hashes of two scored submissions; the first has a manifest, of a merge, and a score on Kaggle."""
    succeed_here("merge", file, "--challenges", "challenges.json", "--out", "merged.json")
    write_json(file, {"one": content["one"]})
    succeed_here("score", "merged.json", "solutions.json", "--with", file)
    merged, other = (file_hash(path) for path in (Path("merged.json"), file))
    add_fact(ledger, merged, "kaggle", reference="52345", score=0.125)
    return merged, other


def test_a_score_is_entered_once_with_its_set(ledger: Path, scored: tuple[str, str]) -> None:
    first, second = read_ledger(ledger)
    assert (first.sha256, second.sha256) == scored
    assert (first.made_by["rule"], second.made_by) == ("order", {})
    assert first.made_by["versions"].keys() >= {"arcpipe", "python"}
    [score] = second.scores
    assert score["set"] == "a set of 2 tasks and 3 test outputs"
    assert score["pass_at_2"]["mean_over_outputs"] == pytest.approx(1 / 3)

    before = ledger.read_bytes()
    said = run_here("score", "merged.json", "solutions.json").stderr
    assert said.splitlines()[0] == f"merged.json is {scored[0][:8]} in {ledger}"
    assert ledger.read_bytes() == before


def test_entries_are_listed_and_shown(scored: tuple[str, str]) -> None:
    one, two = (sha256[:8] for sha256 in scored)
    _, *lines = run("list").splitlines()
    assert [line.split()[0] for line in lines[::2]] == [one, two]
    assert lines[0].split()[3:] == ["100.00%", "0.125", "merged.json"]
    assert lines[1].startswith("    of a set of 2 tasks and 3 test outputs")
    # One of two tasks is solved, one of three test outputs.
    assert lines[2].split()[3:] == ["50.00%", "-", "submission.json"]
    document = orjson.loads(run("list", "--json"))
    assert document[0]["kaggle"][0]["reference"] == "52345"
    assert [entry["files"] for entry in document] == [["merged.json"], ["submission.json"]]

    parts = (
        f"{scored[0]}, entered ",
        "\nscore         pass@2 100.00% of tasks, 100.00% of outputs; pass@1 ",
        "; solved 2 of 2 tasks wholly, 3 of 3 test outputs\n",
        "\nKaggle score  0.125\n  reference     52345\n",
        "\nmade by\n",
        "\n  rule          order\n",
        "\n  command       arcpipe ",
        "\n  versions      arcpipe 0",
    )
    for name in ("merged.json", one, one[:4].upper()):
        text = run("show", name)
        places = [text.find(part) for part in parts]
        assert (places[0], places) == (0, sorted(places)), text
        # Nothing as Python writes it, and nothing that is not known.
        assert re.findall(r"None|True|False|\[\]|[{}']", text) == []
    document = orjson.loads(run("show", "merged.json", "--json"))
    assert document["made_by"] == json_of(Path("merged.manifest.json"))


def test_two_entries_are_compared(scored: tuple[str, str], file: Path) -> None:
    one, two = (sha256[:8] for sha256 in scored)
    lines = run("compare", "merged.json", file).splitlines()
    assert lines[0] == f"{one} -> {two}"
    place = "score.a set of 2 tasks and 3 test outputs"
    assert f"{place}.pass_at_2.solved_outputs: 3 -> 1" in lines
    assert "made_by.rule: order -> unknown" in lines
    # The loss is in one of two tasks only, so resamples without that task have no difference.
    assert lines[-4:] == [
        f"{two} against {one}",
        "mean over tasks (Kaggle, ARC Prize)   50.00%   -50.00 points [-100.0, +0.0]",
        "mean over test outputs                33.33%   -66.67 points [-100.0, +0.0]",
        "no real difference: 0 is inside the 95% interval over tasks",
    ]
    assert not re.search(r"^made_by: |\.num_tasks|\.host|created", "\n".join(lines), re.MULTILINE)
    swapped = run("compare", file, "merged.json").splitlines()
    assert "made_by.rule: unknown -> order" in swapped
    assert len(swapped) == len(lines)
    document = orjson.loads(run("compare", "merged.json", file, "--json"))
    assert document["changes"]["made_by.rule"] == ["order", None]
    assert document["comparison"]["others"][0]["is_real"] is False
    assert (document["why_not"], document["kaggle"]) == ("", None)
    assert run("compare", one, one) == "the same submission\n"
    file.write_text("{}")
    gone = run("compare", one, two).splitlines()[-1]
    assert gone == "not compared task by task: submission.json: gone, or changed since it was entered"


CORRECTED = ("--corrections", "corrected.json")


@pytest.mark.parametrize(("source", "first", "second", "groups"), [
    ("solutions.json", (), (), [1, 0, 2, 0]),
    ("tasks", (), (), [1, 0, 2, 0]),
    ("data", (), (), [1, 0, 2, 0]),
    ("tasks", ("--leave-out", "two"), ("--leave-out", "two"), [1, 0, 0, 0]),
    ("data", CORRECTED, CORRECTED, [1, 0, 0, 2]),
    ("tasks", (), ("--leave-out", "two"), None),
    ("tasks", CORRECTED, (), None),
])  # fmt: skip
def test_entries_are_compared_on_what_they_were_scored_on(
    tasks: list[Task], content: Content, ledger: Path, source: str, first: Sequence[str],
    second: Sequence[str], groups: list[int] | None,
) -> None:  # fmt: skip
    """The first solves one test output, the second all three, before `two` is corrected."""

    def solved(outputs: list[Any]) -> dict[str, Any]:
        tests = [{"input": [[7]], "output": output} for output in outputs]
        return {"train": [{"input": [[1]], "output": [[2]]}], "test": tests}

    for task_id, outputs in solutions_json(tasks).items():
        write_json(Path("tasks") / f"{task_id}.json", solved(outputs))
    write_json(Path("data/manifest.json"), make_manifest("dataset"))
    shutil.copy("solutions.json", "data")
    write_json(Path("corrected.json"), {"two": solved([[[8]]] * 2)})
    files = {"first.json": {"one": content["one"]}, "second.json": content}
    for (name, attempts), flags in zip(files.items(), (first, second), strict=True):
        write_json(Path(name), attempts)
        succeed_here("score", name, source, *flags)
    text = run("compare", *files)
    if groups is None:
        why = "they were not scored on one set with the same --leave-out and --corrections"
        assert text.endswith(f"\n\nnot compared task by task: {why}\n")
        return
    _, counts, *_ = text.split("\n\n")
    assert [int(line.split()[-1]) for line in counts.splitlines()[1:]] == groups
    # An older version did not enter the source of the corrections.
    ledger.write_bytes(ledger.read_bytes().replace(b',"corrections":["corrected.json"]', b""))
    again = run("compare", *files)
    assert ("where their corrections come from: score both again" in again) == (first == CORRECTED)


BEFORE = b"""\
{"sha256":"%(one)s","fact":"file","file":"a.json","made_by":null,"time":"2026-10-01T12:00:00+00:00"}
{"sha256":"%(one)s","fact":"score","set":"a set of 2 tasks and 4 test outputs","fingerprint":"f",\
"num_tasks":2,"num_outputs":4,"solutions":"s.json","pass_at_1":{"solved_outputs":1,\
"mean_over_outputs":0.25,"mean_over_tasks":0.5,"solved_tasks":1},"pass_at_2":{"solved_outputs":2,"mean_over_outputs":0.5,"mean_over_tasks":0.6666666666666666,\
"solved_tasks":1},"time":"2026-10-01T12:00:01+00:00"}
{"sha256":"%(one)s","fact":"kaggle","competition":"c","reference":7,"kernel":"n/k","kernel_version":1,\
"score":"27.64","time":"2026-10-02T12:00:00+00:00"}
""" % {b"one": ONE.encode()}


def test_the_ledger_of_an_older_version_keeps_its_numbers_under_their_names(ledger: Path) -> None:
    ledger.parent.mkdir()
    ledger.write_bytes(BEFORE)
    # The list shows the mean over tasks, like Kaggle.
    listed = run("list").splitlines()
    assert len(listed) == 3
    assert listed[1].split()[3:5] == ["66.67%", "27.64"]
    assert listed[2] == "    of a set of 2 tasks and 4 test outputs"
    shown = run("show", ONE)
    assert "\nscore         pass@2 66.67% of tasks, 50.00% of outputs; pass@1 50.00% of tasks, 25" in shown
    assert "; solved 1 of 2 tasks wholly, 2 of 4 test outputs\n" in shown
    assert "\nmade by" not in shown


def add_run(ledger: Path, bundle: str, reference: int, score: str, *, recipe: str = "r") -> None:
    add_fact(
        ledger, ONE, "kaggle", competition="c", reference=reference, kernel="n/k", kernel_version=reference,
        score=score, bundle=bundle, made_by={"recipe": recipe},
    )  # fmt: skip


def test_repeats_of_a_bundle_are_grouped_and_tell_what_is_real(ledger: Path) -> None:
    """Both bundles leave the same submission file: the scored one is made later, from the hidden tasks."""
    ledger.parent.mkdir()
    ledger.write_bytes(BEFORE)
    a, b = "a" * 64, "b" * 64

    both = ("compare", "aaaa", "bbbb")
    add_run(ledger, a, 1, "27.64")
    add_run(ledger, b, 2, "31.39", recipe="s")
    said = run(*both)
    assert "on Kaggle 27.64 -> 31.39, +3.75: one run each" in said
    assert "made_by.recipe: r -> s\n" in said
    add_run(ledger, a, 3, "33.9")
    assert ", +0.62: inside the spread of repeats\n" in run(*both)
    add_run(ledger, b, 4, "40")
    assert "30.77 (2 runs, 27.64 to 33.90) -> 35.70 (2 runs, 31.39 to 40.00), +4.93: inside" in run(*both)
    add_run(ledger, "c" * 64, 5, "12.5")
    assert "-> 12.50, -23.20: outside the spread of repeats\n" in run("compare", "bbbb", "cccc")
    rows = [line.split() for line in run("list").splitlines()]
    assert rows[-4][:6] == ["bundle", "scored", "runs", "mean", "lowest", "highest"]
    assert [[row[0], *row[3:]] for row in rows[-3:]] == [
        ["aaaaaaaa", "2", "30.77", "27.64", "33.90", "n/k"],
        ["bbbbbbbb", "2", "35.70", "31.39", "40.00", "n/k"],
        ["cccccccc", "1", "12.50", "12.50", "12.50", "n/k"],
    ]


@pytest.mark.usefixtures("no_locks")
def test_a_ledger_without_locks(ledger: Path, file: Path) -> None:
    words = ("score", file, "solutions.json")
    done = run_here(*words)
    assert (done.returncode, done.stdout) == (0, run_here(*words, "--no-ledger").stdout), done.stderr
    warning, entered, _ = done.stderr.splitlines()
    assert warning.startswith(f"{ledger}: cannot be locked (")
    assert entered == f"{file} is {file_hash(file)[:8]} in {ledger}"
    listed = run_here("submissions", "list")
    # Reading needs no lock, so it does not warn.
    assert (listed.returncode, listed.stderr.count("\n"), listed.stderr[:6]) == (0, 1, "next: ")
    assert f"{file_hash(file)[:8]}  " in listed.stdout


@pytest.mark.parametrize("ledger", ["a-folder", "a-file/ledger.jsonl", "/dev/full", "full-disk.jsonl"])
@pytest.mark.usefixtures("here")
def test_a_ledger_that_cannot_be_written_is_a_warning(content: Content, ledger: str) -> None:
    Path("a-folder").mkdir()
    Path("a-file").touch()
    write_json(Path("other.json"), {"one": content["one"]})
    words = ("score", "submission.json", "solutions.json", "--with", "other.json", "--json")
    disk: AbstractContextManager[None] = largest_file(100) if "disk" in ledger else nullcontext()
    with disk:
        done = run_here(*words, "--ledger", ledger)
    assert (done.returncode, done.stdout) == (0, run_here(*words, "--no-ledger").stdout)
    assert not Path("runs").exists()
    [warning] = done.stderr.splitlines()
    assert warning.startswith(f"{ledger}: cannot be written (")
    assert warning.endswith("): not entered; --ledger names another ledger, --no-ledger none")
