"""Random grids, tasks and boards, their augmentations in plain numpy, and dataset folders."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.typing import NDArray

from arcpipe.augment.alike import likeness
from arcpipe.augment.build import build_arc
from arcpipe.augment.forms import DataSettings
from arcpipe.augmentation import IDENTITY_COLORS, PuzzleTable
from arcpipe.boards import BOXES
from arcpipe.codec import ARC, GridTable, dihedral_transform, encode_grids
from arcpipe.grid import Grid, as_grid
from arcpipe.puzzleset import PuzzleSet
from arcpipe.runs import write_json
from arcpipe.task import Pair, Task, challenges_json, solutions_json


@dataclass(frozen=True)
class Augmentation:
    """A recoloring (cell value v becomes `colors[v]`) followed by a turn or flip."""

    dihedral: int = 0
    colors: tuple[int, ...] = IDENTITY_COLORS


IDENTITY = Augmentation()


def table_of(names: Sequence[str], groups: Sequence[Sequence[Augmentation]]) -> PuzzleTable:
    """The table of all puzzles, given the augmentations of each task."""
    flat = [augmentation for group in groups for augmentation in group]
    return PuzzleTable(
        list(names),
        np.repeat(np.arange(len(names), dtype=np.int32), [len(group) for group in groups]),
        np.array([augmentation.dihedral for augmentation in flat], np.uint8),
        np.array([augmentation.colors for augmentation in flat], np.uint8).reshape(-1, 10),
    )


def augmentation_of(table: PuzzleTable, row: int) -> Augmentation:
    """The augmentation of a puzzle."""
    return Augmentation(int(table.dihedrals[row]), tuple(table.colors[row].tolist()))


def grids(max_side: int = 30) -> st.SearchStrategy[Grid]:
    """Grids of all shapes up to `max_side`."""
    shapes = st.tuples(st.integers(1, max_side), st.integers(1, max_side))
    return npst.arrays(np.uint8, shapes, elements=st.integers(0, 9))


def augmentations() -> st.SearchStrategy[Augmentation]:
    """All dihedrals with all permutations of the ten values."""
    return st.builds(Augmentation, st.integers(0, 7), st.permutations(range(10)).map(tuple))


@st.composite
def solved_tasks(draw: st.DrawFn) -> Task:
    """Tasks with small grids, all outputs known."""
    pairs = st.lists(st.builds(Pair, grids(4), grids(4)), min_size=1, max_size=3).map(tuple)
    return Task(draw(st.text("0123456789abcdef", min_size=1, max_size=8)), draw(pairs), draw(pairs))


def plain_task(task: Task) -> dict[str, Any]:
    """A task as lists and numbers, to compare by value."""
    return {
        part: [(pair.input.tolist(), None if pair.output is None else pair.output.tolist()) for pair in pairs]
        for part, pairs in (("train", task.demonstrations), ("test", task.tests))
    }


def turned(grid: Grid, dihedral: int) -> Grid:
    """The grid under a dihedral id, as `dataset/common.py` of the official code defines it."""
    if dihedral < 4:
        return np.rot90(grid, dihedral).copy()
    return (np.fliplr(grid), np.flipud(grid), grid.T, np.fliplr(np.rot90(grid)))[dihedral - 4].copy()


def augmented(grid: Grid, augmentation: Augmentation) -> Grid:
    """The grid recolored, then turned."""
    return turned(np.array(augmentation.colors, np.uint8)[grid], augmentation.dihedral)


def restored(grid: Grid, augmentation: Augmentation) -> Grid:
    """Return the grid before an augmentation."""
    inverse = (0, 3, 2, 1, 4, 5, 6, 7)[augmentation.dihedral]
    return np.argsort(augmentation.colors).astype(np.uint8)[turned(grid, inverse)]


def encode(grid: Grid, canvas: int, offset: tuple[int, int] = (0, 0)) -> NDArray[np.uint8]:
    """The tokens (canvas * canvas,) of one ARC grid."""
    table, items = GridTable.pack([grid], max(grid.shape)).with_eos(ARC), np.zeros(1, np.intp)
    transform = dihedral_transform(ARC, table, items, canvas, offsets=np.array([offset]))
    tokens: NDArray[np.uint8] = encode_grids(table, items, transform)[0]
    return tokens


# Published Sudokus with their solutions: one that singles solve, one of 17 clues, one of the hardest.
EASY = (
    "53..7....6..195....98....6.8...6...34..8.3..17...2...6.6....28....419..5....8..79",
    "534678912672195348198342567859761423426853791713924856961537284287419635345286179",
)
FEWEST_CLUES = (
    "................12....34.........3......5.4.6.127........1....849....6..6........",
    "269518734834697512175234869546982371987351426312746985753169248491823657628475193",
)
HARD = (
    "98.7..6....5.9..7......5..48...53...2...1.5....19...3.6.......2..7..9.1.......4..",
    "982734651465192378713865924876253149239416587541978236654381792327649815198527463",
)

KNOWN = (EASY, FEWEST_CLUES, HARD)


def csv_text(*rows: Sequence[str], header: str = "question,answer") -> str:
    """A table, such as one of questions and answers."""
    return "\n".join([header, *map(",".join, rows), ""])


def board(text: str) -> NDArray[np.uint8]:
    """The board (S, S) of a text of S * S digits, `.` for an empty cell."""
    side = round(len(text) ** 0.5)
    return np.array([0 if cell == "." else int(cell) for cell in text], np.uint8).reshape(side, side)


def text(cells: NDArray[np.uint8]) -> str:
    """The text of a board (S, S)."""
    return "".join("." if cell == 0 else str(cell) for cell in cells.ravel())


def full_board(side: int) -> NDArray[np.uint8]:
    """A full board (S, S): the digits in order, each row shifted against the one above."""
    height, width = BOXES[side]
    row, column = np.indices((side, side))
    return ((width * (row % height) + row // height + column) % side + 1).astype(np.uint8)


def units(side: int) -> list[list[tuple[int, ...]]]:
    """The cells of each row, column and box."""
    height, width = BOXES[side]
    places = list(np.ndindex(side, side))
    of_place = [(r, side + c, 2 * side + r // height * (side // width) + c // width) for r, c in places]
    return [
        [place for place, units in zip(places, of_place, strict=True) if number in units]
        for number in range(3 * side)
    ]


def follows_the_rules(cells: NDArray[np.uint8]) -> bool:
    """Whether each row, column and box of a full board holds each digit once."""
    digits = set(range(1, len(cells) + 1))
    return all({int(cells[place]) for place in unit} == digits for unit in units(len(cells)))


def made_up_tasks(count: int, *, seed: int = 0, max_side: int = 5) -> list[Task]:
    """Tasks of random grids: 1 to 4 demonstrations and 1 or 2 tests, all outputs known.

    No input is an augmentation of another, so all demonstrations train.
    """
    rng, seen = np.random.default_rng(seed), set[int]()

    def random_grid() -> Grid:
        height, width = rng.integers(1, max_side + 1, 2)
        return rng.integers(0, 10, (height, width), dtype=np.uint8)

    def random_input() -> Grid:
        made = random_grid()
        while (form := likeness([made]).item()) in seen:
            made = random_grid()
        seen.add(form)
        return made

    def pairs(most: int) -> tuple[Pair, ...]:
        return tuple(Pair(random_input(), random_grid()) for _ in range(rng.integers(1, most + 1)))

    return [Task(f"{seed}-{number}", pairs(4), pairs(2)) for number in range(count)]


def write_source(folder: Path, name: str, tasks: Sequence[Task], *, solved: bool = True) -> str:
    """A challenges file called `name` as `--source` takes it, beside it the solutions if `solved`."""
    folder.mkdir(exist_ok=True)
    if solved:
        write_json(folder / f"{name}_solutions.json", solutions_json(tasks))
    write_json(folder / f"{name}_challenges.json", challenges_json(tasks))
    return str(folder / f"{name}_challenges.json")


def build(folder: Path, *sources: str, **settings: Any) -> Path:
    """The dataset folder built from sources; small unless the settings say otherwise."""
    small = {"num_aug": 3, "canvas": 0, **settings}
    build_arc(DataSettings(sources=list(sources), **small), folder)
    return folder


def grid(*rows: str) -> Grid:
    """The grid of these rows of digits."""
    return as_grid([[int(cell) for cell in row] for row in rows], "grid")


def task(task_id: str, *pairs: tuple[Grid, Grid], tests: tuple[Pair, ...]) -> Task:
    """A task of these demonstrations."""
    return Task(task_id, tuple(Pair(*pair) for pair in pairs), tests)


def unpacked(table: GridTable) -> list[Any]:
    """The grids of a table as lists of rows."""
    return [table.grid(index).tolist() for index in range(len(table))]


def training_pairs(puzzles: PuzzleSet) -> list[tuple[str, Any, Any]]:
    """The training examples: task id, input, output."""
    names = [puzzles.table.task_ids[number] for number in puzzles.example_tasks]
    return list(zip(names, unpacked(puzzles.inputs), unpacked(puzzles.outputs), strict=True))


def demonstrations(tasks: list[Task]) -> list[tuple[str, Any, Any]]:
    """The demonstrations as `training_pairs` gives them."""
    return [(task.id, *pair) for task in tasks for pair in plain_task(task)["train"]]


def solved_tests(tasks: list[Task]) -> list[tuple[str, Any, Any]]:
    """The tests as `training_pairs` gives them."""
    return [(task.id, *pair) for task in tasks for pair in plain_task(task)["test"]]


# ARC tasks of chosen sizes, and a dataset of them, for canvases smaller than the whole.
CANVAS, BUCKETS = 8, [4, 6]
# In a bucket, EOS needs a row and a column: half of the tasks are on 4, a quarter each on 6 and on 8.
SIDES = (2, 5, 3, 8, 1, 3, 4, 7)
# With this seed no test input is an augmented demonstration of another task, so all demonstrations train.
SEED = 1577


def sized_tasks(sides: Sequence[int] = SIDES, seed: int = SEED) -> list[Task]:
    """Return a task for each side: three demonstrations and two tests, outputs in the shapes of their inputs.

    The first demonstration has that side, the other grids are not larger."""
    rng = np.random.default_rng(seed)

    def grid(height: int, width: int) -> Grid:
        return rng.integers(0, 10, (height, width), dtype=np.uint8)

    def pair(height: int, width: int) -> Pair:
        return Pair(grid(height, width), grid(height, width))

    def some(side: int) -> Pair:
        return pair(*(int(length) for length in rng.integers(1, side + 1, 2)))

    return [
        Task(f"of{side}-{number}", (pair(1, side), some(side), some(side)), (some(side), some(side)))
        for number, side in enumerate(sides)
    ]


def sized_data(folder: Path, tasks: Sequence[Task] | None = None) -> Path:
    """A dataset folder of such tasks, each under four puzzles, with their challenges and solutions beside."""
    source = write_source(folder, "sized", sized_tasks() if tasks is None else tasks)
    return build(folder / "data", source, canvas=CANVAS)
