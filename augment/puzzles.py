"""Sudokus and mazes -> a dataset folder: one puzzle id for all, and variants computed while batching."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from arcpipe.augment.build import write_puzzle_set
from arcpipe.augment.maze import generate_mazes, read_mazes
from arcpipe.augment.puzzle_tables import PuzzleSettings, SolvedPuzzles
from arcpipe.augment.sudoku import generate_split, read_sudokus
from arcpipe.augmentation import IDENTITY, PuzzleTable
from arcpipe.boards import overlap as turned_overlap
from arcpipe.codec import GridTable, family_of
from arcpipe.errors import DataError
from arcpipe.puzzleset import PuzzleSet, Variants
from arcpipe.recipe import Count
from arcpipe.runs import file_hash, make_manifest, refuse_existing


@dataclass(frozen=True, kw_only=True)
class SudokuSettings(PuzzleSettings):
    """Which Sudokus, the table [data] of a recipe for them."""

    num_aug: Annotated[
        Count | None, Field(description="Shuffles of each puzzle; inf for a fresh one at every draw.")
    ] = 1000
    side: Annotated[Literal[4, 6, 9], Field(description="With --generate: 4, 6 or 9.")] = 9
    min_rating: Annotated[
        int, Field(ge=0, description="With --generate: guesses that arcpipe's solver needs, at least.")
    ] = 0


@dataclass(frozen=True, kw_only=True)
class MazeSettings(PuzzleSettings):
    """Which mazes, the table [data] of a recipe for them."""

    num_aug: Annotated[int, Field(ge=0, le=7, description="Turns and flips of each maze beside itself.")] = 7
    size: Annotated[int, Field(description="With --generate: side of the mazes, 5 to 64.")] = 30
    min_path: Annotated[
        int, Field(ge=0, description="With --generate: the shortest path has more moves than this.")
    ] = 110


@dataclass(frozen=True)
class PuzzleSummary:
    """What was built.

    examples, test_inputs: how many.
    canvas: its side.
    overlap: training puzzles that are tests too, or were before they were excluded.
    repeated: training puzzles that are the same as one before them.
    drawn_from, tests_drawn_from: how many their sources have of which they were drawn; 0 where all.
    unverified: Sudokus of which it is not known that they have no second solution.
    """

    examples: int
    test_inputs: int
    canvas: int
    overlap: int
    repeated: int
    drawn_from: int
    tests_drawn_from: int
    unverified: int


def build_sudoku(settings: SudokuSettings, out: Path) -> PuzzleSummary:
    """Build a dataset folder of Sudokus.

    Raises:  DataError for a source that cannot be read or a board that is no Sudoku; OutputError if `out`
             exists.
    """

    def generate() -> tuple[SolvedPuzzles, SolvedPuzzles]:
        return generate_split(
            settings.generate, settings.test, settings.side, settings.seed, settings.min_rating
        )

    return _build("sudoku", settings, out, generate, read_sudokus, _same_boards)


def build_maze(settings: MazeSettings, out: Path) -> PuzzleSummary:
    """Build a dataset folder of mazes; errors as of `build_sudoku`."""

    def generate() -> tuple[SolvedPuzzles, SolvedPuzzles]:
        total = settings.generate + settings.test
        return generate_mazes(total, settings.size, settings.min_path, settings.seed).part(settings.test)

    return _build("maze", settings, out, generate, read_mazes, turned_overlap)


def _same_boards(questions: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which of the questions (N, S, S) are, cell by cell, among the others."""
    keys = {board.tobytes() for board in others}
    return np.array([board.tobytes() in keys for board in questions], bool)


def _build(
    domain: str, settings: PuzzleSettings, out: Path,
    generate: Callable[[], tuple[SolvedPuzzles, SolvedPuzzles]],
    read: Callable[[PuzzleSettings, str], SolvedPuzzles],
    overlap: Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.bool_]],
) -> PuzzleSummary:  # fmt: skip
    """Generate or read puzzles, leave out what overlaps, and write the dataset folder.

    Args:    overlap: says which puzzles (N, S, S) are among others.
    """
    refuse_existing(out)
    if bool(settings.source) == bool(settings.generate):
        raise DataError("name a --source, or say with --generate how many to make up: one of the two")
    if settings.generate and settings.test_source:
        raise DataError("--test-source goes with --source; --test N generates tests")
    if settings.test and not settings.generate:
        raise DataError("--test goes with --generate; --test-source names the tests of a source")
    if settings.generate:
        train, test = generate()
    else:
        train = read(settings, "train")
        none = SolvedPuzzles(train.questions[:0], train.answers[:0])
        test = read(settings, "test") if settings.test_source else none
    if test.side != train.side:
        raise DataError(
            f"the tests are {test.side} wide, the training boards {train.side}: "
            "a dataset has boards of one size"
        )
    shared = overlap(train.questions, test.questions) if len(test) else np.zeros(len(train), bool)
    examples = train.take(np.flatnonzero(~shared)) if settings.exclude_overlap else train
    if not len(examples):
        raise DataError("no board is left to train on: all of them are tests too")
    puzzles = PuzzleSet(
        family=family_of(domain, train.side),
        canvas=train.side,
        table=PuzzleTable.of_groups([domain], [[IDENTITY]]),
        inputs=_grid_table(examples.questions),
        outputs=_grid_table(examples.answers),
        example_tasks=np.zeros(len(examples), np.int32),
        example_groups=np.arange(len(examples), dtype=np.int32),
        test_inputs=_grid_table(test.questions),
        test_tasks=np.zeros(len(test), np.int32),
        variants=Variants(settings.num_aug, settings.seed),
    )
    summary = PuzzleSummary(
        examples=len(examples), test_inputs=len(test), canvas=train.side, overlap=int(shared.sum()),
        repeated=len(examples) - len({board.tobytes() for board in examples.questions}),
        drawn_from=train.total, tests_drawn_from=test.total,
        unverified=train.unverified + test.unverified,
    )  # fmt: skip
    files = {str(path): file_hash(path) for path in dict.fromkeys((*train.files, *test.files))}
    counts = asdict(summary) | {"tasks": 1, "puzzles": 1}
    manifest = make_manifest("dataset", recipe={"data": asdict(settings)}, files=files, counts=counts)
    solutions = _grid_table(test.answers) if len(test) else None
    write_puzzle_set(out, puzzles, manifest, solutions=solutions)
    return summary


def _grid_table(boards: NDArray[np.uint8]) -> GridTable:
    return GridTable(boards, np.full((len(boards), 2), boards.shape[1], np.int16))
