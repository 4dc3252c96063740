"""What two models predict: one that repeats its input, and one with random weights."""

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from arcpipe.errors import ArcpipeError, CheckpointError
from arcpipe.infer.engine import STABLE_STEPS, chosen_tokens
from arcpipe.model_config import TRMConfig
from arcpipe.puzzleset import PuzzleSet, read_puzzle_set
from inference import CONFIG, answers, assert_same, parrot, plain_loop, random_model, wavering

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
    """Against all steps of each row, taken with `candidates_at`; its tokens are seen through the grids."""
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


def test_log_probability_is_the_mean_over_the_cells_that_are_shown() -> None:
    logits = torch.randn(5, 9, 7, generator=torch.Generator().manual_seed(0)) * 3
    logits[4, :, 0] = 50.0
    tokens, mean = chosen_tokens(logits)
    for row in range(5):
        values = logits[row].double()
        weights = torch.where(values < 0, 1 / (1 - values), values + 1)
        logs = (weights.amax(-1) / weights.sum(-1)).log()[tokens[row] != 0]
        assert mean[row].item() == pytest.approx(logs.mean().item() if len(logs) else 0.0, abs=1e-6)


def test_the_averaged_weights_answer(arc: PuzzleSet) -> None:
    checkpoint = parrot(arc)
    raw = {name: torch.full_like(weight, torch.nan) for name, weight in checkpoint.raw.items()}
    assert all(row["height"] for row in answers(replace(checkpoint, raw=raw), arc))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rollouts": 2}, "2 rollouts with noise 0: the first rollout is without noise"),
        ({"noise": 0.3}, r"1 rollouts with noise 0\.3"),
        ({"candidates_at": [2, 5]}, "a candidate is wanted at step 5, but there are only 4 steps"),
    ],
)
def test_contradicting_settings_are_refused(arc: PuzzleSet, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ArcpipeError, match=message):
        answers(random_model(arc), arc, **settings)


@pytest.mark.parametrize("name", ["output_head.weight", "halt_head.weight"])
def test_answers_that_are_not_finite_are_refused(arc: PuzzleSet, name: str) -> None:
    checkpoint = random_model(arc)
    # Each weight is finite, what is computed with them is not.
    weights = checkpoint.ema | {name: torch.full_like(checkpoint.ema[name], 3e38)}
    with pytest.raises(CheckpointError, match="made-up: its answers are not finite"):
        answers(replace(checkpoint, ema=weights), arc)
