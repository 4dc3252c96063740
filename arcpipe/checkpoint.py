"""A checkpoint: one folder that holds a trained model and the puzzles it knows.

model.safetensors    the network's weights: raw.<name> as trained, ema.<name> averaged
puzzles.safetensors  rows (P, puzzle_size), the puzzle-embedding table, float32 or bfloat16
puzzles.parquet      row -> task, dihedral, colors
model.json           architecture; family, canvas and vocabulary, which say what a token means; P
trainer.safetensors  what only exact resume needs: optimizer and carry
manifest.json        step, recipe, provenance

A trunk has P = 0 and neither of the two files of puzzles; one to hand on has no trainer's state.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from arcpipe.codec import FAMILIES, family_of
from arcpipe.errors import CheckpointError, one_line
from arcpipe.puzzletable import PuzzleTable
from arcpipe.runs import MANIFEST, new_folder, read_manifest, write_json
from arcpipe.trm import TRM, TRMConfig

if TYPE_CHECKING:
    from arcpipe.puzzleset import PuzzleSet

CHECKPOINTS = "checkpoints"
BEST_FILE = "best.json"
_WEIGHTS, _ROWS, _PUZZLES = "model.safetensors", "puzzles.safetensors", "puzzles.parquet"
_TRAINER, _FACTS = "trainer.safetensors", "model.json"
_PART = 1 << 16
_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A checkpoint in memory.

    path: its folder. family: the name of the family of its puzzles. raw, ema: weights by name. rows: the
    table (P, puzzle_size), mapped from the disk and in the dtype it has there. manifest: from
    `make_manifest("checkpoint", step=..., recipe=..., ...)`.
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

    def model(self) -> TRM:
        """The network with the averaged weights, in evaluation mode, on the CPU."""
        model = TRM(self.config, self.canvas * self.canvas, self.vocabulary)
        try:
            model.load_state_dict(self.ema)
        except RuntimeError as error:
            raise CheckpointError(f"{self.path}: weights do not fit {_FACTS}: {one_line(error)}") from None
        return model.eval()

    def rows_of(self, puzzles: "PuzzleSet") -> Tensor:
        """The table's rows (P, puzzle_size), float32, in the order of a dataset's puzzle ids.

        Raises:  CheckpointError if family or canvas differ or a puzzle was never trained.
        """
        for what, own, asked in (
            ("puzzles of family", self.family, puzzles.family.name),
            ("canvas", self.canvas, puzzles.canvas),
        ):
            if own != asked:
                raise CheckpointError(f"{self.path}: trained on {what} {own}, the dataset has {what} {asked}")
        if self.config.puzzle_size == 0:
            return torch.zeros(len(puzzles.table), 0)
        if not len(self.puzzles):
            raise CheckpointError(
                f"{self.path}: has no puzzle rows, only the trunk: adapt it to the dataset's tasks or train"
            )
        rows = self.puzzles.find(puzzles.table)
        unknown = np.unique(puzzles.table.tasks[rows < 0])
        if len(unknown):
            names = sorted(puzzles.table.task_ids[task] for task in unknown)
            raise CheckpointError(
                f"{self.path}: knows no embedding for {len(names)} tasks of the dataset "
                f"or for some of their augmentations, such as {names[0]}; train on this dataset"
            )
        return self.rows[torch.from_numpy(rows)].float()


def save_checkpoint(checkpoint: Checkpoint, trainer: Mapping[str, Tensor] | None = None) -> None:
    """Write a checkpoint to its path, whole or not at all.

    Args:    trainer: what exact resume needs; None for a checkpoint that is not resumed.
    Raises:  OutputError if the folder exists or cannot be written.
    """
    # Clones: safetensors refuses tensors that share memory, such as weights that are their own averages, and
    # those of an empty carry. Not of the rows, which can be most of what fits in memory.
    weights = {f"raw.{name}": value for name, value in checkpoint.raw.items()}
    weights |= {f"ema.{name}": value.clone() for name, value in checkpoint.ema.items()}
    facts = {
        "config": asdict(checkpoint.config),
        "family": checkpoint.family,
        "canvas": checkpoint.canvas,
        "vocabulary": checkpoint.vocabulary,
        "puzzles": len(checkpoint.puzzles),
    }
    with new_folder(checkpoint.path, checkpoint.manifest) as folder:
        _save_tensors(folder / _WEIGHTS, weights)
        if len(checkpoint.puzzles):
            _save_tensors(folder / _ROWS, {"rows": checkpoint.rows})
            pq.write_table(checkpoint.puzzles.to_arrow(), folder / _PUZZLES)
        if trainer is not None:
            _save_tensors(folder / _TRAINER, {name: value.clone() for name, value in trainer.items()})
        write_json(folder / _FACTS, facts)


def _save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    try:
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, path)
    except SafetensorError as error:
        raise OSError(None, one_line(error)) from None


def find_checkpoint(path: Path) -> Path:
    """The checkpoint folder at `path`; of a run folder the best one, if evaluations have named one that is
    still there, or else the newest.

    Raises:  CheckpointError if there is none.
    """
    if (path / _FACTS).is_file():
        return path
    best = read_best(path)
    if best is not None:
        folder = path / CHECKPOINTS / checkpoint_name(best["step"])
        if (folder / MANIFEST).is_file():
            return folder
    return newest_checkpoint(path)


def newest_checkpoint(run: Path) -> Path:
    """The newest whole checkpoint folder of a run folder.

    Raises:  CheckpointError if there is none.
    """
    if not run.exists():
        raise CheckpointError(f"{run}: no such folder")
    found = [folder for folder in (run / CHECKPOINTS).glob("step-*") if (folder / MANIFEST).is_file()]
    if not found:
        raise CheckpointError(f"{run}: neither a checkpoint folder nor a run folder with a checkpoint")
    return max(found, key=lambda folder: folder.name)


def checkpoint_name(step: int) -> str:
    """The name of the folder of a step, by which the folders sort."""
    return f"step-{step:08d}"


def read_best(run: Path) -> dict[str, Any] | None:
    """The step, metric and value of the best evaluation of a run; None if there is none."""
    try:
        best: dict[str, Any] = orjson.loads((run / BEST_FILE).read_bytes())
        return best if type(best["step"]) is int and type(best["value"]) is float else None
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
        return None


def load_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint at `path`, a checkpoint folder or a run folder.

    Raises:  CheckpointError or DataError, in one line, if a part is missing, damaged or does not fit.
    """
    folder = find_checkpoint(path)
    manifest = read_manifest(folder, "checkpoint")
    try:
        checkpoint = _load(folder, manifest)
    except (OSError, ValueError, TypeError, KeyError, SafetensorError, pa.ArrowException) as error:
        raise CheckpointError(
            f"{folder}: damaged checkpoint ({one_line(error)}); choose another one of its run or train again"
        ) from None
    expected = (len(checkpoint.puzzles), checkpoint.config.puzzle_size)
    if checkpoint.rows.shape != expected:
        raise CheckpointError(
            f"{folder}: {_ROWS} has rows of shape {tuple(checkpoint.rows.shape)}, expected {expected}"
        )
    weights = {
        f"{kind}.{name}": value
        for kind in ("raw", "ema")
        for name, value in getattr(checkpoint, kind).items()
    }
    refuse_bad_values(weights, folder)
    if checkpoint.rows.numel():
        _refuse_bad_rows(folder)
    return checkpoint


def _refuse_bad_rows(folder: Path) -> None:
    """`refuse_bad_values` for the rows, mapped a part at a time: mapped at once, all would stay in memory."""
    start, count = 0, 1
    while start < count:
        with safe_open(folder / _ROWS, "pt") as file:
            rows = file.get_slice("rows")
            count = rows.get_shape()[0]
            refuse_bad_values({"the puzzle table": rows[start : start + _PART]}, folder)
        start += _PART


def _load(folder: Path, manifest: dict[str, Any]) -> Checkpoint:
    facts = orjson.loads((folder / _FACTS).read_bytes())
    config = TypeAdapter(TRMConfig).validate_json(orjson.dumps(facts["config"]))
    family, canvas, vocabulary = facts["family"], int(facts["canvas"]), int(facts["vocabulary"])
    num_puzzles = int(facts["puzzles"])
    if family not in FAMILIES or vocabulary < family_of(family, canvas).vocabulary:
        raise ValueError(f"{_FACTS}: {vocabulary} tokens for family {family} on canvas {canvas}")
    weights = load_file(folder / _WEIGHTS)
    if num_puzzles:
        puzzles = _load_puzzles(folder / _PUZZLES, num_puzzles)
        # What Arrow keeps for later would add to the rows that are read next.
        pa.default_memory_pool().release_unused()
        rows = load_file(folder / _ROWS)["rows"]
    else:
        puzzles, rows = PuzzleTable.of_groups([], []), torch.zeros(0, config.puzzle_size)
    raw, ema = (
        {name[4:]: value for name, value in weights.items() if name.startswith(kind)}
        for kind in ("raw.", "ema.")
    )
    return Checkpoint(folder, config, family, canvas, vocabulary, raw, ema, rows, puzzles, manifest)


def _load_puzzles(path: Path, count: int) -> PuzzleTable:
    """The table of a file; KeyError or ValueError, which name the file, if it is none."""
    try:
        puzzles = PuzzleTable.from_arrow(pq.read_table(path))
    except (KeyError, ValueError) as error:
        raise type(error)(f"{path.name}, {one_line(error)}") from None
    if len(puzzles) != count:
        raise ValueError(f"{path.name} has {len(puzzles)} rows, expected {count}")
    return puzzles


def refuse_bad_values(tensors: Mapping[str, Tensor], where: Path) -> None:
    """Raises CheckpointError for the first tensor of another type, or with a value that is not finite."""
    for name, value in tensors.items():
        if value.dtype not in _DTYPES:
            found = str(value.dtype).removeprefix("torch.")
            raise CheckpointError(f"{where}: {name} is of type {found}, expected float32 or bfloat16")
        # The extremes are NaN if any value is, and finding them takes no memory.
        if value.numel() and not all(extreme.isfinite() for extreme in torch.aminmax(value)):
            raise CheckpointError(f"{where}: {name} holds values that are not finite")


def load_trainer_state(folder: Path) -> dict[str, Tensor]:
    """What `save_checkpoint` was given as `trainer`."""
    try:
        return load_file(folder / _TRAINER)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: cannot be resumed from ({one_line(error)})") from None
