"""Predictions of a model that repeats its input, of random ones, of flows, and of tasks on their canvas."""

import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arcpipe.buckets import bucket_sides
from arcpipe.checkpoint import Checkpoint, save_checkpoint
from arcpipe.errors import CheckpointError
from arcpipe.flow import move, noise, seeds_of, stir, with_given
from arcpipe.infer.config import InferSettings
from arcpipe.infer.engine import STABLE_STEPS, best_tokens
from arcpipe.infer.evaluate import Evaluator
from arcpipe.infer.items import Schedule
from arcpipe.infer.predict import infer_to_folder
from arcpipe.infer.solve import solve_puzzle
from arcpipe.losses import probabilities
from arcpipe.model_config import TRMConfig
from arcpipe.predictions import SHARDS
from arcpipe.puzzleset import PuzzleSet, read_puzzle_set
from arcpipe.runs import write_json
from files import changing, forget_hashes
from inference import CONFIG, answers, assert_same, parrot, plain_loop, random_model, rows_of, wavering
from puzzles import BUCKETS, sized_data, sized_tasks

RESIDUAL = replace(CONFIG, loop_residual=True)


@pytest.mark.parametrize(("batch_size", "config"), [(1, CONFIG), (16, RESIDUAL), (48, CONFIG)])
def test_the_default_is_a_plain_loop_bit_for_bit(arc: PuzzleSet, batch_size: int, config: TRMConfig) -> None:
    checkpoint = random_model(arc, config)
    expected = plain_loop(checkpoint, arc, batch_size)
    rows = answers(checkpoint, arc, batch_size=batch_size)
    assert [{name: row[name] for name in expected[0]} for row in rows] == expected
    assert len({row["cells"] for row in rows}) > 10, "the answers differ"


@pytest.mark.parametrize(("batch_size", "settings"), [
    (1, {"halt": "never", "candidates_at": [1, 3]}),
    (5, {"halt": "learned", "candidates_at": [2], "max_steps": 9}),
    (5, {"halt": "stable", "max_steps": 12}),
    (5, {"rollouts": 3, "noise": 0.5}),
])  # fmt: skip
def test_answers_are_alike_in_any_batch(arc: PuzzleSet, batch_size: int, settings: dict[str, Any]) -> None:
    together = answers(wavering(arc), arc, **settings)
    assert_same(answers(wavering(arc), arc, batch_size=batch_size, **settings), together)


@pytest.mark.parametrize("rule", ["learned", "stable"])
def test_a_row_halts_where_its_rule_says_so(arc: PuzzleSet, rule: str) -> None:
    """Compared with all steps of each row, from `candidates_at`; grids stand for tokens."""
    checkpoint, last = wavering(arc), 12
    each = answers(checkpoint, arc, max_steps=last, candidates_at=[*range(1, last)])
    ended = answers(checkpoint, arc, max_steps=last, halt=rule)
    assert len({row["steps"] for row in ended}) > 3, "they end after different steps"
    back = 2 if rule == "learned" else STABLE_STEPS
    for number, row in enumerate(ended):
        history = each[number * last : (number + 1) * last]
        assert row["cells"] == history[row["steps"] - 1]["cells"]
        if row["steps"] < last:
            assert len({was["cells"] for was in history[row["steps"] - back : row["steps"]]}) == 1
            assert rule == "stable" or row["halt_probability"] > 0.5


def test_a_row_halts_as_soon_as_it_may(arc: PuzzleSet) -> None:
    for row in answers(parrot(arc), arc, halt="learned"):
        assert row["steps"] == (2 if row["halt_probability"] > 0.5 else CONFIG.max_steps)
    assert {row["steps"] for row in answers(parrot(arc), arc, halt="stable")} == {STABLE_STEPS}


def test_what_the_learned_rule_would_save_is_said(arc: PuzzleSet, caplog: pytest.LogCaptureFixture) -> None:
    ended = answers(wavering(arc), arc, max_steps=12, halt="learned", batch_size=16)
    with caplog.at_level(logging.INFO, "arcpipe"):
        answers(wavering(arc), arc, max_steps=12, batch_size=16)
    saved = 1 - np.mean([row["steps"] for row in ended]) / 12
    assert f"--halt learned would have saved {saved:.0%} of the steps" in caplog.messages


@pytest.mark.parametrize("family", ["sudoku", "maze"])
def test_variants_of_sudokus_and_mazes_are_turned_back(family: str, request: pytest.FixtureRequest) -> None:
    puzzles = read_puzzle_set(request.getfixturevalue(f"{family}_dir"))
    rows = answers(parrot(puzzles), puzzles, variants=7, batch_size=9)
    assert [row["variant"] for row in rows] == np.repeat(range(8), len(puzzles.test_tasks)).tolist()
    for row in rows:
        assert row["cells"] == puzzles.test_inputs.cells[row["test_index"]].tobytes()


def test_candidates_at_earlier_steps_are_those_of_fewer_steps(arc: PuzzleSet) -> None:
    model = random_model(arc)
    both = answers(model, arc, max_steps=5, candidates_at=[2])
    two = answers(model, arc, max_steps=2)
    assert [row["order"] for row in both] == list(range(2 * len(two)))
    assert [row | {"order": 0} for row in both if row["steps"] == 2] == [row | {"order": 0} for row in two]


def test_noise_changes_all_rollouts_but_the_first(arc: PuzzleSet) -> None:
    model = random_model(arc)
    plain, noisy = answers(model, arc), answers(model, arc, rollouts=3, noise=0.5, seed=1)
    halt = {
        number: [row["halt_probability"] for row in noisy if row["rollout"] == number] for number in range(3)
    }
    assert halt[0] == [row["halt_probability"] for row in plain]
    assert len({*halt[0], *halt[1], *halt[2]}) == 3 * len(plain)
    assert noisy == answers(model, arc, rollouts=3, noise=0.5, seed=1)
    assert noisy != answers(model, arc, rollouts=3, noise=0.5, seed=2)


@pytest.mark.parametrize("loss", ["stablemax", "softmax"])
def test_log_probability_is_the_mean_over_the_cells_that_are_shown(loss: str) -> None:
    logits = torch.randn(5, 9, 7, generator=torch.Generator().manual_seed(0)) * 3
    logits[4, :, 0] = 50.0
    tokens, mean = best_tokens(logits, loss)
    for row in range(5):
        values = logits[row].double()
        stablemax = torch.where(values < 0, 1 / (1 - values), values + 1)
        weights = stablemax if loss == "stablemax" else values.exp()
        logs = (weights.amax(-1) / weights.sum(-1)).log()[tokens[row] != 0]
        assert mean[row].item() == pytest.approx(logs.mean().item() if len(logs) else 0.0, abs=1e-6)


def test_the_averaged_weights_answer(arc: PuzzleSet) -> None:
    checkpoint = parrot(arc)
    raw = {name: torch.full_like(weight, torch.nan) for name, weight in checkpoint.raw.items()}
    assert all(row["height"] for row in answers(replace(checkpoint, raw=raw), arc))


@pytest.mark.parametrize("name", ["output_head.weight", "halt_head.weight"])
def test_answers_that_are_not_finite_are_refused(arc: PuzzleSet, name: str) -> None:
    checkpoint = random_model(arc)
    # Each weight is finite, but the results are not.
    weights = checkpoint.ema | {name: torch.full_like(checkpoint.ema[name], 3e38)}
    with pytest.raises(CheckpointError, match="made-up: its answers are not finite"):
        answers(replace(checkpoint, ema=weights), arc)


@pytest.fixture(params=["arc_dir", "sudoku_dir"])
def either(request: pytest.FixtureRequest) -> PuzzleSet:
    return read_puzzle_set(request.getfixturevalue(request.param))


@pytest.mark.parametrize(
    "settings", [{}, {"rollouts": 2, "gamma": 5.0, "max_steps": 7, "seed": 3}, {"gamma": 0}]
)
def test_each_answer_is_that_of_a_plain_loop(either: PuzzleSet, settings: dict[str, Any]) -> None:
    checkpoint = random_model(either, replace(CONFIG, flow=True))
    model, asked = checkpoint.model(), InferSettings(**settings)
    schedule = Schedule(either, asked)
    found = answers(checkpoint, either, **settings)
    assert_same(answers(checkpoint, either, batch_size=5, **settings), found)
    assert len(found) == len(schedule)
    steps = asked.max_steps or CONFIG.max_steps
    blank = either.family.blank_token
    for row in found[:: len(found) // 4]:
        item = schedule.items(np.array([row["order"]]))
        tokens = either.encode(either.tables_with_eos[2], item.tests, item.puzzle_ids)
        inputs, vectors = torch.from_numpy(tokens.astype(np.int64)), checkpoint.rows[item.puzzle_ids]
        seed = seeds_of(asked.seed, np.array([row["order"]], np.uint64))
        shape = (either.num_tokens, either.family.vocabulary)
        x, state = with_given(noise(seed, 0, *shape), inputs, blank), []
        with torch.inference_mode():
            for step in range(steps):
                now, later = torch.tensor([step / steps]), torch.tensor([(step + 1) / steps])
                y, time = stir(x, noise(seed, step + 1, *shape), now, later, asked.gamma)
                y = with_given(y, inputs, blank)
                answer, latent, logits, halt = model(inputs, vectors, *state, noisy_BLV=y, times_B=time)
                state = [answer, latent]
                x = with_given(move(y, probabilities(logits, "stablemax"), time, later), inputs, blank)
        assert row["halt_probability"] == pytest.approx(float(halt.sigmoid()), abs=1e-4)
        assert row["steps"] == steps
    assert len({row["halt_probability"] for row in found}) == len(found)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sized_data(tmp_path_factory.mktemp("sized"))


@pytest.fixture(scope="module")
def puzzles(data: Path) -> PuzzleSet:
    return read_puzzle_set(data)


def bucketed(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint as if it had been trained with buckets."""
    return replace(checkpoint, config=replace(checkpoint.config, buckets=BUCKETS))


@pytest.mark.parametrize(("batch_size", "residual"), [(5, False), (256, False), (5, True)])
def test_each_answer_is_that_of_its_task_s_canvas(
    puzzles: PuzzleSet, batch_size: int, residual: bool
) -> None:
    plain = random_model(puzzles, replace(CONFIG, loop_residual=residual))
    expected = plain_loop(bucketed(plain), puzzles, 1)
    rows = answers(bucketed(plain), puzzles, batch_size=batch_size)
    assert len(rows) == len(expected) == 8 * 2 * 4
    for row, other in zip(rows, expected, strict=True):
        assert row.items() >= (other | {"halt_probability": row["halt_probability"]}).items()
        assert row["halt_probability"] == pytest.approx(other["halt_probability"], abs=1e-5)
    different = {
        row["task"]
        for row, other in zip(rows, answers(plain, puzzles), strict=True)
        if row["cells"] != other["cells"]
    }
    assert len(different) > 3
    # Tasks on the whole canvas are unchanged.
    assert not different & {"of8-3", "of7-7"}


def test_an_evaluation_of_some_tests_leaves_tasks_on_their_canvases(tmp_path: Path) -> None:
    """The largest grid of each task is a test input, and only some are asked."""
    small, large = sized_tasks([2] * 3), sized_tasks([5] * 3, seed=1)
    tasks = [
        replace(one, tests=(*one.tests, other.demonstrations[0]))
        for one, other in zip(small, large, strict=True)
    ]
    data = sized_data(tmp_path, tasks)
    puzzles = read_puzzle_set(data)
    assert set(bucket_sides(puzzles, BUCKETS).tolist()) == {6}
    checkpoint = bucketed(random_model(puzzles))
    evaluator = Evaluator(puzzles, data, InferSettings(), tests=4)
    assert 4 in bucket_sides(evaluator.puzzles, BUCKETS), "the sample alone would not tell"
    evaluated = tmp_path / "evaluated"
    (evaluated / SHARDS).mkdir(parents=True)
    write_json(evaluated / "manifest.json", {"kind": "predictions"})
    evaluator.answer(checkpoint, evaluated, 0, 1, lambda: False, 60.0)
    every = [row["cells"] for row in answers(checkpoint, puzzles)]
    sampled = [row["cells"] for row in rows_of(evaluated)]
    assert len(sampled) == 4 * 4
    assert not Counter(sampled) - Counter(every)


def test_one_task_is_solved_as_in_its_dataset(puzzles: PuzzleSet) -> None:
    """Its demonstrations decide the canvas; one may be larger than any canvas."""
    checkpoint = bucketed(random_model(puzzles))
    by_test: dict[tuple[str, int], list[bytes]] = {}
    for row in answers(checkpoint, puzzles):
        by_test.setdefault((row["task"], row["test_index"]), []).append(row["cells"])
    for task in sized_tasks():
        for index, solved in enumerate(solve_puzzle(checkpoint, task)):
            cells = by_test[task.id, index]
            assert solved.candidates == len(cells)
            for attempt in solved.attempts:
                assert attempt.votes == cells.count(attempt.grid.tobytes())
    mixed = replace(sized_tasks()[0], demonstrations=sized_tasks([12])[0].demonstrations)
    for solved, pair in zip(solve_puzzle(bucketed(parrot(puzzles)), mixed), mixed.tests, strict=True):
        np.testing.assert_array_equal(solved.attempts[0].grid, pair.input)


def test_a_checkpoint_without_the_key_answers(data: Path, puzzles: PuzzleSet, tmp_path: Path) -> None:
    old = tmp_path / "old"
    save_checkpoint(replace(wavering(puzzles), path=old))
    forget_hashes(old)
    with changing(old / "model.json") as facts:
        assert facts["config"].pop("buckets") == []
        assert facts["config"].pop("loop_residual") is False
    result = infer_to_folder(old, data, tmp_path / "out", InferSettings())
    assert (result.done, result.total) == (64, 64)
    expected = [row["cells"] for row in answers(wavering(puzzles), puzzles)]
    assert [row["cells"] for row in rows_of(tmp_path / "out")] == expected
