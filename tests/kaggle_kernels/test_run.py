"""`arcpipe kaggle run`: whatever fails, a complete submission, exit code 0, and a report of the losses."""

import json
import os
import subprocess
import textwrap
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arcpipe.errors import IN_FLOAT16, NOT_FINITE
from arcpipe.kaggle_kernels import clock
from arcpipe.kaggle_kernels.clock import (
    Devices,
    Journal,
    KaggleSettings,
    Outcome,
    Window,
    adapt_overrides,
    make_budget,
    run_processes,
)
from arcpipe.kaggle_kernels.mounts import bundles, find_file
from arcpipe.kaggle_kernels.rehearse import LAYOUTS
from arcpipe.kaggle_kernels.run import Pipeline, has_buckets, read_hidden_tasks
from commands import run_here
from entries import (
    RERUN,
    TASKS,
    hidden_task,
    hidden_tasks,
    make_bundle,
    make_checkpoint,
    make_root,
    write_challenges,
)
from files import changing, forget_hashes, json_of
from limited import largest_file
from processes import wait_until


def answers_of(root: Path, tasks: Mapping[str, Any]) -> dict[str, Any]:
    """The submission, after checking that it answers exactly all tests of these tasks with grids."""
    answers: dict[str, Any] = json.loads((root / "working" / "submission.json").read_bytes())
    assert list(answers) == list(tasks)
    for name, task in tasks.items():
        tests = task["test"] if isinstance(task, dict) else [None]
        assert len(answers[name]) == len(tests)
        for entry in answers[name]:
            assert entry.keys() == {"attempt_1", "attempt_2"}
            for grid in entry.values():
                assert all(0 <= cell <= 9 for row in grid for cell in row)
                assert {len(row) for row in grid} == {len(grid[0])}
    return answers


def run(
    root: Path, minutes: float = 10, disk: AbstractContextManager[None] | None = None
) -> tuple[dict[str, Any], str]:
    """The report and the output of a run that must succeed."""
    with disk or nullcontext():
        done = run_here("kaggle", "run", "--root", root, "--minutes", minutes, env=RERUN, code=0)
    return json_of(root / "working" / "arcpipe-report.json"), done.stdout


def workers() -> list[psutil.Process]:
    """The processes of adaptation that a run has started."""
    return [child for child in psutil.Process().children() if "adapt" in child.cmdline()]


def kill_the_second() -> None:
    """Kill one of two processes of adaptation as soon as there are two."""
    wait_until(lambda: len(workers()) > 1, every_s=0.02)
    workers()[1].kill()


@pytest.mark.usefixtures("quick_stages")
def test_every_test_of_every_task_is_answered_though_a_worker_is_killed(tmp_path: Path) -> None:
    checkpoint = make_checkpoint(tmp_path / "checkpoint")
    with changing(checkpoint / "model.json") as facts:
        facts["config"]["buckets"] = [3]
    # The batch is too small for two processes on two canvases.
    small = ("adapt.steps=5", "adapt.batch_size=8", "kaggle.cpu_processes=2")
    bundle = make_bundle(forget_hashes(checkpoint), tmp_path / "bundle", *small)
    pair = {"input": [[1, 2]], "output": [[2, 1]]}
    tasks = {
        **TASKS,
        "small": {"train": [pair, pair], "test": [{"input": [[3, 4]]}]},
        "broken": {"train": [], "test": [{"input": [[1]]}, {"input": [[2]]}]},
        "none": 3,
    }
    root = make_root(tmp_path / "kaggle", bundle, tasks)
    with ThreadPoolExecutor() as pool:
        killed = pool.submit(kill_the_second)
        report, printed = run(root)
        killed.result()
    answers = answers_of(root, tasks)
    nothing = {"attempt_1": [[0]], "attempt_2": [[0]]}
    assert answers["broken"] == [nothing] * 2
    assert answers["none"] == [nothing]
    assert len(answers["hidden-last"]) == 4
    assert (report["processes"], report["answered"]) == (2, report["outputs"] - 3)
    assert [stage["name"] for stage in report["stages"]] == ["adapt", "infer", "vote"]
    assert [stage["failed"] for stage in report["stages"]] == [False] * 3
    assert len(report["losses"]) == 3
    assert "broken" in report["losses"][0]
    assert "killed by signal 9" in report["losses"][2]
    assert "plan for 10 tasks with" in printed
    assert printed.index("complete with [[0]]") < printed.index("arcpipe adapt")
    log = (root / "working" / "arcpipe.log").read_text()
    assert all(line in log for line in printed.splitlines())
    assert "canvases: side 3: 1 task" in log
    assert list((root / "temp").iterdir()) == []


def test_a_clock_too_short_is_kept_and_what_is_lost_is_said(root: Path) -> None:
    tasks = hidden_tasks(4000)
    write_challenges(next(root.rglob("arc-agi_test_challenges.json")), tasks)
    report, _ = run(root, 0.1)
    assert report["seconds"] < 6 + 1
    answers_of(root, tasks)
    assert report["answered"] < report["outputs"]
    assert report["losses"]


@pytest.mark.usefixtures("quick_stages")
def test_a_full_disk_leaves_the_fallback(root: Path) -> None:
    report, _ = run(root, disk=largest_file(30_000))
    answers_of(root, TASKS)
    assert report["answered"] == 0
    assert any("cannot be written" in loss for loss in report["losses"])


@pytest.mark.usefixtures("quick_stages")
def test_damaged_weights_leave_the_fallback(root: Path) -> None:
    weights = next(root.rglob("model.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-100])
    report, _ = run(root)
    answers_of(root, TASKS)
    assert report["answered"] == 0
    assert "damaged checkpoint" in report["losses"][0]
    # A stage that would fail again is not repeated.
    assert (len(report["stages"]), len(report["losses"])) == (1, 2)


@pytest.mark.parametrize(
    ("tasks", "counts"),
    [({"a": None, "b": {"test": [{}, {}]}}, {"a": 1, "b": 2}), ({"a": {"train": 1, "test": "x"}}, {"a": 1})],
)
def test_tasks_that_none_can_read(root: Path, tasks: dict[str, Any], counts: dict[str, int]) -> None:
    write_challenges(next(root.rglob("arc-agi_test_challenges.json")), tasks)
    report, _ = run(root)
    answers: dict[str, Any] = json.loads((root / "working" / "submission.json").read_bytes())
    assert {name: len(entries) for name, entries in answers.items()} == counts
    assert report["losses"][-1] == "no task can be read"


@pytest.mark.parametrize(("mode", "flags", "code"), [
    ({}, (), 2), (RERUN, (), 0), ({}, ("--minutes", 10), 0),
], ids=["commit", "rerun", "rehearsal"])  # fmt: skip
def test_a_missing_gpu_fails_the_commit_run(
    mode: dict[str, str], flags: tuple[object, ...], code: int, root: Path
) -> None:
    """Without a task to read, no stage takes time."""
    for file in root.rglob("arc-agi_*_challenges.json"):
        write_challenges(file, {"none": 3})
    recipe = next(root.rglob("recipe.toml"))
    recipe.write_text(recipe.read_text().replace("gpus = 0", "gpus = 64"))
    done = run_here("kaggle", "run", "--root", root, *flags, env=mode, code=code)
    losses = json_of(root / "working" / "arcpipe-report.json")["losses"]
    said = " of 64 GPUs (kaggle.gpus) compute: choose the accelerator"
    assert (said in losses[-1], said in done.stderr) == (not flags, code == 2)


@pytest.mark.parametrize("layout", [*LAYOUTS.values(), ("", "other-name/a/b")])
@pytest.mark.parametrize("names", ["arc-agi_{}_challenges.json", "arc-agi_{}-challenges.json"])
def test_the_inputs_are_found_in_every_layout(layout: tuple[str, str], names: str, tmp_path: Path) -> None:
    places = {"competition": "arc-prize-2026-arc-agi-2", "owner": "someone", "slug": "entry-data"}
    competition, dataset = (tmp_path / "input" / place.format(**places) for place in layout)
    # Mount another competition and another dataset too.
    other = tmp_path / "input" / "competitions" / "another-competition"
    for folder in (competition, other, dataset, dataset.with_name("zzz")):
        folder.mkdir(parents=True, exist_ok=True)
    for folder in (competition, other):
        for name in ("test", "evaluation"):
            write_challenges(folder / names.format(name), {})
    (dataset / "bundle.json").write_text(json.dumps({"competition": places["competition"]}))
    line = run_here("kaggle", "run", "--root", tmp_path).stderr
    assert not (tmp_path / "working").exists()
    assert line.startswith(f"arcpipe: {competition / names.format('test')}: expected an object of tasks")
    top = tmp_path / "input"
    evaluation = competition / names.format("evaluation")
    assert find_file(top, places["competition"], "evaluation", "challenges") == evaluation
    assert bundles(top) == [dataset]


@given(
    minutes=st.floats(0.1, 1440), infer=st.floats(0, 800), vote=st.floats(0, 100), reserve=st.floats(0, 100)
)
def test_a_plan_ends_in_time(minutes: float, infer: float, vote: float, reserve: float) -> None:
    settings = KaggleSettings(infer_minutes=infer, vote_minutes=vote, reserve_minutes=reserve)
    plan = make_budget(settings, minutes)
    assert 0 < plan.adapt_s < plan.infer_s < plan.vote_s <= plan.total_s
    assert plan.total_s == pytest.approx(60 * minutes)


@given(
    batch=st.integers(1, 1000),
    parts=st.integers(1, 4),
    processes=st.integers(1, 8),
    halvings=st.integers(0, 3),
    units=st.sampled_from([1, 32]),
)
def test_memory_is_halved_and_the_batch_divides(
    batch: int, parts: int, processes: int, halvings: int, units: int
) -> None:
    table = {"batch_size": batch, "accumulation": parts}
    changed = table | adapt_overrides(table, processes, halvings, units)
    assert changed["accumulation"] == parts * 2**halvings
    assert changed["batch_size"] % (processes * changed["accumulation"]) == 0
    assert changed["batch_size"] >= processes * units
    if not batch % (processes * changed["accumulation"]) and batch >= processes * units:
        assert changed["batch_size"] == batch


OTHER_ENDED = "arcpipe: another process of this training has ended; what it said tells why"


@pytest.mark.parametrize(("codes", "lines", "expected"), [
    ((2,), ["arcpipe: out of memory with train.batch_size=384: lower it"], (True, False)),
    ((1, 0), ["torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "done"], (True, False)),
    ((2,), ["arcpipe: x: damaged checkpoint"], (False, True)),
    ((-9,), ["step 3"], (False, False)),
    ((0,), ["out of memory, it says, but it went on"], (False, False)),
    ((2, -9), [OTHER_ENDED, "step 3"], (False, False)),
    ((2, 2, -15), ["arcpipe: x: damaged checkpoint", OTHER_ENDED, "step 3"], (False, True)),
])  # fmt: skip
def test_what_ended_a_stage_counts(
    codes: tuple[int, ...], lines: list[str], expected: tuple[bool, bool]
) -> None:
    ended = Outcome(codes, late=False, tails=tuple((line,) for line in lines))
    assert (ended.out_of_memory, ended.refused) == expected
    assert ended.success or ended.text.endswith(f": {lines[0]}")


@pytest.fixture
def ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """A function that runs a script in the place of arcpipe, in two processes, for 60 seconds at most."""

    def run_ranks(script: str, seconds: float = 60.0, grace: float = 0.5, **how: Any) -> Outcome:
        (tmp_path / "arcpipe").mkdir()
        (tmp_path / "arcpipe" / "__init__.py").touch()
        (tmp_path / "arcpipe" / "__main__.py").write_text(f"{_SCRIPT}{textwrap.dedent(script)}")
        monkeypatch.chdir(tmp_path)
        end = time.monotonic() + seconds
        window = Window(end, end - grace, seconds - grace)
        # The script stands for the package, wherever that is installed.
        own = {"PYTHONPATH": str(tmp_path), "PYTHONSAFEPATH": ""}
        environments = [os.environ | own | {"RANK": rank} for rank in "01"]
        return run_processes([], environments, window, Journal(tmp_path / "log"), **how)

    return run_ranks


_SCRIPT = """
import os, signal, sys, time
rank = int(os.environ["RANK"])
"""


# A process that still runs is not waited for.
@pytest.mark.filterwarnings("ignore:subprocess")
@pytest.mark.parametrize(("dies", "seconds", "kill", "codes"), [
    (True, 60.0, None, (-9, 1)), (False, 2.5, None, (-9, -9)), (False, 2.5, lambda _: None, (-9, -9)),
], ids=["one fails", "late", "kill fails"])  # fmt: skip
def test_a_process_that_does_not_stop_is_killed_soon(
    dies: bool, seconds: float, kill: Callable[[Any], None] | None, codes: tuple[int, ...],
    ranks: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if kill is not None:
        # As in a call of a driver, the process runs on.
        monkeypatch.setattr(subprocess.Popen, "kill", kill)
        monkeypatch.setattr(clock, "_KILLED_S", 0.2)
    script = f"""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.close(1), os.close(2)
    open(f"ready{{rank}}", "w").close()
    while rank == 1 and {dies}:
        if os.path.exists("ready0"):
            os._exit(1)
        time.sleep(0.02)
    time.sleep(20)
    """
    began = time.monotonic()
    ended = ranks(script, seconds, together=True)
    assert ended.codes == codes
    assert time.monotonic() - began < 15


@pytest.mark.parametrize(("code", "early", "codes"), [
    (1, True, (0, 1)), (1, False, (3, 1)), (2, True, (3, 2)),
], ids=["crash", "late crash", "user error"])  # fmt: skip
def test_the_others_stop_for_a_new_start_if_one_crashes_early(
    code: int, early: bool, codes: tuple[int, ...], ranks: Callable[..., Outcome]
) -> None:
    script = f"""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if rank == 0:
        open("ready", "w").close()
        time.sleep({20 if codes[0] == 0 else 0.5})
        sys.exit(3)
    while not os.path.exists("ready"):
        time.sleep(0.02)
    sys.exit({code})
    """
    restart_by = time.monotonic() + (60.0 if early else 0.0)
    assert ranks(script, together=False, restart_by=restart_by).codes == codes


def test_the_progress_of_one_process_leaves_the_error_of_another(ranks: Callable[..., Outcome]) -> None:
    script = """
    if rank == 0:
        sys.exit("CUDA out of memory")
    time.sleep(0.5)
    for step in range(100):
        print("step", step)
    """
    ended = ranks(script, together=False)
    assert ended.codes == (1, 0)
    assert ended.out_of_memory
    assert ended.text == "exit code 1: CUDA out of memory"


@pytest.mark.parametrize("facts", ["{}", "[]", '{"config": [1]}', "no JSON"])
def test_a_damaged_network_is_left_to_the_adaptation_to_refuse(tmp_path: Path, facts: str) -> None:
    (tmp_path / "model.json").write_text(facts)
    assert not has_buckets(tmp_path)


LOWER = ["lr=0.0005", "puzzle_lr=0.05", "muon_lr=0.01"]
LOWEST = ["lr=0.00025", "puzzle_lr=0.025", "muon_lr=0.005"]


@pytest.fixture
def pipeline(entry: Path, root: Path, tmp_path: Path) -> Pipeline:
    hidden = read_hidden_tasks(next(root.rglob("arc-agi_test_challenges.json")))
    recipe, journal = entry / "dataset" / "recipe.toml", Journal(tmp_path / "log")
    return Pipeline(recipe.parent, recipe, tmp_path / "scratch", journal, hidden, 10)


def overrides(pipeline: Pipeline, failures: Sequence[Outcome]) -> list[str]:
    """The settings with which an adaptation is tried after these failures."""
    words = pipeline._adapt(1.0, failures)
    return [word.removeprefix("adapt.") for word in words if word.startswith("adapt.")]


@pytest.mark.parametrize(("says", "then"), [
    ("out of memory", [[], ["accumulation=2"], ["accumulation=4"]]),
    (NOT_FINITE, [[], LOWER, LOWEST]),
    (IN_FLOAT16, [[], [*LOWER, "precision=float32"], [*LOWEST, "precision=float32"]]),
])  # fmt: skip
def test_the_settings_of_another_try_follow_from_the_failures(
    says: str, then: list[list[str]], pipeline: Pipeline
) -> None:
    failure = Outcome((2,), late=False, tails=((f"arcpipe: {says}",),))
    assert [overrides(pipeline, [failure] * number) for number in range(3)] == then


@pytest.mark.usefixtures("quick_stages")
def test_a_stage_that_may_do_better_is_tried_again(pipeline: Pipeline) -> None:
    def command(_: float, failures: Sequence[Outcome]) -> list[str]:
        return ["recipe", "show", "out of memory"] if len(failures) < 2 else ["--version"]

    pipeline._stage("adapt", 600, command, lambda: pipeline.devices, together=True)
    assert [loss.partition(":")[0] for loss in pipeline.report.losses] == ["adapt, try 1", "adapt, try 2"]
    assert not pipeline.report.stages[0]["failed"]


def test_each_stage_without_time_is_a_loss_of_its_own(pipeline: Pipeline) -> None:
    for name in ("adapt", "infer"):
        pipeline._stage(name, -1, lambda *_: [], lambda: pipeline.devices, together=True)
    assert pipeline.report.losses == ["adapt: no time was left", "infer: no time was left"]


def test_processes_on_several_canvases_are_a_power_of_two(pipeline: Pipeline, tmp_path: Path) -> None:
    """And each has the fewest samples of its canvases."""
    pipeline.devices = Devices((), 3)
    assert pipeline._trainers().count == 3
    pipeline.checkpoint = tmp_path
    (tmp_path / "model.json").write_text('{"config": {"buckets": [3]}}')
    assert pipeline._trainers().count == 2
    assert overrides(pipeline, []) == ["batch_size=64"]


def test_the_tasks_of_the_short_run_have_several_tests(tmp_path: Path) -> None:
    tasks = {"one": hidden_task(1), "three": hidden_task(2, 3), "two": hidden_task(3, 2)}
    few = read_hidden_tasks(write_challenges(tmp_path / "tasks.json", tasks)).sample(2)
    assert few.num_tests == {"three": 3, "two": 2}
