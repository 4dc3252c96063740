"""How much of an evaluation was answered: what is told of it, and that only what is alike is compared."""

import json
from pathlib import Path
from typing import Any

import pytest

from arcpipe.checkpoint import newest_checkpoint, read_best
from arcpipe.infer.evaluate import Coverage
from arcpipe.predictions import read_predictions
from commands import run_here
from scripted import ALL, Scripted, run_scripted
from training import metrics, settings, train

NONE, SOME, MORE = Coverage(0, 7, 0, 14), Coverage(3, 7, 3, 14), Coverage(3, 7, 4, 14)


def evaluation(run: Path, step: int) -> dict[str, Any]:
    """What an evaluation has left in its file."""
    file = run / "evaluations" / f"step-{step:08d}" / "scores.json"
    found: dict[str, Any] = json.loads(file.read_bytes())
    return found


def best(run: Path) -> tuple[int, float, dict[str, float]]:
    found = read_best(run)
    assert found is not None
    return found["step"], found["value"], found["coverage"]


@pytest.mark.parametrize(
    ("values", "covering", "expected"),
    [
        ([0.2, 0.1], [SOME, ALL], 6),
        ([0.1, 0.2], [ALL, SOME], 3),
        ([0.1, 0.2], [SOME, SOME], 6),
        ([0.2, 0.1], [SOME, MORE], 6),
        ([0.1, 0.2], [MORE, SOME], 3),
        ([0.0, 0.5], [SOME, NONE], 3),
    ],
)
def test_the_best_is_chosen_among_those_that_answered_the_same(
    work: Path, tmp_path: Path, values: list[float], covering: list[Coverage], expected: int
) -> None:
    run, steps = tmp_path / "run", (3, 6)
    told = dict(zip(steps, covering, strict=True))
    run_scripted(work, run, Scripted(dict(zip(steps, values, strict=True)), covering=told), steps=6, keep=2)
    assert best(run) == (expected, values[steps.index(expected)], told[expected].facts)
    log = (run / "train.log").read_text()
    replaced, refused = "answers more than step 3, whose place", "answers less than the best, step 3, so"
    answered = [one for one in covering if one.answered]
    assert (replaced in log) == (len(answered) == 2 and covering[1].votes > covering[0].votes)
    assert (refused in log) == (len(answered) == 2 and covering[1].votes < covering[0].votes)


@pytest.mark.parametrize(("value", "expected"), [(0.25, 6), (0.75, 3)])
def test_older_runs_are_compared_by_score(work: Path, tmp_path: Path, value: float, expected: int) -> None:
    run = tmp_path / "run"
    run_scripted(work, run, Scripted({3: value}), steps=3)
    (run / "best.json").write_text(json.dumps({"step": 3, "metric": "pass@2", "value": value}))
    old = {name: value for name in Scripted.metrics}
    (run / "evaluations" / "step-00000003" / "scores.json").write_text(json.dumps(old))
    later = Scripted({6: 0.5})
    run_scripted(work, run, later, steps=6, resume=True)
    assert later.asked == [6]
    first = next(record for record in metrics(run) if "eval/pass@2" in record)
    assert first == {"step": 3} | {f"eval/{name}": value for name in old}
    found = read_best(run)
    assert found is not None
    assert found["step"] == expected


def test_the_same_weights_in_less_time_say_how_much_they_answered(work: Path, tmp_path: Path) -> None:
    slow = settings("eval", every=1, batch_size=1, max_steps=50)
    found = {}
    for number, minutes in enumerate((10, 0.001, 0)):
        run = tmp_path / f"run{number}"
        train(work, run, *slow, *settings("eval", max_minutes=minutes), "--steps", 1)
        found[minutes] = evaluation(run, 1)
        candidates = list(read_predictions(run / "evaluations" / "step-00000001"))
        inputs = {(one.task, one.test_index) for one in candidates}
        told = Coverage(len(inputs), 7, len(candidates), 28)
        assert found[minutes].items() >= told.facts.items()
        assert ("pass@2" in found[minutes]) == bool(candidates)
        assert f"; {len(candidates)} of 28 votes\n" in (run / "train.log").read_text()
        assert {name.removeprefix("eval/"): value for name, value in metrics(run)[-1].items()} == {
            "step": 1, **found[minutes]
        }  # fmt: skip
        if candidates:
            assert best(run)[2] == told.facts
    assert found[10]["votes"] == 28
    assert found[0] == NONE.facts | {"votes_asked": 28}
    assert read_best(tmp_path / "run2") is None
    assert "step 1: no score, none of 7 test inputs answered; " in (tmp_path / "run2/train.log").read_text()


def test_an_evaluation_of_more_votes_takes_the_place_of_one_of_fewer(work: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for step, votes in ((1, 1), (2, 2), (3, 1)):
        flags = [*settings("eval", every=100, votes=votes), *settings("train", keep_last=3), "--steps", step]
        train(work, run, *flags, *(["--resume", "--force"] if step > 1 else []))
        assert best(run)[0] == min(step, 2)
    assert evaluation(run, 3)["votes"] == 7


@pytest.mark.parametrize("minutes", [0.004])
def test_answers_end_with_the_share_that_the_scores_are_of(work: Path, whole: Path, minutes: float) -> None:
    out = work / f"answers-{minutes}"
    flags = ("--batch-size", 1, "--max-steps", 50, "--max-minutes", minutes)
    done = run_here(
        "infer", "--checkpoint", newest_checkpoint(whole), "--data", work / "data", "--out", out, *flags
    )
    assert done.returncode == 0, done.stderr
    candidates = list(read_predictions(out))
    count, answered = len(candidates), len({(one.task, one.test_index) for one in candidates})
    text = done.stdout.removeprefix(f"{out}: {count} candidates")
    assert (", pass@2 0." in text) == (count > 0)
    assert (f"; {Coverage(answered, 7, count, 28).text}; {count} of 28 grids" in text) == (count < 28)
