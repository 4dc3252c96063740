"""A checkpoint: a folder with a trained model and the puzzles it has embeddings for.

model.safetensors    the network's weights: raw.<name> as trained, ema.<name> averaged
puzzles.safetensors  rows (P, puzzle_size), the puzzle-embedding table, float32 or bfloat16; or instead, if
                     few rows changed, these two:
    puzzles-base.safetensors     a hard link to the table of an earlier checkpoint; without it all rows are 0
    puzzles-changed.safetensors  ids (K,) and rows (K, puzzle_size) of the rows that have changed since
puzzles.parquet      row -> task, dihedral, colors
model.json           architecture, P, and what a token means: family, canvas and vocabulary
trainer.safetensors  state for exact resume only: optimizer and carry
manifest.json        step, recipe, provenance; files: the SHA-256 of each file above, missing in older ones

A trunk has P = 0 and no puzzle files; an exported checkpoint has no trainer.safetensors.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from arcpipe import runs
from arcpipe.augmentation import PuzzleTable
from arcpipe.boards import MAX_BOARD_SIDE
from arcpipe.codec import FAMILIES, family_of
from arcpipe.documents import load_json
from arcpipe.errors import CheckpointError, one_line
from arcpipe.grid import NUM_COLORS
from arcpipe.model_config import TRMConfig
from arcpipe.puzzleset import PuzzleSet
from arcpipe.tables import read_table
from arcpipe.task_embedding import puzzle_vectors
from arcpipe.trm import TRM

TRAINER = "trainer.safetensors"
OFFICIAL_LOSSES = {"stablemax_cross_entropy": "stablemax", "softmax_cross_entropy": "softmax"}
"""The official names of the losses (`models/losses.py`), and those here."""
_ROWS, _PUZZLES = "puzzles.safetensors", "puzzles.parquet"
_BASE, _CHANGED = "puzzles-base.safetensors", "puzzles-changed.safetensors"
_SPARE_WEIGHTS = 1 << 24
_COLUMNS = ("task", "dihedral", "colors")
_MOST_ROWS, _MOST_BYTES = 2**31, 2**36
_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
_ROWS_AT_ONCE = 1 << 16


def official_loss(arch: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table `loss` of an official `arch`; an empty one if there is none."""
    loss = arch.get("loss")
    return loss if isinstance(loss, dict) else {}


def no_colors() -> Tensor:
    """Return the color vectors (0, 2, 10, 0) of a checkpoint that has none."""
    return torch.zeros(0, 2, NUM_COLORS, 0)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint in memory.

    path: its folder.
    family: name of the puzzle family.
    canvas: side of the canvas, which has L = canvas * canvas tokens.
    vocabulary: V, the number of tokens.
    raw, ema: the weights by name, as trained and averaged.
    rows: (P, puzzle_size) the puzzle-embedding table, mapped from disk, in its dtype there.
    puzzles: the puzzle of each row.
    colors: (T, 2, 10, D) vectors of each task's original colors, as inputs and as outputs, in the order of
        `puzzles.task_ids`; with embedding augmentation T and D are 0.
    manifest: from `make_manifest("checkpoint", step=..., recipe=..., ...)`.
    """

    path: Path
    config: TRMConfig
    family: str
    canvas: int
    vocabulary: int
    raw: dict[str, Tensor]
    ema: dict[str, Tensor]
    rows: Tensor
    puzzles: PuzzleTable
    manifest: dict[str, Any]
    colors: Tensor = field(default_factory=no_colors)

    @property
    def precision(self) -> str:
        """Return the precision of its recipe; without one float32 if an import says so, else auto."""
        imported = self._official_arch.get("forward_dtype")
        return str(self._training.get("precision", imported if imported == "float32" else "auto"))

    @property
    def loss(self) -> str:
        """Return the loss of its training, which decides how to read its logits; stablemax by default."""
        name = str(official_loss(self._official_arch).get("loss_type"))
        return str(self._training.get("loss", OFFICIAL_LOSSES.get(name, "stablemax")))

    @property
    def cpu_threads(self) -> int:
        """Return the CPU threads of its recipe; 0 for torch's default."""
        return int(self._training.get("cpu_threads", 0))

    @property
    def _official_arch(self) -> dict[str, Any]:
        arch: dict[str, Any] = (self.manifest.get("official_config") or {}).get("arch", {})
        return arch

    @property
    def _training(self) -> dict[str, Any]:
        recipe = self.manifest.get("recipe", {})
        settings: dict[str, Any] = recipe.get("train") or recipe.get("adapt", {})
        return settings

    def model(self, canvas: int | None = None) -> TRM:
        """Return the network with the averaged weights, in evaluation mode, on the CPU.

        Args:  canvas: side of the canvas, for a network that takes any; None for its own.
        """
        config, num_tokens = self.config, (canvas or self.canvas) ** 2
        length = config.prefix + num_tokens
        layer_weights = (4 + 4 * config.expansion) * max(config.hidden_size, length) ** 2
        num_weights = config.num_layers * layer_weights + config.hidden_size * (self.vocabulary + length)
        try:
            if config.num_layers > len(self.ema):
                raise RuntimeError(f"{config.num_layers} layers of {len(self.ema)} tensors")
            if num_weights > _SPARE_WEIGHTS + 8 * sum(value.numel() for value in self.ema.values()):
                # The settings may describe a network larger than memory: check them on no device first.
                with torch.device("meta"):
                    TRM(config, num_tokens, self.vocabulary).load_state_dict(self.ema, assign=True)
            model = TRM(config, num_tokens, self.vocabulary)
            model.load_state_dict(self.ema)
        except RuntimeError as error:
            raise CheckpointError(
                f"{self.path}: weights do not fit {runs.MODEL_FACTS}: {one_line(error):.1000}"
            ) from None
        return model.eval()

    def rows_by_id(self, puzzles: PuzzleSet) -> Callable[[NDArray[np.intp]], Tensor]:
        """Return a function from puzzle ids (N,) of a dataset to their rows (N, puzzle_size), float32.

        Raises:  CheckpointError if family or canvas differ or a puzzle was never trained; DataError if the
                 dataset was built for the other kind of embedding.
        """
        if self.family != puzzles.family.name:
            raise CheckpointError(
                f"{self.path}: trained on puzzles of family {self.family}, the dataset has puzzles of family "
                f"{puzzles.family.name}"
            )
        if self.canvas != puzzles.canvas and self.config.positions != "rope2d":
            raise CheckpointError(
                f"{self.path}: trained on canvas {self.canvas}, the dataset has canvas {puzzles.canvas}"
            )
        puzzles.refuse_embedding(self.config.embedding, self.path)
        if self.config.puzzle_size == 0:
            return lambda puzzle_ids: torch.zeros(len(puzzle_ids), 0)
        if not len(self.puzzles):
            raise CheckpointError(
                f"{self.path}: has no puzzle rows, only the trunk: adapt it to the dataset's tasks or train"
            )
        places = self.puzzles.find(puzzles.table)
        unknown = np.unique(puzzles.table.tasks[places < 0])
        if len(unknown):
            names = sorted(puzzles.table.task_ids[task] for task in unknown)
            raise CheckpointError(
                f"{self.path}: knows no embedding for {len(names)} tasks of the dataset "
                f"or for some of their augmentations, such as {names[0]}: adapt it to them, or train on this "
                "dataset"
            )
        return lambda puzzle_ids: self.rows[torch.from_numpy(places[puzzle_ids])].float()

    def vectors(self, rows: Sequence[int]) -> Tensor:
        """Return the network's argument `puzzles` for the puzzles of these rows, float32."""
        embeddings = self.rows[rows].float()
        if self.config.embedding == "augmentation":
            return embeddings
        permutations = torch.from_numpy(self.puzzles.colors[rows].astype(np.int64))
        return puzzle_vectors(embeddings, self.colors[self.puzzles.tasks[rows]].float(), permutations)

    def mean_rows(self) -> Tensor:
        """Return an initial row for a new puzzle of each dihedral: (8, puzzle_size), float32.

        With embedding task it is the mean of the dihedral's rows, otherwise the mean of all rows.
        """
        rows = self.rows.float()
        if self.config.embedding == "augmentation":
            return rows.mean(dim=0).expand(8, -1)
        dihedrals = torch.from_numpy(self.puzzles.dihedrals)
        return torch.stack([rows[dihedrals == dihedral].mean(dim=0) for dihedral in range(8)])

    def colors_of(self, puzzles: PuzzleSet) -> Tensor:
        """Return the color vectors (T, 2, 10, D), float32, of a dataset's tasks; all must be in `puzzles`."""
        if self.config.embedding != "task":
            return no_colors()
        places = {task_id: place for place, task_id in enumerate(self.puzzles.task_ids)}
        return self.colors[[places[task_id] for task_id in puzzles.table.task_ids]].float()


@dataclass(frozen=True, eq=False)
class RowChanges:
    """The rows of a puzzle table that have changed; a checkpoint writes only these.

    ids: (K,) int64.
    since: the checkpoint with the other rows; None if they are 0.
    """

    ids: Tensor
    since: Path | None


def save_checkpoint(
    checkpoint: Checkpoint, trainer: Mapping[str, Tensor] | None = None, changes: RowChanges | None = None
) -> None:
    """Write a checkpoint to its path, whole or not at all.

    Args:    trainer: state for exact resume; None if the checkpoint is not to be resumed.
             changes: write these rows only; None for all.
    Raises:  OutputError if the folder exists or cannot be written.
    """
    # safetensors refuses tensors that share memory, such as raw and ema after an import, so they are cloned.
    # The rows are not: they may fill most of the memory.
    weights = {f"raw.{name}": value for name, value in checkpoint.raw.items()}
    weights |= {f"ema.{name}": value.clone() for name, value in checkpoint.ema.items()}
    facts = {
        "config": asdict(checkpoint.config),
        "family": checkpoint.family,
        "canvas": checkpoint.canvas,
        "vocabulary": checkpoint.vocabulary,
        "puzzles": len(checkpoint.puzzles),
    }
    manifest: dict[str, Any] = {**checkpoint.manifest, runs.FILES: {}}
    linked: dict[str, str] = {}
    with runs.new_folder(checkpoint.path, manifest) as folder:
        _save_tensors(folder / runs.WEIGHTS, weights)
        if len(checkpoint.puzzles):
            linked, base = _save_rows(folder, checkpoint, changes)
            facts |= base
            pq.write_table(checkpoint.puzzles.to_arrow(), folder / _PUZZLES)
        if trainer is not None:
            _save_tensors(folder / TRAINER, {name: value.clone() for name, value in trainer.items()})
        runs.write_json(folder / runs.MODEL_FACTS, facts)
        files = sorted(folder.iterdir())
        manifest[runs.FILES] |= {file.name: linked.get(file.name) or runs.file_hash(file) for file in files}


def _save_rows(
    folder: Path, checkpoint: Checkpoint, changes: RowChanges | None
) -> tuple[dict[str, str], dict[str, bool]]:
    """Write the puzzle table; return the SHA-256 of the linked file, and what model.json says of it."""
    linked: dict[str, str] = {}
    if changes is not None and changes.since is not None:
        files = runs.read_manifest(changes.since, "checkpoint").get(runs.FILES, {})
        try:
            (name,) = {_ROWS, _BASE} & files.keys()
            os.link(changes.since / name, folder / _BASE)
            linked = {_BASE: files[name]}
        except (OSError, ValueError):
            # Some file systems have no links, and older checkpoints no hashes.
            changes = None
    if changes is None:
        colors = {"colors": checkpoint.colors} if checkpoint.colors.numel() else {}
        _save_tensors(folder / _ROWS, {"rows": checkpoint.rows, **colors})
        return {}, {}
    _save_tensors(folder / _CHANGED, {"ids": changes.ids, "rows": checkpoint.rows[changes.ids]})
    return linked, {"base": bool(linked)}


def changes_since(folder: Path) -> RowChanges:
    """Return which rows of a checkpoint differ from the last whole table on disk, and where that is.

    A later checkpoint stores these rows only, and those that changed since.
    """
    manifest = runs.read_manifest(folder, "checkpoint")
    with _part(folder / runs.MODEL_FACTS, manifest) as file:
        base = load_json(file).get("base")
    if base is None:
        return RowChanges(torch.zeros(0, dtype=torch.int64), folder)
    with _part(folder / _CHANGED, manifest) as file:
        return RowChanges(load_file(file)["ids"], folder if base else None)


def load_checkpoint(path: Path) -> Checkpoint:
    """Return the checkpoint at `path`, a checkpoint folder or a run folder.

    Raises:  CheckpointError or DataError, in one line, if a part is missing, damaged or does not fit.
    """
    folder = runs.find_checkpoint(path)
    manifest = runs.read_manifest(folder, "checkpoint")
    with _part(folder / runs.MODEL_FACTS, manifest) as file:
        facts = load_json(file)
        config = TypeAdapter(TRMConfig).validate_json(orjson.dumps(facts["config"]))
        family, canvas, vocabulary = facts["family"], int(facts["canvas"]), int(facts["vocabulary"])
        num_puzzles, base = int(facts["puzzles"]), facts.get("base")
        if family not in FAMILIES or not 0 < canvas <= MAX_BOARD_SIDE:
            raise ValueError(f"family {family} on canvas {canvas}")
        if vocabulary < family_of(family, canvas).vocabulary:
            raise ValueError(f"{vocabulary} tokens for family {family} on canvas {canvas}")
    with _part(folder / runs.WEIGHTS, manifest) as file:
        weights = load_file(file)
    refuse_bad_values(weights, folder)
    raw, ema = (
        {name.removeprefix(kind): value for name, value in weights.items() if name.startswith(kind)}
        for kind in ("raw.", "ema.")
    )
    puzzles, rows, colors = _load_puzzles(folder, manifest, num_puzzles, config, base)
    return Checkpoint(folder, config, family, canvas, vocabulary, raw, ema, rows, puzzles, manifest, colors)


def _load_puzzles(
    folder: Path, manifest: Mapping[str, Any], num_puzzles: int, config: TRMConfig, base: bool | None
) -> tuple[PuzzleTable, Tensor, Tensor]:
    """Return the puzzles of a checkpoint folder, their rows and the color vectors, mapped from disk.

    Args:  base: from model.json: whether there is a base table; None if all rows are in one file.
    """
    rows, colors, shape = None, no_colors(), (num_puzzles, config.puzzle_size)
    if not num_puzzles:
        return PuzzleTable.uncolored([]), torch.zeros(shape), colors
    with _part(folder / _PUZZLES, manifest) as file:
        columns = read_table(file, _COLUMNS, most_rows=_MOST_ROWS, most_bytes=_MOST_BYTES)
        puzzles = PuzzleTable.from_arrow(columns)
        if len(puzzles) != num_puzzles:
            raise ValueError(f"it has {len(puzzles)} rows, expected {num_puzzles}")
    # Free Arrow's cached memory before the rows are read.
    pa.default_memory_pool().release_unused()
    if base is not False:
        table = folder / (_ROWS if base is None else _BASE)
        with _part(table, manifest) as file:
            tensors = load_file(file)
            rows = tensors["rows"]
            if config.embedding == "task":
                colors, num_tasks = tensors["colors"], len(puzzles.task_ids)
                if colors.shape != (num_tasks, 2, NUM_COLORS, config.puzzle_size):
                    raise ValueError(f"color vectors of shape {tuple(colors.shape)} for {num_tasks} tasks")
                refuse_bad_values({"the color vectors": colors}, folder)
            if rows.shape != shape:
                raise ValueError(f"rows of shape {tuple(rows.shape)}, expected {shape}")
        # Some rows at a time: mapped at once, the whole table would stay in memory.
        for start in range(0, num_puzzles if rows.numel() else 0, _ROWS_AT_ONCE):
            with safe_open(table, "pt") as opened:
                some = opened.get_slice("rows")[start : start + _ROWS_AT_ONCE]
                refuse_bad_values({"the puzzle table": some}, folder)
        if base is None:
            return puzzles, rows, colors
    with _part(folder / _CHANGED, manifest) as file:
        tensors = load_file(file)
        ids, changed = tensors["ids"], tensors["rows"]
        if ids.dtype != torch.int64 or ids.ndim != 1 or changed.shape != (len(ids), shape[1]):
            raise ValueError(f"rows of shape {tuple(changed.shape)} for {len(ids)} puzzles")
        if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < num_puzzles:
            raise ValueError(f"a puzzle is none of {num_puzzles}")
    refuse_bad_values({"the puzzle table": changed}, folder)
    if rows is None:
        # numpy's zeros take memory only where they are written to.
        zeros = np.zeros((num_puzzles, shape[1] * changed.dtype.itemsize), np.uint8)
        rows = torch.from_numpy(zeros).view(changed.dtype)
    # The file is mapped privately (copy on write), so it does not change on disk.
    rows[ids] = changed
    return puzzles, rows, colors


def load_trainer_state(folder: Path) -> dict[str, Tensor]:
    """Return the trainer state of a checkpoint; CheckpointError if it has none, or it is damaged."""
    manifest = runs.read_manifest(folder, "checkpoint")
    with _part(folder / TRAINER, manifest, "it cannot be resumed from") as file:
        return load_file(file)


def _save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors to a safetensors file; OSError if that fails."""
    try:
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, path)
    except SafetensorError as error:
        raise OSError(None, one_line(error)) from None


@contextmanager
def _part(
    file: Path, manifest: Mapping[str, Any], remedy: str = "choose another one of its run or train again"
) -> Iterator[Path]:
    """Yield a file of a checkpoint to read, after comparing its SHA-256 with the manifest's, if there is one.

    Raises:  CheckpointError, naming the file, for another SHA-256 and for errors of the block;
             UnreadableError without permission to read it.
    """
    try:
        # Opened here too, because safetensors reports a missing file where permission is missing.
        with runs.reading(file), file.open("rb"):
            hashes = manifest.get(runs.FILES)
            if isinstance(hashes, dict) and runs.file_hash(file) != hashes.get(file.name):
                raise ValueError("it is not what was written: its SHA-256 is another")
        yield file
    except (OSError, ValueError, TypeError, KeyError, SafetensorError, pa.ArrowException) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
        raise CheckpointError(f"{file}: damaged checkpoint ({reason}); {remedy}") from None


def refuse_bad_values(tensors: Mapping[str, Tensor], where: Path) -> None:
    """Raise CheckpointError for the first tensor of an unknown dtype or with a value that is not finite."""
    for name, value in tensors.items():
        if value.dtype not in _DTYPES:
            dtype = str(value.dtype).removeprefix("torch.")
            raise CheckpointError(f"{where}: {name} is of type {dtype}, expected float32 or bfloat16")
        # The extremes are NaN if any value is, and finding them allocates nothing.
        if value.numel() and not all(extreme.isfinite() for extreme in torch.aminmax(value)):
            raise CheckpointError(f"{where}: {name} holds values that are not finite")
