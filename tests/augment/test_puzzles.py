"""Datasets of Sudokus and mazes: variants, overlaps and subsamples."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from arcpipe.augment.maze import MazeSettings, build_maze, generate_mazes
from arcpipe.augment.sudoku import SudokuSettings, build_sudoku, generate_sudokus
from arcpipe.augmentation import apply_dihedral
from arcpipe.batches import TrainingStream
from arcpipe.boards import CHARACTERS, is_shortest_path
from arcpipe.puzzleset import PuzzleSet, read_puzzle_set
from puzzles import KNOWN, board, csv_text, follows_the_rules, full_board, text

Boards = NDArray[np.uint8]


def sudokus(folder: Path, rows: Iterable[Sequence[str]], **settings: Any) -> PuzzleSet:
    """The dataset of a table of questions and answers, built in `folder` and read back."""
    source = folder.with_suffix(".csv")
    source.write_text(csv_text(*rows))
    build_sudoku(SudokuSettings(source=str(source), **settings), folder)
    return read_puzzle_set(folder)


def drawn(puzzles: PuzzleSet, epochs: int) -> tuple[Boards, Boards]:
    """The questions and answers (N, S, S) of the first epochs."""
    size, side = len(puzzles.example_tasks) * epochs, puzzles.canvas
    batch = TrainingStream(puzzles, batch_size=size, seed=0, placement=True)[0]
    assert not batch.puzzle_ids.any()
    questions, answers = (
        (tokens.numpy() - 1).astype(np.uint8).reshape(-1, side, side)
        for tokens in (batch.inputs, batch.labels)
    )
    return questions, answers


@pytest.mark.parametrize("side", [4, 6, 9])
def test_every_shuffle_is_a_sudoku_and_keeps_its_givens(tmp_path: Path, side: int) -> None:
    full = "".join(map(str, full_board(side).ravel()))
    pairs = [(full[:start] + "." * side + full[start + side :], full) for start in range(0, 4 * side, side)]
    questions, answers = drawn(sudokus(tmp_path / "data", pairs), epochs=30)
    assert len({question.tobytes() for question in questions}) > 100
    for question, answer in zip(questions, answers, strict=True):
        assert follows_the_rules(answer)
        assert np.array_equal(question[question > 0], answer[question > 0])


@pytest.mark.parametrize("count", [0, 1, 5, None])
def test_each_sudoku_has_so_many_shuffles_beside_itself(tmp_path: Path, count: int | None) -> None:
    questions, _ = drawn(sudokus(tmp_path / "data", KNOWN, num_aug=count), epochs=100)
    shown = {cells.tobytes() for cells in questions}
    assert len(shown) == (300 if count is None else 3 * (1 + count))
    if count is not None:
        assert {board(question).tobytes() for question, _ in KNOWN} <= shown


@pytest.mark.parametrize("count", [0, 3, 7])
def test_a_maze_is_turned_and_flipped_with_its_path(tmp_path: Path, count: int) -> None:
    build_maze(MazeSettings(generate=3, size=8, min_path=6, num_aug=count), tmp_path / "data")
    puzzles = read_puzzle_set(tmp_path / "data")
    questions, answers = drawn(puzzles, epochs=60)
    assert is_shortest_path(questions, answers).all()
    cells, dihedrals = puzzles.inputs.cells, range(count + 1)
    expected = {apply_dihedral(maze, dihedral).tobytes() for maze in cells for dihedral in dihedrals}
    assert {maze.tobytes() for maze in questions} == expected


def test_a_maze_that_is_turned_overlaps(tmp_path: Path) -> None:
    made = generate_mazes(4, size=6, min_path=6, seed=0)
    train, test = tmp_path / "train.txt", tmp_path / "test.txt"
    for path, answers in ((train, made.answers), (test, apply_dihedral(made.answers[:2], 3))):
        lines = [["".join(CHARACTERS[cell] for cell in row) for row in answer] for answer in answers]
        path.write_text("\n\n".join(map("\n".join, lines)))
    settings = MazeSettings(source=str(train), test_source=str(test), exclude_overlap=True)
    assert build_maze(settings, tmp_path / "data").overlap == 2
    generated = MazeSettings(generate=150, test=150, size=5, min_path=4)
    assert build_maze(generated, tmp_path / "generated").overlap == 0
    assert np.array_equal(read_puzzle_set(tmp_path / "data").inputs.cells, made.questions[2:])


def test_a_subsample_is_drawn_by_the_seed_in_the_order_of_the_file(tmp_path: Path) -> None:
    made = generate_sudokus(40, 4, seed=0)
    rows = list(zip(map(text, made.questions), map(text, made.answers), strict=True))
    questions = [question for question, _ in rows]
    (tmp_path / "tests.csv").write_text(csv_text(*rows))

    def sample(name: str, **settings: Any) -> list[int]:
        puzzles = sudokus(tmp_path / name, rows, test_source=str(tmp_path / "tests.csv"), **settings)
        return [questions.index(text(cells)) for cells in puzzles.inputs.cells]

    first = sample("first", subsample=10)
    assert sample("again", subsample=10, test_subsample=5) == first == sorted(set(first))
    assert len(first) == 10
    assert sample("other", subsample=10, seed=1) != first
    assert sample("all") == list(range(40))
    assert len(read_puzzle_set(tmp_path / "again").test_inputs) == 5
