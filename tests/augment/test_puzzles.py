"""Datasets of Sudokus and mazes: variants, overlaps and subsamples."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from arcpipe.augment.maze import MazeSettings, build_maze, canonical
from arcpipe.augment.sudoku import SudokuSettings, build_sudoku, generate_sudokus
from arcpipe.augmentation import apply_dihedral
from arcpipe.batches import PuzzleBatch, TrainingStream
from arcpipe.boards import is_shortest_path
from arcpipe.puzzleset import PuzzleSet, read_puzzle_set
from puzzles import EASY, FEWEST_CLUES, HARD, board, follows_the_rules, full_board, text

KNOWN = (EASY, FEWEST_CLUES, HARD)
Boards = NDArray[np.uint8]


def write_csv(path: Path, pairs: Any) -> str:
    """A table of questions and answers."""
    path.write_text("question,answer\n" + "".join(f"{question},{answer}\n" for question, answer in pairs))
    return str(path)


def sudokus(folder: Path, **settings: Any) -> PuzzleSet:
    """The dataset of these settings, built in `folder` and read back."""
    build_sudoku(SudokuSettings(**settings), folder)
    return read_puzzle_set(folder)


def mazes(folder: Path, **settings: Any) -> PuzzleSet:
    build_maze(MazeSettings(**settings), folder)
    return read_puzzle_set(folder)


def drawn(puzzles: PuzzleSet, epochs: int) -> PuzzleBatch:
    """The training examples of the first epochs."""
    size = len(puzzles.example_tasks) * epochs
    return TrainingStream(puzzles, batch_size=size, seed=0, placement=True)[0]


def boards_of(tokens: Any, side: int) -> Boards:
    """The cell values (N, S, S) of tokens (N, L)."""
    cells: Boards = (tokens.numpy() - 1).astype(np.uint8).reshape(-1, side, side)
    return cells


@pytest.mark.parametrize("side", [4, 6, 9])
def test_every_shuffle_is_a_sudoku_and_keeps_its_givens(tmp_path: Path, side: int) -> None:
    full = "".join(map(str, full_board(side).ravel()))
    pairs = [(full[:start] + "." * side + full[start + side :], full) for start in range(0, 4 * side, side)]
    puzzles = sudokus(tmp_path / "data", source=write_csv(tmp_path / "a.csv", pairs))
    batch = drawn(puzzles, epochs=30)
    questions, answers = boards_of(batch.inputs, side), boards_of(batch.labels, side)
    assert len({question.tobytes() for question in questions}) > 100
    for question, answer in zip(questions, answers, strict=True):
        assert follows_the_rules(answer)
        assert np.array_equal(question[question > 0], answer[question > 0])
    assert not batch.puzzle_ids.any()


@pytest.mark.parametrize("count", [0, 1, 5, None])
def test_each_sudoku_has_so_many_shuffles_beside_itself(tmp_path: Path, count: int | None) -> None:
    puzzles = sudokus(tmp_path / "data", source=write_csv(tmp_path / "a.csv", KNOWN), num_aug=count)
    shown = {cells.tobytes() for cells in boards_of(drawn(puzzles, epochs=100).inputs, 9)}
    assert len(shown) == (300 if count is None else 3 * (1 + count))
    if count is not None:
        assert {board(question).tobytes() for question, _ in KNOWN} <= shown


@pytest.mark.parametrize("count", [0, 3, 7])
def test_a_maze_is_turned_and_flipped_with_its_path(tmp_path: Path, count: int) -> None:
    puzzles = mazes(tmp_path / "data", generate=3, size=8, min_path=6, num_aug=count)
    batch = drawn(puzzles, epochs=60)
    questions, answers = boards_of(batch.inputs, 8), boards_of(batch.labels, 8)
    assert is_shortest_path(questions, answers).all()
    cells, dihedrals = puzzles.inputs.cells, range(count + 1)
    expected = {apply_dihedral(maze, dihedral).tobytes() for maze in cells for dihedral in dihedrals}
    assert {maze.tobytes() for maze in questions} == expected


def maze_text(cells: Boards) -> str:
    return "".join("# SGo"[cell] for cell in cells.ravel())


def test_a_maze_that_is_turned_overlaps(tmp_path: Path) -> None:
    made = mazes(tmp_path / "made", generate=4, size=6, min_path=6)
    pairs = list(zip(made.inputs.cells, made.outputs.cells, strict=True))
    turned = [tuple(apply_dihedral(cells, 3) for cells in pair) for pair in pairs[:2]]
    train, test = (
        write_csv(tmp_path / name, [map(maze_text, pair) for pair in part])
        for name, part in (("train.csv", pairs), ("test.csv", turned))
    )
    settings = MazeSettings(source=train, test_source=test, exclude_overlap=True, num_aug=7)
    assert build_maze(settings, tmp_path / "data").overlap == 2
    left = read_puzzle_set(tmp_path / "data").inputs.cells
    assert np.array_equal(left, made.inputs.cells[2:])


def test_generated_tests_are_no_training_boards_from_any_side(tmp_path: Path) -> None:
    # Mazes so small that some would repeat by chance.
    puzzles = mazes(tmp_path / "data", generate=150, test=150, size=5, min_path=4)
    assert not np.isin(canonical(puzzles.inputs.cells), canonical(puzzles.test_inputs.cells)).any()
    assert (len(puzzles.inputs), len(puzzles.test_inputs)) == (150, 150)


def test_a_subsample_is_drawn_by_the_seed_in_the_order_of_the_file(tmp_path: Path) -> None:
    made = generate_sudokus(40, 4, seed=0)
    rows = [text(cells) for cells in made.questions]
    source = write_csv(tmp_path / "a.csv", zip(rows, map(text, made.answers), strict=True))

    def sample(name: str, **settings: Any) -> list[int]:
        puzzles = sudokus(tmp_path / name, source=source, test_source=source, **settings)
        return [rows.index(text(cells)) for cells in puzzles.inputs.cells]

    first = sample("first", subsample=10)
    assert sample("again", subsample=10, test_subsample=5) == first == sorted(set(first))
    assert len(first) == 10
    assert sample("other", subsample=10, seed=1) != first
    assert sample("all") == list(range(40))
    assert len(read_puzzle_set(tmp_path / "again").test_inputs) == 5
