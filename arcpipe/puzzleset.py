"""PuzzleSet: a dataset folder of base examples and a table of puzzles (task, augmentation).

    examples/        Arrow, split train: task, group, input, output; split test: task, input
    puzzles/         Arrow: task, dihedral, colors; the row number is the puzzle id
    solutions/       Arrow: the outputs of split test, if known; only scoring reads it
    challenges.json, solutions.json  the tests of ARC tasks again, in Kaggle's form
    manifest.json    family, canvas, task ids, sampling, provenance

Grids are padded to the same side and stored flat, so that the files can be memory-mapped. Augmented grids are
not stored; batching computes them.
"""

import hashlib
import struct
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from arcpipe.augmentation import DIHEDRALS, PuzzleTable, recolorings
from arcpipe.boards import MAX_BOARD_SIDE, shuffles
from arcpipe.codec import FAMILIES, Family, GridTable, Transform, dihedral_transform, encode_grids, family_of
from arcpipe.documents import load_json
from arcpipe.errors import DataError, one_line
from arcpipe.grid import NUM_COLORS
from arcpipe.runs import MANIFEST, read_manifest, reading

TRAIN, TEST = "train", "test"


@dataclass(frozen=True)
class Variants:
    """Other forms of an example with its puzzle id: shuffles of a Sudoku, turns of a maze, colorings of an
    ARC task. Each is a function of (seed, number).

    count: number of variants besides the example itself; None for a new one at every draw.
    """

    count: int | None
    seed: int


@dataclass(frozen=True)
class Sampling:
    """How training draws tasks and pairs. Default: each task once per epoch, as in the official code.

    pairs: number of pairs of a task in a draw, different ones each time; 0 for all.
    shares: (source, number of tasks, share of all draws) for each run of consecutive tasks from one source;
        empty if all tasks have the same share.
    places: seed of a fixed place on the canvas for each example under each puzzle; None for a new place at
        every draw.
    """

    pairs: int = 0
    shares: list[tuple[str, int, float]] = field(default_factory=list)
    places: int | None = None


@dataclass(frozen=True, eq=False)
class PuzzleSet:
    """A dataset folder in memory: the base examples and the table of puzzles.

    canvas: side of the square canvas.
    table: the P puzzles.
    inputs, outputs: the E training examples.
    example_tasks, example_groups: (E,) the task and the group of each; an epoch draws each group once.
    test_inputs, test_tasks: the test inputs to predict, and the task of each.
    variants: None if every augmentation is a puzzle of its own.
    sampling: how training draws the examples.
    """

    family: Family
    canvas: int
    table: PuzzleTable
    inputs: GridTable
    outputs: GridTable
    example_tasks: NDArray[np.int32]
    example_groups: NDArray[np.int32]
    test_inputs: GridTable
    test_tasks: NDArray[np.int32]
    variants: Variants | None = None
    sampling: Sampling = Sampling()

    @property
    def num_puzzles(self) -> int:
        """Return P, the number of rows of a puzzle-embedding table."""
        return len(self.table)

    @property
    def num_tokens(self) -> int:
        """Return L, the length of a token sequence."""
        return self.canvas * self.canvas

    @property
    def fresh_colors(self) -> bool:
        """Return whether these are ARC tasks with a puzzle per dihedral, recolored at every draw."""
        return self.family.with_eos and self.variants is not None

    def refuse_embedding(self, kind: str, where: object) -> None:
        """Raise DataError, naming `where`, if a model's kind of embedding does not fit the dataset."""
        if not self.family.with_eos and kind == "task":
            raise DataError(f"{where}: model.embedding = task is for ARC tasks, not for {self.family.name}")
        if self.family.with_eos and (kind == "task") != self.fresh_colors:
            raise DataError(
                f"{where}: model.embedding = {kind}, the dataset is made for the other kind: build it with "
                f"--num-aug {'inf' if kind == 'task' else 'N, a number'}"
            )

    def colors(
        self, puzzle_ids: NDArray[np.integer], numbers: NDArray[np.uint64] | None = None
    ) -> NDArray[np.uint8]:
        """Return the permutations of colors (N, 10) of puzzles (N,), or of their variants `numbers` (N,)."""
        if self.variants is not None and numbers is not None:
            return recolorings(self.variants.seed, numbers)
        permutations: NDArray[np.uint8] = self.table.colors[puzzle_ids]
        return permutations

    @property
    def draw_weights(self) -> NDArray[np.float64]:
        """Return the relative frequency (T,) of draws of each task: 0 for one without examples."""
        trains = np.bincount(self.example_tasks, minlength=len(self.table.task_ids)) > 0
        if not self.sampling.shares:
            return trains.astype(np.float64)
        names, sizes, shares = zip(*self.sampling.shares, strict=True)
        _, sources = np.unique(names, return_inverse=True)
        counts = np.bincount(np.repeat(sources, sizes), weights=trains)[sources]
        weights = np.repeat(np.array(shares) / counts.clip(min=1), sizes)
        return np.where(trains, weights, 0.0)

    @property
    def example_weights(self) -> NDArray[np.intp]:
        """Return the relative frequency (E,) of draws of each example, as integers: 1 if all are equal."""
        most = self.sampling.pairs
        if not most and not self.sampling.shares:
            return np.ones(len(self.example_tasks), np.intp)
        sizes = np.bincount(self.example_tasks, minlength=len(self.table.task_ids))
        task_weights = self.draw_weights * np.minimum(1, (most or np.inf) / sizes.clip(min=1))
        weights = task_weights[self.example_tasks]
        rounded: NDArray[np.intp] = (weights * (2**32 / weights.sum())).round().astype(np.intp)
        return rounded

    @cached_property
    def test_indices(self) -> NDArray[np.int32]:
        """Return the index of each test input within its task."""
        return ranks_of(self.test_tasks).astype(np.int32)

    @cached_property
    def tables_with_eos(self) -> tuple[GridTable, GridTable, GridTable]:
        """Return inputs, outputs and test inputs as `encode_grids` takes them."""
        inputs, outputs, tests = (
            table.with_eos(self.family) for table in (self.inputs, self.outputs, self.test_inputs)
        )
        return inputs, outputs, tests

    def encode(
        self, table: GridTable, items: NDArray[np.integer], puzzle_ids: NDArray[np.integer],
        numbers: NDArray[np.uint64] | None = None, offsets: NDArray[np.integer] | None = None,
    ) -> NDArray[np.uint8]:  # fmt: skip
        """Return the tokens (N, L) of grids (N,) of a table with EOS under puzzles (N,); see `transform`."""
        return encode_grids(table, items, self.transform(table, items, puzzle_ids, numbers, offsets))

    def transform(
        self, table: GridTable, items: NDArray[np.integer], puzzle_ids: NDArray[np.integer],
        numbers: NDArray[np.uint64] | None = None, offsets: NDArray[np.integer] | None = None,
    ) -> Transform:  # fmt: skip
        """Return the transform of grids (N,) of a table with EOS under puzzles (N,).

        Args:  numbers: (N,) variant numbers: of shuffled Sudokus, turned mazes or recolored tasks; 0, the
               default, is the example itself.
               offsets: (N, 2) row and column to move ARC grids to.
        """
        family, canvas = self.family, self.canvas
        if family.with_eos:
            dihedrals, colors = self.table.dihedrals[puzzle_ids], self.colors(puzzle_ids, numbers)
            return dihedral_transform(
                family, table, items, canvas, dihedrals=dihedrals, colors=colors, offsets=offsets
            )
        if numbers is None or self.variants is None:
            return dihedral_transform(family, table, items, canvas)
        if family.name == "maze":
            return dihedral_transform(family, table, items, canvas, dihedrals=numbers.astype(np.intp))
        shuffle = shuffles(canvas, self.variants.seed, items, numbers)
        tokens = shuffle.digits + np.uint8(family.first)
        return Transform(shuffle.rows, shuffle.columns, shuffle.transpose, tokens)

    def fingerprint(self) -> str:
        """Return a SHA-256 of everything that training and inference read, and nothing else."""
        names = " ".join(self.table.task_ids)
        digest = hashlib.sha256(f"{self.family.name} {self.canvas} {self.variants} {names}".encode())
        for grids in (self.inputs, self.outputs, self.test_inputs):
            digest.update(np.ascontiguousarray(grids.shapes).data)
            for part in grids.parts():
                digest.update(np.ascontiguousarray(part.cells).data)
        columns: list[NDArray[Any]] = [self.example_tasks, self.example_groups, self.test_tasks]
        columns += [self.table.tasks, self.table.dihedrals, self.table.colors]
        for column in columns:
            digest.update(np.ascontiguousarray(column).data)
        if self.sampling != Sampling():
            digest.update(orjson.dumps(self.sampling))
        return digest.hexdigest()


def ranks_of(values: NDArray[np.integer]) -> NDArray[np.intp]:
    """Return the number (N,) of earlier ones with the same value."""
    order, ranks = np.argsort(values, kind="stable"), np.empty(len(values), np.intp)
    _, first, counts = np.unique(values[order], return_index=True, return_counts=True)
    ranks[order] = np.arange(len(values)) - np.repeat(first, counts)
    return ranks


def read_puzzle_set(folder: Path) -> PuzzleSet:
    """Return the PuzzleSet of a dataset folder, its grids mapped from disk.

    Raises:  DataError if it is no dataset folder, or a part is missing, damaged or was changed.
    """
    manifest = read_manifest(folder, "dataset")
    try:
        with reading(folder):
            puzzles = _load(folder, manifest)
        _refuse_impossible(puzzles)
        is_sound = puzzles.fingerprint() == manifest["fingerprint"]
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise DataError(f"{folder}: damaged dataset folder ({one_line(error)}); build it again") from None
    if not is_sound:
        raise DataError(f"{folder}: its tables are not those that were built; build it again")
    return puzzles


def read_test_outputs(folder: Path) -> GridTable | None:
    """Return the outputs of a dataset's test inputs, in their order; None if they are unknown."""
    if not (folder / "solutions").exists():
        return None
    try:
        with reading(folder):
            return _grids(_table(folder / "solutions"), "output")
    except (OSError, ValueError, KeyError, IndexError, TypeError) as error:
        raise DataError(f"{folder}: damaged solutions ({one_line(error)}); build it again") from None


def dataset_family(path: Path) -> str:
    """Return the family of the dataset folder `path`; arc if it is no such folder."""
    return str(read_manifest(path, "dataset")["family"]) if (path / MANIFEST).is_file() else "arc"


def has_tests(path: Path) -> bool:
    """Return whether a dataset folder has test inputs to answer; DataError if it is no such folder."""
    read_manifest(path, "dataset")
    return (path / "examples" / TEST).exists()


def _load(folder: Path, manifest: dict[str, Any]) -> PuzzleSet:
    train, rows = _table(folder / "examples" / TRAIN), _table(folder / "puzzles")
    tests = _table(folder / "examples" / TEST) if (folder / "examples" / TEST).exists() else train.slice(0, 0)
    if manifest["family"] not in FAMILIES:
        raise ValueError(f"family {manifest['family']!r:.40}, expected one of {', '.join(FAMILIES)}")
    if type(manifest["canvas"]) is not int or not 0 < manifest["canvas"] <= MAX_BOARD_SIDE:
        raise ValueError(f"canvas {manifest['canvas']!r:.40}, expected 1..{MAX_BOARD_SIDE}")
    if not all(isinstance(name, str) for name in manifest["task_ids"]):
        raise ValueError("the id of a task is no text")
    variants = manifest["variants"]
    return PuzzleSet(
        family=family_of(manifest["family"], manifest["canvas"]),
        canvas=manifest["canvas"],
        table=PuzzleTable(
            manifest["task_ids"], _column(rows, "task"), _column(rows, "dihedral"), _column(rows, "colors")
        ),
        inputs=_grids(train, "input"),
        outputs=_grids(train, "output"),
        example_tasks=_column(train, "task"),
        example_groups=_column(train, "group"),
        test_inputs=_grids(tests, "input"),
        test_tasks=_column(tests, "task"),
        variants=None if variants is None else Variants(**variants),
        # Older datasets lack it.
        sampling=Sampling(**manifest.get("sampling", {})),
    )


def _table(folder: Path) -> pa.Table:
    """Return a table that `datasets` saved, mapped from disk; importing `datasets` would take a second."""
    state = load_json(folder / "state.json")
    names = [entry["filename"] for entry in state["_data_files"]]
    if len(set(names)) < len(names) or any(Path(name).name != name for name in names):
        raise ValueError("state.json names a file twice or one elsewhere")
    parts = []
    for name in names:
        source = pa.memory_map(str(folder / name))
        # Compressed data would be unpacked into memory.
        if any(_is_packed(message.metadata) for message in pa.ipc.MessageReader.open_stream(source)):
            raise ValueError(f"{name} is compressed")
        source.seek(0)
        parts.append(pa.ipc.open_stream(source).read_all())
    table = pa.concat_tables(parts)
    # A damaged file may claim lengths beyond its end.
    table.validate()
    return table


def _is_packed(metadata: pa.Buffer) -> bool:
    """Return whether the header of an Arrow message names a compression.

    Source:  Arrow's `Message.fbs`, a flatbuffer: field 2 of Message is a header; field 3 of a record batch's
             header is its compression.
    """

    def field(table: int, number: int) -> int:
        fields = table - struct.unpack_from("<i", metadata, table)[0]
        place = 4 + 2 * number
        if place >= struct.unpack_from("<H", metadata, fields)[0]:
            return 0
        offset: int = struct.unpack_from("<H", metadata, fields + place)[0]
        return offset and table + offset

    try:
        header = field(struct.unpack_from("<I", metadata)[0], 2)
        return bool(header and field(header + struct.unpack_from("<I", metadata, header)[0], 3))
    except struct.error:
        raise ValueError("a message has no header") from None


def _refuse_impossible(puzzles: PuzzleSet) -> None:
    """Raise ValueError for a task number, augmentation, side, cell, variant or share out of range."""
    table, canvas = puzzles.table, puzzles.canvas
    for tasks in (table.tasks, puzzles.example_tasks, puzzles.test_tasks):
        _refuse_outside(tasks, 0, len(table.task_ids) - 1, "the number of a task")
    _refuse_outside(table.dihedrals, 0, len(DIHEDRALS) - 1, "a dihedral")
    if (np.sort(table.colors, axis=1) != np.arange(NUM_COLORS)).any():
        raise ValueError("colors are no permutation of 0123456789")
    for grids in (puzzles.inputs, puzzles.outputs, puzzles.test_inputs):
        _refuse_outside(grids.shapes, 1, min(canvas, grids.cells.shape[1]), "a side")
        _refuse_outside(grids.cells, 0, puzzles.family.num_values - 1, "a cell")

    variants, sampling = puzzles.variants, puzzles.sampling
    optional = [sampling.places, variants and variants.count, variants and variants.seed]
    numbers = [sampling.pairs, *(number for number in optional if number is not None)]
    if any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError("a number of its variants or of its sampling is none")
    if variants and puzzles.family.name == "maze" and variants.count not in range(len(DIHEDRALS)):
        raise ValueError(f"{variants.count} turns of a maze")
    sizes = [
        size for _, size, share in sampling.shares if type(size) is int and size >= 0 and 0 <= share <= 1
    ]
    if sampling.shares and (len(sizes), sum(sizes)) != (len(sampling.shares), len(puzzles.table.task_ids)):
        raise ValueError("its shares are not of its tasks")
    if len(puzzles.example_tasks) and not puzzles.draw_weights.any():
        raise ValueError("its shares leave no task to draw")


def _refuse_outside(values: NDArray[Any], least: int, most: int, what: str) -> None:
    if values.size and not least <= values.min() <= values.max() <= most:
        raise ValueError(f"{what} is not {least}..{most}")


def _grids(table: pa.Table, name: str) -> GridTable:
    cells = _column(table, name)
    side = round(cells.shape[1] ** 0.5)
    return GridTable(cells.reshape(-1, side, side), _column(table, f"{name}_shape"))


def _column(table: pa.Table, name: str) -> NDArray[Any]:
    """Return a column as an array (N,), or a column of lists as (N, W), mapped from disk."""
    column = table.column(name).combine_chunks()
    is_list = pa.types.is_fixed_size_list(column.type)
    if not pa.types.is_integer(column.type.value_type if is_list else column.type):
        raise ValueError(f"column {name} is of type {column.type}")
    values: NDArray[Any] = (column.flatten() if is_list else column).to_numpy()
    return values.reshape(-1, column.type.list_size) if is_list else values
