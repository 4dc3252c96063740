"""The ledger keeps whole lines, one entry per file, and finds it again."""

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
import typer
from typer.testing import CliRunner, Result

from arcpipe.errors import ArcpipeError, DataError, OutputError
from arcpipe.runs import file_hash
from arcpipe.submissions.format import manifest_path
from arcpipe.submissions.ledger import add_fact, enter_file, find_entry, read_ledger
from commands import environment

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


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "ledger.jsonl"


def write_in_two(ledger: Path, *names: str, count: int) -> list[int]:
    """The exit codes of processes that write at the same time, each as many facts under its name."""
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(ledger), name, str(count)], env=environment())
        for name in names
    ]
    return [writer.wait(timeout=60) for writer in writers]


def test_two_processes_append_500_times_each(ledger: Path) -> None:
    assert write_in_two(ledger, "a", "b", count=500) == [0, 0]
    lines = ledger.read_bytes().split(b"\n")
    assert (len(lines), lines[-1]) == (1001, b"")
    references = [orjson.loads(line)["reference"] for line in lines[:-1]]
    assert sorted(references) == sorted(f"{name}-{number}" for name in "ab" for number in range(500))
    assert [one for one in references if one[0] == "a"] == [f"a-{number}" for number in range(500)]
    [entry] = read_ledger(ledger)
    assert len(entry.kaggle) == 1000


def test_two_processes_with_the_same_facts_enter_each_once(ledger: Path) -> None:
    assert write_in_two(ledger, "a", "a", count=200) == [0, 0]
    references = [orjson.loads(line)["reference"] for line in ledger.read_bytes().splitlines()]
    assert references == [f"a-{number}" for number in range(200)]


def test_a_file_entered_twice_is_one_entry(ledger: Path, file: Path) -> None:
    file.write_text("{}")
    sha256 = enter_file(ledger, file)
    before = ledger.read_bytes()
    assert enter_file(ledger, file) == sha256 == file_hash(file)
    assert ledger.read_bytes() == before

    copied = file.with_name("copy.json")
    copied.write_text("{}")
    assert enter_file(ledger, copied) == sha256
    [entry] = read_ledger(ledger)
    assert [fact["file"] for fact in entry.files] == [str(file), str(copied)]


def test_a_fact_is_added_once_and_nothing_is_ever_changed(ledger: Path) -> None:
    assert add_fact(ledger, ONE, "kaggle", reference="r1", score=0.1)
    first = ledger.read_bytes()
    assert not add_fact(ledger, ONE, "kaggle", reference="r1", score=0.1)
    assert add_fact(ledger, ONE, "kaggle", reference="r1", score=0.2)
    assert add_fact(ledger, OTHER, "kaggle", reference="r1", score=0.1)
    assert ledger.read_bytes().startswith(first)
    assert [len(entry.kaggle) for entry in read_ledger(ledger)] == [2, 1]


@pytest.mark.parametrize("kept", [1, 60, -2, -1])
def test_what_an_interrupted_writer_left_is_said_and_does_no_harm(
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
    assert add_fact(ledger, ONE, "kaggle", reference="r2", score=0.1)
    assert ledger.read_bytes().startswith(first + b"\n" + torn[:kept] + b"\n")
    [entry] = read_ledger(ledger)
    assert [fact["reference"] for fact in entry.kaggle] == ["r1", "r2"]


@pytest.mark.parametrize(
    "line", ['{"sha256": "ab"}', '{"sha256": "ab", "fact": "other"}', '{"sha256": [1], "fact": "file"}']
)
def test_a_line_that_is_no_fact_is_refused_with_its_number(ledger: Path, line: str) -> None:
    add_fact(ledger, ONE, "kaggle", reference="r1", score=0.1)
    with ledger.open("a") as appended:
        appended.write(f"{line}\n")
    with pytest.raises(DataError, match="line 2 is no fact about a submission"):
        read_ledger(ledger)


def test_a_ledger_that_cannot_be_is_one_error(tmp_path: Path, file: Path) -> None:
    file.write_text("{}")
    with pytest.raises(OutputError, match="cannot be written"):
        enter_file(file / "ledger.jsonl", file)
    with pytest.raises(DataError, match="none: cannot be read"):
        enter_file(tmp_path / "ledger.jsonl", tmp_path / "none")
    with pytest.raises(DataError, match="no ledger here"):
        read_ledger(tmp_path / "ledger.jsonl")
    assert sorted(tmp_path.iterdir()) == [file]


def test_an_entry_is_found_by_its_file_or_the_beginning_of_its_hash(ledger: Path, file: Path) -> None:
    file.write_text("{}")
    sha256 = enter_file(ledger, file)
    add_fact(ledger, ONE, "kaggle", score=1)
    add_fact(ledger, OTHER, "kaggle", score=2)
    entries = read_ledger(ledger)
    for wanted in (str(file), sha256, sha256[:4], sha256[:8].upper()):
        assert find_entry(entries, wanted, ledger).sha256 == sha256
    for wanted, message in {
        "1111": "2 submissions begin so",
        "123": "at least 4 characters",
        "beef": "not in",
    }.items():
        with pytest.raises(ArcpipeError, match=message):
            find_entry(entries, wanted, ledger)


def run(app: typer.Typer, ledger: Path, *arguments: object) -> Result:
    result = CliRunner().invoke(app, [*map(str, arguments), "--ledger", str(ledger)])
    assert result.exit_code == 0, result.exception
    return result


@pytest.fixture
def scored(
    app: typer.Typer, ledger: Path, content: Content, file: Path, challenges: Path, solutions: Path
) -> tuple[Path, Path]:
    """Two scored submissions, the first merged from others, so that it has a manifest."""
    file.write_bytes(orjson.dumps(content))
    merged = file.with_name("merged.json")
    words = ["merge", file, "--challenges", challenges, "--out", merged]
    assert CliRunner().invoke(app, list(map(str, words))).exit_code == 0
    file.write_bytes(orjson.dumps({"one": content["one"]}))
    run(app, ledger, "score", merged, solutions, "--with", file)
    return merged, file


def test_a_score_is_entered_once_with_its_set_and_what_made_the_file(
    app: typer.Typer, ledger: Path, scored: tuple[Path, Path], solutions: Path
) -> None:
    merged, other = scored
    before = ledger.read_bytes()
    result = run(app, ledger, "score", merged, solutions)
    assert result.stderr == f"{merged} is {file_hash(merged)[:8]} in {ledger}\n"
    assert ledger.read_bytes() == before
    first, second = read_ledger(ledger)
    assert (first.sha256, second.sha256) == (file_hash(merged), file_hash(other))
    assert (first.made_by["rule"], second.made_by) == ("order", {})
    assert first.made_by["versions"].keys() >= {"arcpipe", "python"}
    [score] = second.scores
    assert score["set"] == "a set of 2 tasks and 3 test outputs"
    assert score["pass_at_2"]["mean_over_outputs"] == pytest.approx(1 / 3)


def test_without_a_ledger_nothing_is_entered(
    app: typer.Typer, content: Content, file: Path, solutions: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    file.write_bytes(orjson.dumps(content))
    before = sorted(tmp_path.rglob("*"))
    result = CliRunner().invoke(app, ["score", str(file), str(solutions), "--no-ledger"])
    assert (result.exit_code, result.stderr) == (0, "")
    assert sorted(tmp_path.rglob("*")) == before
    CliRunner().invoke(app, ["score", str(file), str(solutions)])
    assert (tmp_path / "runs" / "ledger.jsonl").exists()


def test_a_refused_submission_is_not_entered(
    app: typer.Typer, ledger: Path, content: Content, file: Path, solutions: Path
) -> None:
    file.write_bytes(orjson.dumps(content | {"three": []}))
    words = ["score", str(file), str(solutions), "--ledger", str(ledger)]
    assert isinstance(CliRunner().invoke(app, words).exception, DataError)
    assert not ledger.exists()


def test_list_has_a_line_per_submission(app: typer.Typer, ledger: Path, scored: tuple[Path, Path]) -> None:
    merged, other = scored
    add_fact(ledger, file_hash(merged), "kaggle", reference="52345", score=0.125)
    heading, *lines = run(app, ledger, "submissions", "list").stdout.splitlines()
    assert heading.split()[0] == "hash"
    assert [line.split()[0] for line in lines] == [file_hash(path)[:8] for path in scored]
    assert "100.00% of a set of 2 tasks and 3 test outputs  0.125" in lines[0]
    assert lines[1].endswith(str(other))
    document = orjson.loads(run(app, ledger, "submissions", "list", "--json").stdout)
    assert document[0]["kaggle"][0]["reference"] == "52345"
    assert [entry["files"] for entry in document] == [[str(merged)], [str(other)]]


def test_a_line_with_the_means_in_another_order_is_the_same_fact(
    app: typer.Typer, ledger: Path, scored: tuple[Path, Path], solutions: Path
) -> None:
    lines = [orjson.loads(line) for line in ledger.read_bytes().splitlines()]
    for line in lines:
        for key in line.keys() & {"pass_at_1", "pass_at_2"}:
            line[key] = dict(reversed(line[key].items()))
    ledger.write_bytes(b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines))
    before = ledger.read_bytes()
    run(app, ledger, "score", scored[1], solutions)
    assert ledger.read_bytes() == before
    assert " 50.00% of a set of 2 tasks" in run(app, ledger, "submissions", "list").stdout


def test_show_says_all_that_is_known(app: typer.Typer, ledger: Path, scored: tuple[Path, Path]) -> None:
    merged, _ = scored
    for wanted in (merged, file_hash(merged)[:8]):
        text = run(app, ledger, "submissions", "show", wanted).stdout
        assert f"sha256: {file_hash(merged)}\n" in text
        assert "made_by.rule: order\n" in text
        assert "scores.0.pass_at_2.solved_outputs: 3\n" in text
    document = orjson.loads(run(app, ledger, "submissions", "show", merged, "--json").stdout)
    assert document["made_by"] == orjson.loads(manifest_path(merged).read_bytes())


def test_compare_says_what_differs_and_nothing_else(
    app: typer.Typer, ledger: Path, scored: tuple[Path, Path]
) -> None:
    merged, other = scored
    lines = run(app, ledger, "submissions", "compare", merged, other).stdout.splitlines()
    assert lines[0] == f"{file_hash(merged)[:8]} -> {file_hash(other)[:8]}"
    place = "score.a set of 2 tasks and 3 test outputs"
    assert f"{place}.pass_at_2.solved_outputs: 3 -> 1" in lines
    assert "made_by.rule: order -> None" in lines
    assert not [line for line in lines if ".num_tasks" in line or ".host" in line or "created" in line]

    swapped = run(app, ledger, "submissions", "compare", other, merged).stdout.splitlines()
    assert "made_by.rule: None -> order" in swapped
    assert len(swapped) == len(lines)

    document = orjson.loads(run(app, ledger, "submissions", "compare", merged, other, "--json").stdout)
    assert document["changes"]["made_by.rule"] == ["order", None]
    same = run(app, ledger, "submissions", "compare", merged, merged).stdout
    assert same == "the same submission\n"
