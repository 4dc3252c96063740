"""Inference with two models: one that repeats its input, and one with random weights."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from torch import Tensor

from arcpipe.augment.build import DataSettings, build_arc
from arcpipe.augmentation import IDENTITY, Augmentation
from arcpipe.checkpoint import Checkpoint, puzzle_keys
from arcpipe.codec import VOCABULARY, decode, encode
from arcpipe.errors import CheckpointError, RecipeError
from arcpipe.grid import Grid
from arcpipe.infer.solve import InferSettings, solve
from arcpipe.predictions import Prediction
from arcpipe.puzzleset import PuzzleSet, read_puzzle_set
from arcpipe.recipe import Recipe
from arcpipe.runs import write_json
from arcpipe.task import Pair, Task, challenges_json
from arcpipe.trm import TRM, TRMConfig
from strategies import augmentations, grids

CONFIG = TRMConfig(
    hidden_size=16, num_heads=2, num_layers=1, outer_cycles=1, inner_cycles=1, max_steps=2,
    puzzle_size=2, puzzle_tokens=1,
)  # fmt: skip
CPU = torch.device("cpu")


def build(folder: Path, tasks: list[Task], *, canvas: int = 6, num_aug: int = 7, seed: int = 0) -> PuzzleSet:
    folder.mkdir()
    source = folder / "small_challenges.json"
    write_json(source, challenges_json(tasks))
    settings = DataSettings(sources=[str(source)], canvas=canvas, num_aug=num_aug, seed=seed)
    build_arc(settings, folder / "data")
    return read_puzzle_set(folder / "data")


@pytest.fixture(scope="module")
def tasks() -> list[Task]:
    """Tasks with one, two and three test inputs of different shapes."""
    rng = np.random.default_rng(0)

    def grid(height: int, width: int) -> Grid:
        return rng.integers(0, 10, (height, width), dtype=np.uint8)

    return [
        Task(
            f"task{len(shapes)}",
            demonstrations=(Pair(grid(2, 3), grid(3, 2)), Pair(grid(1, 4), grid(2, 2))),
            tests=tuple(Pair(grid(*shape), None) for shape in shapes),
        )
        for shapes in ([(3, 2)], [(1, 5), (4, 4)], [(6, 1), (2, 3), (1, 1)])
    ]


@pytest.fixture(scope="module")
def puzzles(tasks: list[Task], tmp_path_factory: pytest.TempPathFactory) -> PuzzleSet:
    return build(tmp_path_factory.mktemp("puzzles") / "small", tasks)


def checkpoint_of(puzzles: PuzzleSet, weights: dict[str, Tensor], rows: Tensor) -> Checkpoint:
    """A checkpoint that knows the puzzles, in the reverse of their order."""
    return Checkpoint(
        path=Path("made-up"),
        config=CONFIG,
        canvas=puzzles.canvas,
        vocabulary=VOCABULARY,
        raw=weights,
        ema=weights,
        rows=rows.flip(0),
        puzzles=puzzle_keys(puzzles)[::-1],
        manifest={"recipe": {"train": {"precision": "float32"}}},
    )


@pytest.fixture(scope="module")
def parrot(puzzles: PuzzleSet) -> Checkpoint:
    """A model whose answer is its input and whose halt probability tells which puzzle it was given.

    Blocks that add nothing leave each token's one-hot embedding as it is, but for its scale; the halt
    head reads the angle of the puzzle's row.
    """
    model = TRM(CONFIG, puzzles.num_tokens, VOCABULARY)
    weights = {name: torch.zeros_like(weight) for name, weight in model.state_dict().items()}
    weights["embed_tokens"] += torch.eye(VOCABULARY, CONFIG.hidden_size)
    weights["output_head.weight"] += torch.eye(VOCABULARY, CONFIG.hidden_size)
    weights["halt_head.weight"][0, 0] = 1.0
    angles = torch.linspace(0.0, torch.pi, puzzles.num_puzzles)
    return checkpoint_of(puzzles, weights, torch.stack([angles.cos(), angles.sin()], dim=1))


@pytest.fixture(scope="module")
def random_model(puzzles: PuzzleSet) -> Checkpoint:
    generator = torch.Generator().manual_seed(0)
    model = TRM(CONFIG, puzzles.num_tokens, VOCABULARY)
    weights = {
        name: torch.randn(weight.shape, generator=generator) / CONFIG.hidden_size**0.5
        for name, weight in model.state_dict().items()
    }
    return checkpoint_of(puzzles, weights, torch.randn(puzzles.num_puzzles, 2, generator=generator))


def answers(checkpoint: Checkpoint, puzzles: PuzzleSet, **settings: int) -> list[Prediction]:
    return list(solve(checkpoint, puzzles, InferSettings(**settings), CPU))


def by_test(predictions: list[Prediction]) -> Iterator[tuple[tuple[str, int], list[Prediction]]]:
    found: dict[tuple[str, int], list[Prediction]] = {}
    for prediction in predictions:
        found.setdefault((prediction.task, prediction.test_index), []).append(prediction)
    yield from found.items()


def test_every_test_input_under_every_puzzle_of_its_task_once_identity_first(
    puzzles: PuzzleSet, random_model: Checkpoint
) -> None:
    predictions = answers(random_model, puzzles, batch_size=5)
    expected = {
        (task, index): [augmentation for owner, augmentation in puzzle_keys(puzzles) if owner == task]
        for task, tests in (("task1", 1), ("task2", 2), ("task3", 3))
        for index in range(tests)
    }
    found = {key: [p.augmentation for p in candidates] for key, candidates in by_test(predictions)}
    assert found == expected
    assert list(found) == list(expected)
    for applied in found.values():
        assert applied[0] == IDENTITY
        assert len(applied) == len(set(applied)) == 8


def test_answers_are_turned_back_to_the_frame_of_the_task(
    tasks: list[Task], puzzles: PuzzleSet, parrot: Checkpoint
) -> None:
    predictions = answers(parrot, puzzles, batch_size=7)
    assert len(predictions) == 6 * 8
    inputs = {(task.id, index): pair.input for task in tasks for index, pair in enumerate(task.tests)}
    for prediction in predictions:
        np.testing.assert_array_equal(prediction.grid, inputs[prediction.task, prediction.test_index])


@given(grids(), augmentations())
def test_a_grid_comes_back_from_any_augmentation(grid: Grid, augmentation: Augmentation) -> None:
    (answer,) = decode(encode(augmentation.apply(grid), canvas=30)[None])
    assert answer is not None
    np.testing.assert_array_equal(augmentation.inverse().apply(answer), grid)


def test_every_candidate_is_answered_with_the_embedding_of_its_own_puzzle(
    puzzles: PuzzleSet, parrot: Checkpoint
) -> None:
    # The norm makes the row's length sqrt(hidden_size); only its angle is left.
    angles = torch.linspace(0.0, torch.pi, puzzles.num_puzzles)
    halt = (angles.cos() * CONFIG.hidden_size**0.5).sigmoid().tolist()
    expected = dict(zip(puzzle_keys(puzzles), halt, strict=True))
    for prediction in answers(parrot, puzzles):
        wanted = expected[prediction.task, prediction.augmentation]
        assert prediction.halt_probability == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("batch_size", [1, 5, 48])
def test_answers_do_not_depend_on_the_batch_size(
    puzzles: PuzzleSet, random_model: Checkpoint, batch_size: int
) -> None:
    together = answers(random_model, puzzles)
    assert len({p.grid.tobytes() for p in together if p.grid is not None}) > 10, "the answers differ"
    for one, other in zip(together, answers(random_model, puzzles, batch_size=batch_size), strict=True):
        assert (one.task, one.test_index, one.augmentation) == (
            other.task, other.test_index, other.augmentation,
        )  # fmt: skip
        assert (one.grid is None) == (other.grid is None)
        if one.grid is not None and other.grid is not None:
            np.testing.assert_array_equal(one.grid, other.grid)
        assert one.halt_probability == pytest.approx(other.halt_probability, abs=1e-5)


def test_the_number_of_steps_is_that_of_the_training_unless_told(
    puzzles: PuzzleSet, random_model: Checkpoint
) -> None:
    default, three = answers(random_model, puzzles), answers(random_model, puzzles, max_steps=3)
    assert {prediction.steps for prediction in default} == {CONFIG.max_steps}
    assert {prediction.steps for prediction in three} == {3}
    assert [p.halt_probability for p in default] != [p.halt_probability for p in three]


def test_the_number_of_steps_has_a_bound() -> None:
    assert Recipe("mine", {"infer": {"max_steps": 10000}}).settings("infer", InferSettings).max_steps == 10000
    with pytest.raises(RecipeError, match=r"infer\.max_steps: .*10000, found 10001"):
        Recipe("mine", {"infer": {"max_steps": 10001}}).settings("infer", InferSettings)


def test_the_averaged_weights_answer(puzzles: PuzzleSet, parrot: Checkpoint) -> None:
    raw = {name: torch.full_like(weight, torch.nan) for name, weight in parrot.raw.items()}
    assert all(prediction.grid is not None for prediction in answers(replace(parrot, raw=raw), puzzles))


@pytest.mark.parametrize("name", ["output_head.weight", "halt_head.weight"])
def test_answers_that_are_not_finite_are_refused(
    puzzles: PuzzleSet, random_model: Checkpoint, name: str
) -> None:
    # Each weight is finite, what is computed with them is not.
    weights = random_model.ema | {name: torch.full_like(random_model.ema[name], 3e38)}
    with pytest.raises(CheckpointError, match="made-up: its answers are not finite"):
        answers(replace(random_model, ema=weights), puzzles)


def test_a_part_of_the_known_puzzles_is_answered_alike(
    tasks: list[Task], puzzles: PuzzleSet, random_model: Checkpoint, tmp_path: Path
) -> None:
    part = build(tmp_path / "part", tasks[1:2], num_aug=3)
    known = {(p.task, p.test_index, p.augmentation): p for p in answers(random_model, puzzles)}
    predictions = answers(random_model, part)
    assert len(predictions) == 2 * 4
    for prediction in predictions:
        whole = known[prediction.task, prediction.test_index, prediction.augmentation]
        assert prediction.halt_probability == pytest.approx(whole.halt_probability, abs=1e-5)


def test_tasks_and_augmentations_that_never_trained_are_refused(
    tasks: list[Task], random_model: Checkpoint, tmp_path: Path
) -> None:
    stranger = replace(tasks[0], id="stranger")
    with pytest.raises(CheckpointError, match=r"made-up: knows no embedding for 1 tasks.* such as stranger"):
        answers(random_model, build(tmp_path / "stranger", [*tasks, stranger]))
    with pytest.raises(CheckpointError, match=r"for 3 tasks .*some of their augmentations, such as task1"):
        answers(random_model, build(tmp_path / "seed", tasks, seed=1))


def test_another_canvas_is_refused(tasks: list[Task], random_model: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="trained on canvas 6, the dataset has canvas 7"):
        answers(random_model, build(tmp_path / "seven", tasks, canvas=7))
