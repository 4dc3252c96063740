"""Inference with two models: one that repeats its input, and one with random weights."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given

from arcpipe.augmentation import IDENTITY, Augmentation
from arcpipe.checkpoint import Checkpoint
from arcpipe.codec import decode, encode
from arcpipe.errors import ArcpipeError, CheckpointError, RecipeError
from arcpipe.grid import Grid
from arcpipe.infer.engine import STABLE_STEPS, chosen_tokens
from arcpipe.infer.predict import InferSettings, Job, solve
from arcpipe.puzzleset import PuzzleSet, read_puzzle_set
from arcpipe.recipe import Recipe
from arcpipe.task import Task
from inference import CONFIG, parrot, random_model, wavering
from puzzles import build, write_source
from strategies import augmentations, grids

CPU = torch.device("cpu")
Rows = list[dict[str, Any]]


def answers(checkpoint: Checkpoint, puzzles: PuzzleSet, **settings: Any) -> Rows:
    """The candidates, by order."""
    job = Job(checkpoint, puzzles, InferSettings(**settings), "label", np.zeros(0, np.int64))
    rows = [row for part in solve(job, CPU) for row in part.to_pylist()]
    return sorted(rows, key=lambda row: int(row["order"]))


def plain_loop(checkpoint: Checkpoint, puzzles: PuzzleSet, batch_size: int, *, steps: int = 4) -> Rows:
    """What a loop over batches makes of every test input under every puzzle of its task; without rounds."""
    model, found = checkpoint.model(), []
    pairs = [
        (test, puzzle)
        for test, task in enumerate(puzzles.test_tasks)
        for puzzle in puzzles.table.of_task(task)
    ]
    rounds = sorted(range(len(pairs)), key=lambda n: [test for test, _ in pairs[:n]].count(pairs[n][0]))
    pairs = [pairs[n] for n in rounds]
    for start in range(0, len(pairs), batch_size):
        tests, ids = np.array(pairs[start : start + batch_size]).T
        inputs = torch.from_numpy(puzzles.encode_tests(tests, ids).astype(np.int64))
        answer = model.init_answer.expand(len(ids), puzzles.num_tokens + 1, -1)
        latent = model.init_latent.expand_as(answer)
        vectors = checkpoint.rows_of(puzzles)[ids]
        with torch.inference_mode():
            for _ in range(steps):
                answer, latent, logits, halt = model(inputs, vectors, answer, latent)
        for grid, puzzle, test, logit in zip(
            decode(logits.argmax(-1).numpy()), ids, tests, halt, strict=True
        ):
            turned = None if grid is None else puzzles.table.augmentation(puzzle).inverse().apply(grid)
            found.append({
                "task": puzzles.table.task_ids[puzzles.test_tasks[test]],
                "test_index": puzzles.test_indices[test],
                "cells": b"" if turned is None else turned.tobytes(),
                "height": 0 if turned is None else turned.shape[0],
                "halt_probability": float(logit.sigmoid()), "steps": steps,
            })  # fmt: skip
    return found


def by_test(rows: Rows) -> Iterator[tuple[tuple[str, int], Rows]]:
    found: dict[tuple[str, int], Rows] = {}
    for row in rows:
        found.setdefault((row["task"], row["test_index"]), []).append(row)
    yield from found.items()


def augmentation_of(row: dict[str, Any]) -> Augmentation:
    return Augmentation(row["dihedral"], tuple(map(int, row["colors"])))


def grid_of(row: dict[str, Any]) -> Grid:
    return np.frombuffer(row["cells"], np.uint8).reshape(row["height"], row["width"])


@pytest.mark.parametrize("batch_size", [1, 16, 48])
def test_the_default_is_a_plain_loop_bit_for_bit(arc: PuzzleSet, batch_size: int) -> None:
    checkpoint = random_model(arc)
    expected = plain_loop(checkpoint, arc, batch_size)
    found = answers(checkpoint, arc, batch_size=batch_size)
    assert [{name: row[name] for name in expected[0]} for row in found] == expected
    assert len({row["cells"] for row in found}) > 10, "the answers differ"


@pytest.mark.parametrize("settings", [
    {"halt": "never", "candidates_at": [1, 3]},
    {"halt": "learned", "candidates_at": [2], "max_steps": 9},
    {"halt": "stable", "max_steps": 12},
    {"rollouts": 3, "noise": 0.5},
])  # fmt: skip
def test_no_answer_depends_on_the_rows_beside_it(arc: PuzzleSet, settings: dict[str, Any]) -> None:
    checkpoint = wavering(arc)
    together = answers(checkpoint, arc, **settings)
    for batch_size in (1, 5):
        for one, other in zip(
            together, answers(checkpoint, arc, batch_size=batch_size, **settings), strict=True
        ):
            for name in ("halt_probability", "log_probability"):
                assert one.pop(name) == pytest.approx(other.pop(name), abs=1e-4)
            assert one == other
        together = answers(checkpoint, arc, **settings)


@pytest.mark.parametrize("rule", ["learned", "stable"])
def test_a_row_halts_at_the_first_step_at_which_its_rule_says_so(arc: PuzzleSet, rule: str) -> None:
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


def test_with_nothing_to_wait_for_a_row_halts_as_soon_as_it_may(arc: PuzzleSet) -> None:
    for row in answers(parrot(arc), arc, halt="learned"):
        assert row["steps"] == (2 if row["halt_probability"] > 0.5 else CONFIG.max_steps)
    assert {row["steps"] for row in answers(parrot(arc), arc, halt="stable")} == {STABLE_STEPS}


def test_every_test_input_under_every_puzzle_of_its_task_once_identity_first(arc: PuzzleSet) -> None:
    found = dict(by_test(answers(random_model(arc), arc, batch_size=5)))
    names = [("task1", 0), ("task2", 0), ("task2", 1), ("task3", 0), ("task3", 1), ("task3", 2)]
    assert list(found) == names
    for (task, _), rows in found.items():
        ids = arc.table.of_task(arc.table.task_ids.index(task))
        assert [augmentation_of(row) for row in rows] == [arc.table.augmentation(int(id_)) for id_ in ids]
        assert augmentation_of(rows[0]) == IDENTITY


def test_answers_are_turned_back_to_the_frame_of_the_task(tasks: list[Task], arc: PuzzleSet) -> None:
    rows = answers(parrot(arc), arc, batch_size=7)
    assert len(rows) == 6 * 8
    inputs = {(task.id, index): pair.input for task in tasks for index, pair in enumerate(task.tests)}
    for row in rows:
        np.testing.assert_array_equal(grid_of(row), inputs[row["task"], row["test_index"]])


@pytest.mark.parametrize("family", ["sudoku", "maze"])
def test_variants_of_boards_are_turned_back(family: str, request: pytest.FixtureRequest) -> None:
    puzzles = read_puzzle_set(request.getfixturevalue(f"{family}_dir"))
    rows = answers(parrot(puzzles), puzzles, variants=7, batch_size=9)
    assert [row["variant"] for row in rows] == np.repeat(range(8), len(puzzles.test_tasks)).tolist()
    for row in rows:
        np.testing.assert_array_equal(grid_of(row), puzzles.test_inputs.cells[row["test_index"]])


@given(grids(), augmentations())
def test_a_grid_comes_back_from_any_augmentation(grid: Grid, augmentation: Augmentation) -> None:
    (answer,) = decode(encode(augmentation.apply(grid), canvas=30)[None])
    assert answer is not None
    np.testing.assert_array_equal(augmentation.inverse().apply(answer), grid)


def test_every_candidate_is_answered_with_the_embedding_of_its_own_puzzle(arc: PuzzleSet) -> None:
    # The norm makes the row's length sqrt(hidden_size); only its angle is left.
    angles = torch.linspace(0.0, torch.pi, arc.num_puzzles)
    halt = (angles.cos() * CONFIG.hidden_size**0.5).sigmoid().tolist()
    expected = {
        (arc.table.task_ids[arc.table.tasks[number]], arc.table.augmentation(number)): halt[number]
        for number in range(arc.num_puzzles)
    }
    for row in answers(parrot(arc), arc):
        assert row["halt_probability"] == pytest.approx(expected[row["task"], augmentation_of(row)], abs=1e-4)


def test_the_number_of_steps_is_that_of_the_training_unless_told(arc: PuzzleSet) -> None:
    default, three = answers(random_model(arc), arc), answers(random_model(arc), arc, max_steps=3)
    assert {row["steps"] for row in default} == {CONFIG.max_steps}
    assert {row["steps"] for row in three} == {3}
    assert [row["halt_probability"] for row in default] != [row["halt_probability"] for row in three]


def test_candidates_at_earlier_steps_are_those_of_fewer_steps(arc: PuzzleSet) -> None:
    both, two = (
        answers(random_model(arc), arc, **settings)
        for settings in ({"max_steps": 5, "candidates_at": [2]}, {"max_steps": 2})
    )
    early = [row for row in both if row["steps"] == 2]
    assert [row["order"] for row in both] == list(range(2 * len(two)))
    assert [row | {"order": 0} for row in early] == [row | {"order": 0} for row in two]


def test_noise_changes_all_rollouts_but_the_first(arc: PuzzleSet) -> None:
    checkpoint = random_model(arc)
    plain = answers(checkpoint, arc)
    noisy = answers(checkpoint, arc, rollouts=3, noise=0.5, seed=1)
    halt = {
        number: [row["halt_probability"] for row in noisy if row["rollout"] == number] for number in range(3)
    }
    assert halt[0] == [row["halt_probability"] for row in plain]
    assert len({*halt[0], *halt[1], *halt[2]}) == 3 * len(plain)
    assert noisy == answers(checkpoint, arc, rollouts=3, noise=0.5, seed=1)
    assert noisy != answers(checkpoint, arc, rollouts=3, noise=0.5, seed=2)


def test_log_probability_is_the_mean_over_the_cells_that_are_shown() -> None:
    logits = torch.randn(5, 9, 7, generator=torch.Generator().manual_seed(0)) * 3
    logits[4, :, 0] = 50.0
    tokens, mean = chosen_tokens(logits)
    for row in range(5):
        values = logits[row].double()
        weights = torch.where(values < 0, 1 / (1 - values), values + 1)
        logs = (weights.amax(-1) / weights.sum(-1)).log()[tokens[row] != 0]
        assert mean[row].item() == pytest.approx(logs.mean().item() if len(logs) else 0.0, abs=1e-6)


def test_the_number_of_steps_has_a_bound() -> None:
    assert Recipe("mine", {"infer": {"max_steps": 10000}}).settings("infer", InferSettings).max_steps == 10000
    with pytest.raises(RecipeError, match=r"infer\.max_steps: .*10000, found 10001"):
        Recipe("mine", {"infer": {"max_steps": 10001}}).settings("infer", InferSettings)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"rollouts": 2}, "2 rollouts with noise 0: the first rollout is without noise"),
        ({"noise": 0.3}, r"1 rollouts with noise 0\.3"),
        ({"candidates_at": [2, 5]}, "a candidate is wanted at step 5, but there are only 4 steps"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    arc: PuzzleSet, settings: dict[str, Any], says: str
) -> None:
    with pytest.raises(ArcpipeError, match=says):
        answers(random_model(arc), arc, **settings)


def test_the_averaged_weights_answer(arc: PuzzleSet) -> None:
    checkpoint = parrot(arc)
    raw = {name: torch.full_like(weight, torch.nan) for name, weight in checkpoint.raw.items()}
    assert all(row["height"] for row in answers(replace(checkpoint, raw=raw), arc))


@pytest.mark.parametrize("name", ["output_head.weight", "halt_head.weight"])
def test_answers_that_are_not_finite_are_refused(arc: PuzzleSet, name: str) -> None:
    checkpoint = random_model(arc)
    # Each weight is finite, what is computed with them is not.
    weights = checkpoint.ema | {name: torch.full_like(checkpoint.ema[name], 3e38)}
    with pytest.raises(CheckpointError, match="made-up: its answers are not finite"):
        answers(replace(checkpoint, ema=weights), arc)


def other(folder: Path, tasks: list[Task], **settings: Any) -> PuzzleSet:
    """Another dataset than that of the fixture, of the settings that differ."""
    data = build(
        folder / "data", write_source(folder, "small", tasks), **{"canvas": 6, "num_aug": 7, **settings}
    )
    return read_puzzle_set(data)


def test_a_part_of_the_known_puzzles_is_answered_alike(
    tasks: list[Task], arc: PuzzleSet, tmp_path: Path
) -> None:
    known = {
        (row["task"], row["test_index"], augmentation_of(row)): row for row in answers(random_model(arc), arc)
    }
    rows = answers(random_model(arc), other(tmp_path, tasks[1:2], num_aug=3))
    assert len(rows) == 2 * 4
    for row in rows:
        whole = known[row["task"], row["test_index"], augmentation_of(row)]
        assert row["halt_probability"] == pytest.approx(whole["halt_probability"], abs=1e-5)


def test_tasks_and_augmentations_that_never_trained_are_refused(
    tasks: list[Task], arc: PuzzleSet, tmp_path: Path
) -> None:
    stranger = replace(tasks[0], id="stranger")
    with pytest.raises(CheckpointError, match=r"made-up: knows no embedding for 1 tasks.* such as stranger"):
        answers(random_model(arc), other(tmp_path / "a", [*tasks, stranger]))
    with pytest.raises(CheckpointError, match=r"for 3 tasks .*some of their augmentations, such as task1"):
        answers(random_model(arc), other(tmp_path / "b", tasks, seed=1))


def test_another_canvas_or_family_is_refused(
    tasks: list[Task], arc: PuzzleSet, sudoku_dir: Path, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="trained on canvas 6, the dataset has canvas 7"):
        answers(random_model(arc), other(tmp_path, tasks, canvas=7))
    with pytest.raises(CheckpointError, match=r"trained on puzzles of family arc, the dataset has .* sudoku"):
        answers(random_model(arc), read_puzzle_set(sudoku_dir))
