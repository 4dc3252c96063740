"""Inference with buckets: each task on its canvas, in whatever company."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pytest

from arcpipe.buckets import bucket_sides
from arcpipe.checkpoint import Checkpoint, save_checkpoint
from arcpipe.infer.evaluate import Evaluator
from arcpipe.infer.predict import InferSettings, infer_to_folder
from arcpipe.infer.solve import solve_puzzle
from arcpipe.predictions import SHARDS
from arcpipe.puzzleset import PuzzleSet, read_puzzle_set
from arcpipe.runs import write_json
from inference import CONFIG, answers, parrot, plain_loop, random_model, rows_of, wavering
from puzzles import BUCKETS, sized_data, sized_tasks
from training import forget_hashes


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
    # On the whole canvas nothing changes.
    assert not different & {"of8-3", "of7-7"}


def test_an_evaluation_of_some_tests_leaves_tasks_on_their_canvases(tmp_path: Path) -> None:
    """The largest grid of each task is one of its tests, of which not all are asked."""
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
    """Its demonstrations tell the canvas; one may be larger than any canvas."""
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
    facts = orjson.loads((old / "model.json").read_bytes())
    assert facts["config"].pop("buckets") == []
    assert facts["config"].pop("loop_residual") is False
    (old / "model.json").write_bytes(orjson.dumps(facts))
    result = infer_to_folder(old, data, tmp_path / "out", InferSettings())
    assert (result.done, result.total) == (64, 64)
    expected = [row["cells"] for row in answers(wavering(puzzles), puzzles)]
    assert [row["cells"] for row in rows_of(tmp_path / "out")] == expected
