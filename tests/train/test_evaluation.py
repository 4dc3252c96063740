"""Evaluation during training: when, on what, what it leaves behind, and which is the best."""

import json
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from arcpipe.checkpoint import Checkpoint
from arcpipe.errors import ArcpipeError
from arcpipe.infer.evaluate import Coverage, Evaluator
from arcpipe.runs import find_checkpoint, newest_checkpoint, read_best
from arcpipe.train.run import TrainRun
from candidates import read_predictions
from commands import succeed_here
from files import changing
from limited import largest_file
from puzzles import build, made_up_tasks, write_source
from training import metrics, newest, refused, settings, steps_of, train

EVERY_FOUR = settings("eval", every=4, votes=2)
COVERAGE = ("answered", "test_inputs", "votes", "votes_asked")
NONE, SOME, MORE, ALL = (
    Coverage(*of) for of in ((0, 7, 0, 14), (3, 7, 3, 14), (3, 7, 4, 14), (7, 7, 14, 14))
)


class Scripted(Evaluator):
    """An evaluator with given scores by step, and coverage if it is not ALL."""

    metrics = ("pass@1", "pass@2", "oracle")

    def __init__(
        self, given: dict[int, float], doing: Callable[[int], None] = lambda step: None,
        covering: dict[int, Coverage] | None = None,
    ) -> None:  # fmt: skip
        """Args:  doing: called with the step instead of answering."""
        self.given, self.doing, self.step = given, doing, 0
        self.covering = covering or {}
        self.asked: list[int] = []

    def answer(
        self, checkpoint: Checkpoint, folder: Path, rank: int, num_ranks: int, stop: Callable[[], bool],
        limit_s: float,
    ) -> None:  # fmt: skip
        self.step = checkpoint.manifest["step"]
        self.asked.append(self.step)
        self.doing(self.step)

    def score(self, folder: Path) -> tuple[dict[str, float], Coverage]:
        coverage = self.covering.get(self.step, ALL)
        names = self.metrics if coverage.answered else ()
        return {name: self.given.get(self.step, 0.0) for name in names}, coverage


def run_scripted(
    work: Path,
    out: Path,
    evaluator: Evaluator,
    *flags: object,
    keep: int = 1,
    steps: int = 12,
    **evaluation: Any,
) -> CompletedProcess[str]:
    """Train with an evaluation every three steps, unless the settings say otherwise."""
    given = [*settings("eval", **({"every": 3} | evaluation)), *settings("train", keep_last=keep)]
    with evaluated_by(evaluator):
        return train(work, out, *given, "--steps", steps, *flags)


@contextmanager
def evaluated_by(evaluator: Evaluator) -> Iterator[None]:
    """Evaluate with this one instead of the one made from the settings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainRun, "evaluator", evaluator)
        yield


def scores(run: Path) -> list[dict[str, Any]]:
    """The records of evaluations."""
    return [record for record in metrics(run) if any(name.startswith("eval/") for name in record)]


def scores_file(run: Path, step: int) -> Path:
    return run / "evaluations" / f"step-{step:08d}" / "scores.json"


def best(run: Path, *names: str) -> tuple[Any, ...]:
    """The values in best.json with these names."""
    content = read_best(run)
    assert content is not None
    return tuple(content[name] for name in names)


@pytest.fixture(scope="module")
def evaluated(work: Path) -> Path:
    """The fixture `whole`, but evaluated at steps 4, 8 and 12, with all checkpoints kept."""
    train(work, work / "evaluated", *EVERY_FOUR, *settings("train", keep_last=3))
    return work / "evaluated"


def test_evaluations_are_recorded_and_change_nothing_of_the_training(evaluated: Path, whole: Path) -> None:
    assert [record["step"] for record in scores(evaluated)] == [4, 8, 12]
    for record in scores(evaluated):
        names = {"pass@1", "pass@2", "oracle", *COVERAGE}
        assert set(record) == {"step", *(f"eval/{name}" for name in names)}
        # Seven test inputs, each asked under two augmentations.
        assert [record[f"eval/{name}"] for name in COVERAGE] == [1, 7, 14, 14]
        assert 0 <= record["eval/pass@1"] <= record["eval/pass@2"] <= record["eval/oracle"] <= 1
        content = json.loads(scores_file(evaluated, record["step"]).read_bytes())
        assert {f"eval/{name}": value for name, value in content.items()} | {"step": record["step"]} == record
    log = (evaluated / "train.log").read_text()
    assert log.count("INFO step 8: pass@1 0.") == 1
    assert log.count("; all 7 test inputs answered; 14 of 14 votes\n") == 3
    assert newest(evaluated) == newest(whole)
    assert [record for record in metrics(evaluated) if "train/lr" in record] == metrics(whole)


def test_averaged_weights_are_evaluated(work: Path, evaluated: Path, tmp_path: Path) -> None:
    """The predictions equal those of inference with the checkpoint of the same step."""
    checkpoint = evaluated / "checkpoints" / "step-00000008"
    out = tmp_path / "predictions"
    flags = ("--data", work / "data", "--out", out, "--votes", 2)
    succeed_here("infer", "--checkpoint", checkpoint, *flags)
    during = read_predictions(evaluated / "evaluations" / "step-00000008")
    for one, other in zip(during, read_predictions(out), strict=True):
        assert (one.task, one.test_index, one.augmentation) == (
            other.task, other.test_index, other.augmentation
        )  # fmt: skip
        assert one.checkpoint == f"{evaluated}@8"
        assert one.halt_probability == pytest.approx(other.halt_probability)
        assert one.log_probability == pytest.approx(other.log_probability)


def test_a_sample_is_the_same_each_time(work: Path, run: Path) -> None:
    train(work, run, *settings("eval", every=3, tests=3, votes=1), *settings("train", keep_last=3, steps=6))
    first, second = (
        [(one.task, one.test_index) for one in read_predictions(path)]
        for path in (run / "evaluations").iterdir()
    )
    assert len(set(first)) == 3
    assert sorted(first) == sorted(second)


@pytest.mark.parametrize("family", ["sudoku", "maze"])
def test_boards_have_scores_of_their_own(work: Path, run: Path, family: str) -> None:
    train(work, run, *settings("eval", every=2, metric="cell_accuracy"), "--steps", 6, data=family)
    assert [record["step"] for record in scores(run)] == [2, 4, 6]
    for record in scores(run):
        exact = record["eval/exact_accuracy"]
        assert 0 <= exact <= min(record["eval/cell_accuracy"], record["eval/valid"])
        assert max(record["eval/cell_accuracy"], record["eval/valid"]) <= 1
    # The newest of equally good ones.
    value, step = max((record["eval/cell_accuracy"], record["step"]) for record in scores(run))
    assert best(run, "metric", "value", "step") == ("cell_accuracy", value, step)


def test_the_best_checkpoint_is_kept_and_used(work: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run_scripted(work, run, Scripted({3: 0.25, 6: 0.75, 9: 0.5}))
    assert read_best(run) == {"step": 6, "metric": "pass@2", "value": 0.75, "coverage": ALL.facts}
    assert steps_of(run) == [6, 12]
    assert sorted(path.name for path in (run / "evaluations").iterdir()) == ["step-00000006", "step-00000012"]
    assert find_checkpoint(run).name == "step-00000006"
    assert newest_checkpoint(run).name == "step-00000012"
    out = tmp_path / "predictions"
    succeed_here("infer", "--checkpoint", run, "--data", work / "data", "--out", out)
    assert {one.checkpoint for one in read_predictions(out)} == {f"{run}@6"}


def test_the_best_is_compared_with_after_a_resume_and_is_not_resumed_from(work: Path, run: Path) -> None:
    run_scripted(work, run, Scripted({3: 0.75, 6: 0.25}), steps=7)
    assert steps_of(run) == [3, 7]
    run_scripted(work, run, Scripted({9: 0.5}), "--resume")
    assert [record["step"] for record in metrics(run) if "train/lr" in record] == list(range(1, 13))
    assert best(run, "step") == (3,)
    assert steps_of(run) == [3, 12]


@pytest.mark.parametrize(("values", "covering", "expected"), [
    ([0.2, 0.1], [SOME, ALL], 2),
    ([0.1, 0.2], [ALL, SOME], 1),
    ([0.1, 0.2], [SOME, SOME], 2),
    ([0.2, 0.1], [SOME, MORE], 2),
    ([0.1, 0.2], [MORE, SOME], 1),
    ([0.0, 0.5], [SOME, NONE], 1),
])  # fmt: skip
def test_the_best_is_chosen_among_those_that_answered_the_same(
    work: Path, run: Path, values: list[float], covering: list[Coverage], expected: int
) -> None:
    steps = (1, 2)
    of_step = dict(zip(steps, covering, strict=True))
    evaluator = Scripted(dict(zip(steps, values, strict=True)), covering=of_step)
    run_scripted(work, run, evaluator, every=1, steps=2, keep=2)
    assert best(run, "step", "value") == (expected, values[steps.index(expected)])
    assert best(run, "coverage") == (of_step[expected].facts,)
    log = (run / "train.log").read_text()
    first, second = (one.votes for one in covering)
    assert ("answers more than step 1, whose place" in log) == (second > first)
    assert ("answers less than the best, step 1, so" in log) == (0 < second < first)


@pytest.mark.parametrize(("value", "expected"), [(0.25, 2), (0.75, 1)])
def test_older_runs_are_compared_by_score(work: Path, run: Path, value: float, expected: int) -> None:
    later = Scripted({2: 0.5})
    run_scripted(work, run, Scripted({1: value}), every=1, steps=1)
    (run / "best.json").write_text(json.dumps({"step": 1, "metric": "pass@2", "value": value}))
    old = {name: value for name in Scripted.metrics}
    scores_file(run, 1).write_text(json.dumps(old))
    run_scripted(work, run, later, "--resume", every=1, steps=2)
    assert later.asked == [2]
    assert scores(run)[0] == {"step": 1} | {f"eval/{name}": value for name in old}
    assert best(run, "step") == (expected,)


def test_a_best_checkpoint_that_is_put_aside_is_the_best_no_more(work: Path, run: Path) -> None:
    run_scripted(work, run, Scripted({3: 0.25, 6: 0.5, 9: 0.75}), keep=9, steps=9)
    run_scripted(work, run, Scripted({9: 0.375}), "--resume", "--from-step", 6, keep=9, steps=9)
    assert read_best(run) == {"step": 6, "metric": "pass@2", "value": 0.5, "coverage": ALL.facts}
    run_scripted(work, run, Scripted({6: 0.125, 9: 0.375}), "--resume", "--from-step", 3, keep=9, steps=9)
    assert read_best(run) == {"step": 9, "metric": "pass@2", "value": 0.375, "coverage": ALL.facts}
    assert {path.name for path in (run / "evaluations").iterdir()} == {
        "step-00000003", "step-00000006", "step-00000006.aside", "step-00000009", "step-00000009.aside",
        "step-00000009.aside-2",
    }  # fmt: skip


def test_an_evaluation_is_not_repeated_after_a_resume(work: Path, tmp_path: Path) -> None:
    run, uninterrupted = tmp_path / "run", tmp_path / "uninterrupted"
    first, second, other = (Scripted({3: 0.5, 6: 0.25, 9: 0.75}) for _ in range(3))
    run_scripted(work, run, first, steps=6)
    # As if killed after the evaluation and before its record.
    lines = (run / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (run / "metrics.jsonl").write_bytes(b"".join(lines[:-1]))
    run_scripted(work, run, second, "--resume")
    run_scripted(work, uninterrupted, other)
    assert (first.asked, second.asked, other.asked) == ([3, 6], [9, 12], [3, 6, 9, 12])
    assert metrics(run) == metrics(uninterrupted)
    assert newest(run) == newest(uninterrupted)
    again = Scripted({})
    run_scripted(work, run, again, "--resume")
    assert again.asked == []
    assert metrics(run) == metrics(uninterrupted)


@pytest.mark.parametrize("at", [6, 12])
def test_a_signal_leaves_an_evaluation_to_the_resumed_run(work: Path, tmp_path: Path, at: int) -> None:
    """The evaluation at step 12 is the one after the training."""
    run, uninterrupted = tmp_path / "run", tmp_path / "uninterrupted"
    run_scripted(work, uninterrupted, Scripted({6: 0.5}))

    def stop(step: int) -> None:
        if step == at:
            os.kill(os.getpid(), signal.SIGTERM)

    cut = Scripted({6: 0.5, at: 0.75}, stop, covering={at: SOME})
    done = run_scripted(work, run, cut)
    assert f": step {at}\n" in done.stdout
    assert f"--out {run} --resume --steps 12\n" in done.stderr
    assert [record["step"] for record in scores(run)] == list(range(3, at + 1, 3))
    assert best(run, "step") < (at,)
    again = Scripted({6: 0.5})
    done = run_scripted(work, run, again, "--resume")
    assert again.asked == list(range(at, 13, 3))
    assert ": step 12\n" in done.stdout
    assert "--resume" not in done.stderr
    assert metrics(run) == metrics(uninterrupted)
    assert newest(run) == newest(uninterrupted)
    assert read_best(run) == read_best(uninterrupted)


@pytest.mark.parametrize(("at", "left"), [(6, "scores.json"), (6, "folder"), (6, "nothing"), (7, "folder")])
def test_auto_does_again_what_did_not_end(work: Path, run: Path, at: int, left: str) -> None:
    """Ended by a signal, or killed while or before it answered; step 7 is the last at first."""

    def stop(step: int) -> None:
        if step == at:
            os.kill(os.getpid(), signal.SIGTERM)

    again, tenths = Scripted({}), [2, 3, 4, 5, 6, 8, 9, 10, 11, 12]
    cut = Scripted({}, stop, covering={at: SOME})
    run_scripted(work, run, cut, every="auto", steps=12 if at in tenths else at)
    assert cut.asked == [step for step in tenths if step < at] + [at]
    if left != "scores.json":
        scores_file(run, at).unlink()
    if left == "nothing":
        shutil.rmtree(scores_file(run, at).parent)
    run_scripted(work, run, again, "--resume", every="auto")
    assert again.asked == [at] + [step for step in tenths if step > at]
    later = Scripted({})
    run_scripted(work, run, later, "--resume", every="auto")
    assert later.asked == []


def test_evaluations_every_few_minutes(work: Path, tmp_path: Path) -> None:
    always, never = Scripted({}), Scripted({})
    run_scripted(work, tmp_path / "always", always, every=0, every_minutes=1e-9, steps=3)
    assert always.asked == [1, 2, 3]
    run_scripted(work, tmp_path / "never", never, every=0, every_minutes=60.0, steps=3)
    assert never.asked == [3], "there is one at the end"


@pytest.mark.parametrize(("minutes", "asked"), [(50, [4]), (70, [3, 4])])
def test_the_minutes_between_them_go_on(work: Path, run: Path, minutes: int, asked: list[int]) -> None:
    """The times of resumed parts of a run add up."""
    later = Scripted({})
    hourly = {"every": 0, "every_minutes": 60.0}
    cut = Scripted({}, lambda _: os.kill(os.getpid(), signal.SIGTERM), covering={3: SOME})
    run_scripted(work, run, cut, steps=3, **hourly)
    with changing(newest_checkpoint(run) / "manifest.json") as manifest:
        manifest["seconds"] = 60 * minutes
    # As if step 3 had not been the last: an evaluation that was begun is done again in any case.
    shutil.rmtree(run / "evaluations")
    run_scripted(work, run, later, "--resume", steps=4, **hourly)
    assert later.asked == asked


def test_less_time_says_how_much_was_answered(work: Path, tmp_path: Path) -> None:
    slow = settings("eval", every=1, batch_size=1, max_steps=20)
    for number, minutes in enumerate((10, 0.001, 0)):
        run = tmp_path / f"run{number}"
        train(work, run, *slow, *settings("eval", max_minutes=minutes), "--steps", 1)
        content = json.loads(scores_file(run, 1).read_bytes())
        candidates = list(read_predictions(run / "evaluations" / "step-00000001"))
        coverage = Coverage(len({(one.task, one.test_index) for one in candidates}), 7, len(candidates), 28)
        assert content.items() >= coverage.facts.items()
        assert ("pass@2" in content) == bool(candidates)
        assert f"; {len(candidates)} of 28 votes\n" in (run / "train.log").read_text()
        assert scores(run)[-1] == {"step": 1} | {f"eval/{name}": value for name, value in content.items()}
        if minutes == 10:
            assert len(candidates) == 28
            assert best(run, "coverage") == (coverage.facts,)
    assert not candidates, "no time answers none"
    assert read_best(run) is None
    assert "step 1: no score, none of 7 test inputs answered; " in (run / "train.log").read_text()


def test_an_error_of_the_evaluator_ends_the_training_with_its_line(work: Path, run: Path) -> None:
    def fail(step: int) -> None:
        raise ArcpipeError("no answer")

    with evaluated_by(Scripted({}, fail)):
        assert "no answer" in refused(work, run, *settings("eval", every=3))
    assert steps_of(run) == [3]


def test_a_full_disk_leaves_the_checkpoint(work: Path, evaluated: Path, run: Path) -> None:
    flags = [*EVERY_FOUR, *settings("train", keep_last=3)]
    shutil.copytree(evaluated, run)
    shutil.rmtree(run / "evaluations")
    (run / "best.json").unlink()
    (run / "train.log").unlink()
    with largest_file(4500):
        said = refused(work, run, *flags, "--resume")
    assert "part-0000000000-rank0.parquet: cannot be written (File too large)" in said
    assert said.endswith("step-00000012 is whole: make room, then go on with --resume")
    train(work, run, *flags, "--resume")
    assert metrics(run)[-1] == metrics(evaluated)[-1]


def test_auto_evaluates_at_every_tenth_where_the_outputs_are_known(work: Path, tmp_path: Path) -> None:
    run, flags = tmp_path / "run", settings("eval", every="auto", votes=1)
    train(work, run, *flags, "--set", "train.keep_last=20")
    steps = [record["step"] for record in metrics(run) if "eval/votes" in record]
    assert steps == [2, 3, 4, 5, 6, 8, 9, 10, 11, 12]
    source = write_source(tmp_path, "tasks", made_up_tasks(2, max_side=3), solved=False)
    data = build(tmp_path / "data", source)
    train(work, tmp_path / "other", *flags, "--steps", 2, data=str(data))
    assert not (tmp_path / "other" / "evaluations").exists()
