"""Sudokus and mazes -> a dataset folder: one puzzle id for all, and variants computed while batching."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from arcpipe.errors import DataError
from arcpipe.recipe import STRICT
from arcpipe.runs import file_hash, make_manifest, refuse_existing

if TYPE_CHECKING:
    from arcpipe.codec import GridTable

Count = Annotated[int, Field(ge=0)]
MAZE_TURNS = 7
"""The dihedrals of a maze beside the identity."""


@dataclass(frozen=True, kw_only=True)
class BoardSettings:
    """Which Sudokus or mazes, and how many variants of each.

    source, test_source: what to read, as `read_sudokus` and `read_mazes` take it; empty to generate
    `generate` and `test` of them instead. question, answer: the columns of a table. subsample,
    test_subsample: how many to draw of them, 0 for all. num_aug: variants of each training example
    beside itself, None for a fresh one at every draw.
    """

    __pydantic_config__ = STRICT

    source: str = ""
    test_source: str = ""
    question: str = "question"
    answer: str = "answer"
    generate: Count = 0
    test: Count = 0
    subsample: Count = 0
    test_subsample: Count = 0
    exclude_overlap: bool = False
    num_aug: Count | None = None
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0


@dataclass(frozen=True, kw_only=True)
class SudokuSettings(BoardSettings):
    """`BoardSettings`, and what to generate: boards of a side, of at least a rating."""

    side: Literal[4, 6, 9] = 9
    min_rating: Count = 0


@dataclass(frozen=True, kw_only=True)
class MazeSettings(BoardSettings):
    """`BoardSettings`, and what to generate: mazes of a side, with a shortest path of more moves."""

    size: int = 30
    min_path: Count = 110


@dataclass(frozen=True)
class BoardSummary:
    """What was built; `overlap` training boards are tests too, or were before they were excluded; of
    `unverified` Sudokus it is not known that they have no second solution."""

    examples: int
    test_inputs: int
    canvas: int
    overlap: int
    unverified: int


_Overlap = Callable[[NDArray[np.uint8], NDArray[np.uint8]], NDArray[np.bool_]]


class _Set(Protocol):
    """N boards: questions and answers (N, S, S) uint8."""

    @property
    def questions(self) -> NDArray[np.uint8]: ...
    @property
    def answers(self) -> NDArray[np.uint8]: ...
    @property
    def files(self) -> tuple[Path, ...]: ...


_Read = TypeVar("_Read", bound=_Set)


def sudoku_settings(*, side: int, num_aug: str, **settings: Any) -> SudokuSettings:
    """The settings of the command line, where `num_aug` may be inf.

    Raises:  DataError for another `num_aug`, or a side that is not 4, 6 or 9.
    """
    if num_aug != "inf" and not num_aug.isdecimal():
        raise DataError(f"--num-aug {num_aug}: expected a number of shuffles, or inf for fresh ones")
    if side not in (4, 6, 9):
        raise DataError(f"--side {side}: a Sudoku is 4, 6 or 9 wide")
    return SudokuSettings(side=side, num_aug=None if num_aug == "inf" else int(num_aug), **settings)  # type: ignore[arg-type]


def build_sudoku(settings: SudokuSettings, out: Path) -> BoardSummary:
    """Build a dataset folder of Sudokus.

    Raises:  DataError for a source that cannot be read or a board that is no Sudoku; OutputError if `out`
             exists.
    """
    from arcpipe.augment.sudoku import Boards, read_sudokus
    from arcpipe.augment.sudoku_generator import generate_split

    refuse_existing(out)
    _check(settings, most_variants=None)
    test: Boards | None
    if settings.generate:
        train, test = generate_split(
            settings.generate, settings.test, settings.side, settings.seed, settings.min_rating
        )
    else:
        train, test = _read(settings, read_sudokus)
    unverified = sum(len(part.questions) - part.verified for part in (train, test) if part is not None)
    return _build("sudoku", settings, train, test, out, same_boards, unverified)


def build_maze(settings: MazeSettings, out: Path) -> BoardSummary:
    """Build a dataset folder of mazes.

    Raises:  DataError for a source that cannot be read or a board that is no maze; OutputError if `out`
             exists.
    """
    from arcpipe.augment.maze import Mazes, read_mazes
    from arcpipe.augment.maze_generator import generate_mazes
    from arcpipe.maze_rules import overlap

    refuse_existing(out)
    _check(settings, most_variants=MAZE_TURNS)
    test: Mazes | None
    if settings.generate:
        total = settings.generate + settings.test
        mazes = generate_mazes(total, settings.size, settings.min_path, settings.seed)
        test, train = (
            Mazes(mazes.questions[part], mazes.answers[part], ())
            for part in (slice(settings.test), slice(settings.test, total))
        )
    else:
        train, test = _read(settings, read_mazes)
    return _build("maze", settings, train, test, out, overlap, unverified=0)


def _check(settings: BoardSettings, most_variants: int | None) -> None:
    """Raises DataError for settings that contradict each other."""
    if bool(settings.source) == bool(settings.generate):
        raise DataError("name a --source, or say with --generate how many to make up: one of the two")
    if settings.generate and settings.test_source:
        raise DataError("--test-source goes with --source; --test N generates tests")
    if settings.test and not settings.generate:
        raise DataError("--test goes with --generate; --test-source names the tests of a source")
    if most_variants is not None and (settings.num_aug is None or settings.num_aug > most_variants):
        raise DataError(f"--num-aug may be 0 to {most_variants}: a maze looks different from eight sides")


def _read(settings: BoardSettings, reader: Callable[..., _Read]) -> tuple[_Read, _Read | None]:
    """The training and the test boards of the sources, `reader` being `read_sudokus` or `read_mazes`."""

    def read(spec: str, split: str, count: int, purpose: int) -> _Read:
        return reader(
            spec, split=split, question=settings.question, answer=settings.answer, subsample=count,
            seed=(settings.seed, purpose),
        )  # fmt: skip

    train = read(settings.source, "train", settings.subsample, 0)
    if not settings.test_source:
        return train, None
    return train, read(settings.test_source, "test", settings.test_subsample, 1)


def same_boards(questions: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which of the questions (N, S, S) are, cell by cell, among the others."""
    # As texts without a zero, which numpy would drop from their ends.
    keys, known = (
        np.ascontiguousarray(boards + np.uint8(1)).reshape(len(boards), -1).view(f"S{boards[0].size}")[:, 0]
        if len(boards)
        else np.zeros(0, "S1")
        for boards in (questions, others)
    )
    return np.isin(keys, known)


def _build(
    family: str, settings: BoardSettings, train: _Set, test: _Set | None, out: Path, overlap: _Overlap,
    unverified: int,
) -> BoardSummary:  # fmt: skip
    """See to the overlap, and write."""
    from arcpipe.codec import family_of
    from arcpipe.puzzleset import PuzzleSet, Variants, write_puzzle_set
    from arcpipe.puzzletable import PuzzleTable

    canvas = train.questions.shape[1]
    if test is not None and test.questions.shape[1] != canvas:
        raise DataError(
            f"the tests are {test.questions.shape[1]} wide, the training boards {canvas}: "
            "a dataset has boards of one size"
        )
    questions, answers = train.questions, train.answers
    test_questions, test_answers = questions[:0], answers[:0]
    if test is not None:
        test_questions, test_answers = test.questions, test.answers
    shared = overlap(questions, test_questions) if len(test_questions) else np.zeros(len(questions), bool)
    if settings.exclude_overlap:
        questions, answers = questions[~shared], answers[~shared]
    if not len(questions):
        raise DataError("no board is left to train on: all of them are tests too")
    puzzles = PuzzleSet(
        family=family_of(family, canvas),
        canvas=canvas,
        table=PuzzleTable(
            [family], np.zeros(1, np.int32), np.zeros(1, np.uint8), np.arange(10, dtype=np.uint8)[None]
        ),
        inputs=_table(questions),
        outputs=_table(answers),
        example_tasks=np.zeros(len(questions), np.int32),
        example_groups=np.arange(len(questions), dtype=np.int32),
        test_inputs=_table(test_questions),
        test_tasks=np.zeros(len(test_questions), np.int32),
        variants=Variants(settings.num_aug, settings.seed),
    )
    summary = BoardSummary(
        examples=len(questions),
        test_inputs=len(test_questions),
        canvas=canvas,
        overlap=int(shared.sum()),
        unverified=unverified,
    )
    files = {str(path): file_hash(path) for part in (train, test) if part is not None for path in part.files}
    counts = asdict(summary) | {"tasks": 1, "puzzles": 1}
    manifest = make_manifest("dataset", recipe={"data": asdict(settings)}, files=files, counts=counts)
    solutions = _table(test_answers) if len(test_answers) else None
    write_puzzle_set(out, puzzles, manifest, solutions=solutions)
    return summary


def _table(boards: NDArray[np.uint8]) -> "GridTable":
    from arcpipe.codec import GridTable

    return GridTable(boards, np.full((len(boards), 2), boards.shape[1], np.int16))
