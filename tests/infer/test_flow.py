"""Inference of a flow: each item as if it were computed alone."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from arcpipe.flow import move, noise, probabilities, seeds_of, stir, with_given
from arcpipe.infer.predict import InferSettings, schedule_of
from arcpipe.puzzleset import PuzzleSet, read_puzzle_set
from inference import CONFIG, answers, assert_same, random_model


@pytest.fixture(params=["arc_dir", "sudoku_dir"])
def puzzles(request: pytest.FixtureRequest) -> PuzzleSet:
    return read_puzzle_set(request.getfixturevalue(request.param))


@pytest.mark.parametrize(
    "settings", [{}, {"rollouts": 2, "gamma": 5.0, "max_steps": 7, "seed": 3}, {"gamma": 0}]
)
def test_each_answer_is_that_of_a_plain_loop(puzzles: PuzzleSet, settings: dict[str, Any]) -> None:
    checkpoint = random_model(puzzles, replace(CONFIG, flow=True))
    model, asked = checkpoint.model(), InferSettings(**settings)
    schedule = schedule_of(puzzles, asked)
    found = answers(checkpoint, puzzles, **settings)
    assert_same(answers(checkpoint, puzzles, batch_size=5, **settings), found)
    assert len(found) == len(schedule)
    steps = asked.max_steps or CONFIG.max_steps
    blank = puzzles.family.blank_token
    for row in found[:: len(found) // 4]:
        item = schedule.items(np.array([row["order"]]))
        tokens = puzzles.encode_tests(item.tests, item.puzzle_ids)
        inputs, vectors = torch.from_numpy(tokens.astype(np.int64)), checkpoint.rows[item.puzzle_ids]
        seed = seeds_of(asked.seed, np.array([row["order"]], np.uint64))
        shape = (puzzles.num_tokens, puzzles.family.vocabulary)
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
