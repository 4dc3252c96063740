"""The training stream: the content of an epoch, and what batches are independent of."""

import hashlib
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from arcpipe.batches import IGNORE, PuzzleBatch, TrainingStream
from arcpipe.buckets import layout_of
from arcpipe.codec import ARC, PAD
from arcpipe.grid import Grid
from arcpipe.puzzleset import PuzzleSet, read_puzzle_set
from puzzles import augmentation_of, build, encode, made_up_tasks, restored, write_source

CANVAS = 8
NAMES = ("inputs", "labels", "puzzle_ids")


@pytest.fixture(scope="module")
def puzzles(tmp_path_factory: pytest.TempPathFactory) -> PuzzleSet:
    """Five tasks with 1 to 4 examples each, six puzzles each, grids up to 5 x 5 on a canvas of 8."""
    folder = tmp_path_factory.mktemp("puzzles")
    source = write_source(folder, "few", made_up_tasks(5))
    return read_puzzle_set(build(folder / "data", source, num_aug=5, canvas=CANVAS))


def stream(puzzles: PuzzleSet, batch_size: int = 12, seed: int = 0, **more: Any) -> TrainingStream:
    return TrainingStream(puzzles, batch_size=batch_size, seed=seed, **{"placement": True, **more})


def epoch_stream(puzzles: PuzzleSet, placement: bool = True) -> TrainingStream:
    """Return a stream in which every batch is an epoch."""
    return stream(puzzles, len(puzzles.example_tasks), placement=placement)


def find_grid(tokens: Tensor) -> tuple[Grid, tuple[int, int]]:
    """Return the grid on a canvas, the bounding box of its colors, and its offset."""
    canvas = tokens.numpy().reshape(CANVAS, CANVAS)
    rows, columns = np.nonzero(canvas >= ARC.first)
    top, left = int(rows.min()), int(columns.min())
    cells = canvas[top : rows.max() + 1, left : columns.max() + 1]
    return (cells - ARC.first).astype(np.uint8), (top, left)


def examples_of(puzzles: PuzzleSet) -> list[tuple[int, bytes]]:
    """Return the training examples, each as its task and its content."""
    return [
        (int(task), content(puzzles.inputs.grid(number), puzzles.outputs.grid(number)))
        for number, task in enumerate(puzzles.example_tasks)
    ]


def content(given: Grid, wanted: Grid) -> bytes:
    return b"".join(bytes(grid.shape) + grid.tobytes() for grid in (given, wanted))


def undone(puzzles: PuzzleSet, batch: PuzzleBatch) -> list[tuple[int, bytes]]:
    """Return the base example of each row, with placement and augmentation undone."""
    found = []
    for tokens, labels, puzzle_id in zip(batch.inputs, batch.labels, batch.puzzle_ids, strict=True):
        augmentation = augmentation_of(puzzles.table, int(puzzle_id))
        given, wanted = (restored(find_grid(of)[0], augmentation) for of in (tokens, labels))
        found.append((int(puzzles.table.tasks[puzzle_id]), content(given, wanted)))
    return found


@pytest.mark.parametrize("placement", [False, True])
def test_an_epoch_holds_each_example_once_under_its_augmentation(puzzles: PuzzleSet, placement: bool) -> None:
    epochs = epoch_stream(puzzles, placement)
    for epoch in range(20):
        assert Counter(undone(puzzles, epochs[epoch])) == Counter(examples_of(puzzles))


def test_in_an_epoch_each_task_comes_once_under_one_puzzle(puzzles: PuzzleSet) -> None:
    orders, drawn = set(), set()
    for epoch in range(60):
        ids = epoch_stream(puzzles)[epoch].puzzle_ids.numpy()
        tasks = puzzles.table.tasks[ids]
        runs = 1 + np.flatnonzero(np.diff(tasks))
        assert len(runs) + 1 == len(puzzles.table.task_ids)
        for of_one_task in np.split(ids, runs):
            assert len(set(of_one_task)) == 1
        orders.add(tuple(tasks[[0, *runs]]))
        drawn |= set(ids.tolist())
    assert len(orders) > 20
    assert drawn == set(range(puzzles.num_puzzles))


def test_batches_cut_one_stream(puzzles: PuzzleSet) -> None:
    """The batch size only changes where the stream is cut."""
    size = len(puzzles.example_tasks)
    assert size % 7, "cuts should fall within epochs"
    by_epoch, by_sevens = epoch_stream(puzzles), stream(puzzles, 7)
    for name in NAMES:
        whole = torch.cat([getattr(by_epoch[epoch], name) for epoch in range(7)])
        assert torch.equal(whole, torch.cat([getattr(by_sevens[step], name) for step in range(size)])), name


def test_placement_moves_all_examples_of_a_puzzle_but_one_to_anywhere_they_fit(puzzles: PuzzleSet) -> None:
    reached = set()
    for epoch in range(200):
        batch = epoch_stream(puzzles)[epoch]
        corners = Counter[int]()
        for tokens, labels, puzzle_id in zip(batch.inputs, batch.labels, batch.puzzle_ids, strict=True):
            (given, place), (wanted, other_place) = find_grid(tokens), find_grid(labels)
            assert place == other_place
            corners[int(puzzle_id)] += place == (0, 0)
            room = [CANVAS - max(sides) for sides in zip(given.shape, wanted.shape, strict=True)]
            reached.add((place[0] == 0, place[0] == room[0], place[1] == 0, place[1] == room[1]))
        assert min(corners.values()) >= 1
    # Inside, and at each of the four edges independently of the other axis.
    assert (False, False, False, False) in reached
    assert (False, True, False, True) in reached
    assert {place[:2] for place in reached} >= {(True, False), (False, True), (False, False)}
    assert {place[2:] for place in reached} >= {(True, False), (False, True), (False, False)}


@pytest.mark.parametrize("placement", [False, True])
def test_tokens_are_the_codec_s_and_labels_ignore_padding_only(puzzles: PuzzleSet, placement: bool) -> None:
    batch = epoch_stream(puzzles, placement=placement)[1]
    assert {batch.inputs.dtype, batch.labels.dtype, batch.puzzle_ids.dtype} == {torch.int64}
    for tokens, labels in zip(batch.inputs, batch.labels, strict=True):
        (given, offset), (wanted, _) = find_grid(tokens), find_grid(labels)
        assert placement or offset == (0, 0)
        assert np.array_equal(tokens, encode(given, CANVAS, offset))
        target = encode(wanted, CANVAS, offset).astype(np.int64)
        assert np.array_equal(labels, np.where(target == PAD, IGNORE, target))


def test_a_dataset_and_its_batches_are_those_of_earlier_versions(puzzles: PuzzleSet) -> None:
    digest = hashlib.sha256()
    for step in (0, 1, 40):
        batch = stream(puzzles, seed=3)[step]
        for name in NAMES:
            digest.update(getattr(batch, name).numpy().tobytes())
    assert (puzzles.fingerprint()[:16], digest.hexdigest()[:16]) == ("2b2dd8718e442656", "b49e92a9e69b2a40")


def sampled(folder: Path, **settings: Any) -> PuzzleSet:
    """Six tasks of two sources of different sizes, 1 to 4 examples each: four of `many`, two of `few`."""
    tasks = made_up_tasks(6, seed=1)
    sources = (write_source(folder, "many", tasks[:4]), write_source(folder, "few", tasks[4:]))
    return read_puzzle_set(build(folder / "data", *sources, num_aug=2, canvas=CANVAS, **settings))


def draws_of(puzzles: PuzzleSet, size: int, **more: Any) -> list[tuple[int, list[int]]]:
    """Return the draws of 40 batches: each one's task and the numbers of its examples in the dataset."""
    numbers = {held: number for number, held in enumerate(examples_of(puzzles))}
    made, draws = stream(puzzles, size, **more), list[tuple[int, list[int]]]()
    for step in range(40):
        batch, last = made[step], -1
        for held, puzzle_id in zip(undone(puzzles, batch), batch.puzzle_ids.tolist(), strict=True):
            if puzzle_id != last or numbers[held] in draws[-1][1]:
                draws.append((held[0], []))
            draws[-1][1].append(numbers[held])
            last = puzzle_id
    return draws


@pytest.mark.parametrize("pairs", [0, 2])
@pytest.mark.parametrize("buckets", [[], [5]])
def test_each_source_has_its_share_of_the_draws(tmp_path: Path, pairs: int, buckets: list[int]) -> None:
    """Also if its tasks use several canvases; within a source all tasks are drawn equally often."""
    puzzles = sampled(tmp_path, weights=["few=0.6"], pairs_per_draw=pairs)
    layout = layout_of(puzzles, buckets, 96)
    assert layout.buckets == buckets
    counts = Counter[int](task for task, _ in draws_of(puzzles, 96, layout=layout))
    total = counts.total()
    for task in range(6):
        assert counts[task] / total == pytest.approx(0.1 if task < 4 else 0.3, rel=0.3)
    assert (counts[4] + counts[5]) / total == pytest.approx(0.6, abs=0.03)


def test_a_draw_has_so_many_pairs_and_others_each_time(tmp_path: Path) -> None:
    puzzles = sampled(tmp_path, pairs_per_draw=2)
    sizes = np.bincount(puzzles.example_tasks)
    assert {1, 4} <= set(sizes.tolist())
    draws = draws_of(puzzles, int(np.minimum(sizes, 2).sum()))
    assert Counter((task, len(numbers)) for task, numbers in draws) == {
        (task, min(2, size)): 40 for task, size in enumerate(sizes.tolist())
    }
    drawn = Counter[int](number for _, numbers in draws for number in numbers)
    for number, task in enumerate(puzzles.example_tasks.tolist()):
        assert drawn[number] == pytest.approx(40 * min(1, 2 / sizes[task]), abs=11)


def places_of(puzzles: PuzzleSet) -> dict[tuple[int, tuple[int, bytes]], set[tuple[int, int]]]:
    """Return the places on the canvas of each example under each puzzle, over many epochs."""
    places = defaultdict(set)
    for step in range(20):
        batch = stream(puzzles, 48)[step]
        for tokens, puzzle_id, example in zip(
            batch.inputs, batch.puzzle_ids.tolist(), undone(puzzles, batch), strict=True
        ):
            places[puzzle_id, example].add(find_grid(tokens)[1])
    return places


def test_fixed_places_are_drawn_once_for_each_example_under_each_puzzle(tmp_path: Path) -> None:
    fixed = places_of(sampled(tmp_path / "fixed", placement="fixed"))
    assert {len(places) for places in fixed.values()} == {1}
    assert len({place for places in fixed.values() for place in places}) > 10
    in_corner = {puzzle_id for (puzzle_id, _), places in fixed.items() if places == {(0, 0)}}
    assert in_corner == {puzzle_id for puzzle_id, _ in fixed}
    fresh = places_of(sampled(tmp_path / "fresh", pairs_per_draw=1))
    sizes = Counter(puzzle_id for puzzle_id, _ in fresh)
    assert all(len(places) > 1 for (puzzle_id, _), places in fresh.items() if sizes[puzzle_id] > 1)
