"""A checkpoint: one folder that holds a trained model and the puzzles it knows.

model.safetensors    the network's weights: raw.<name> as trained, ema.<name> averaged
puzzles.safetensors  rows (P, puzzle_size), the puzzle-embedding table, float32 or bfloat16
puzzles.parquet      row -> task, dihedral, colors
model.json           architecture; family, canvas and vocabulary, which say what a token means; P
trainer.safetensors  what only exact resume needs: optimizer and carry
manifest.json        step, recipe, provenance; files: the SHA-256 of each file above, not in older checkpoints

A trunk has P = 0 and neither of the two files of puzzles; one to hand on has no trainer's state.
"""

import re
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
from safetensors.torch import load_file
from torch import Tensor

from arcpipe.codec import FAMILIES, family_of
from arcpipe.errors import CheckpointError, DataError, UnreadableError, one_line
from arcpipe.puzzletable import PuzzleTable
from arcpipe.runs import file_hash, new_folder, read_manifest, reading, write_json
from arcpipe.tensorfiles import FILES, part_of_checkpoint, refuse_bad_rows, refuse_bad_values, save_tensors
from arcpipe.trm import TRM, TRMConfig

if TYPE_CHECKING:
    from arcpipe.puzzleset import PuzzleSet

CHECKPOINTS = "checkpoints"
WEIGHTS = "model.safetensors"
BEST_FILE = "best.json"
_ROWS, _PUZZLES = "puzzles.safetensors", "puzzles.parquet"
TRAINER, _FACTS = "trainer.safetensors", "model.json"
_STEP_NAME = re.compile(r"step-([0-9]{8,18})")
_REMEDY = "choose another one of its run or train again"


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
    manifest: dict[str, Any] = {**checkpoint.manifest, FILES: {}}
    with new_folder(checkpoint.path, manifest) as folder:
        save_tensors(folder / WEIGHTS, weights)
        if len(checkpoint.puzzles):
            save_tensors(folder / _ROWS, {"rows": checkpoint.rows})
            pq.write_table(checkpoint.puzzles.to_arrow(), folder / _PUZZLES)
        if trainer is not None:
            save_tensors(folder / TRAINER, {name: value.clone() for name, value in trainer.items()})
        write_json(folder / _FACTS, facts)
        manifest[FILES] |= {file.name: file_hash(file) for file in sorted(folder.iterdir())}


def find_checkpoint(path: Path) -> Path:
    """The checkpoint folder at `path`; of a run folder the best one, if evaluations have named one that is
    still there, or else the newest.

    Raises:  CheckpointError if there is none.
    """
    with reading(path):
        if (path / _FACTS).is_file() or _manifest_of(path) is not None:
            return path
    best = read_best(path)
    return newest_checkpoint(path) if best is None else path / CHECKPOINTS / checkpoint_name(best["step"])


def newest_checkpoint(run: Path) -> Path:
    """The newest whole checkpoint folder of a run folder.

    Raises:  CheckpointError if there is none.
    """
    with reading(run):
        if not run.exists():
            raise CheckpointError(f"{run}: no such folder")
    whole = whole_checkpoints(run)
    if not whole:
        raise CheckpointError(f"{run}: neither a checkpoint folder nor a run folder with a checkpoint")
    return whole[max(whole)]


def whole_checkpoints(run: Path) -> dict[int, Path]:
    """The checkpoint folders of a run that were finished, by their steps, in order.

    A folder is one only if its manifest is of the step that its name says, so that neither a copy that was
    cut short nor one under another name is taken for a checkpoint of the run.
    """
    return {
        step: path
        for step, path in named_checkpoints(run).items()
        if (_manifest_of(path) or {}).get("step") == step
    }


def named_checkpoints(run: Path) -> dict[int, Path]:
    """What lies in a run under the name of a checkpoint, whole or not, by the step in the name, in order."""
    try:
        with reading(run / CHECKPOINTS):
            paths = list((run / CHECKPOINTS).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    named = {int(found[1]): path for path in paths if (found := _STEP_NAME.fullmatch(path.name))}
    return {step: path for step, path in sorted(named.items()) if path.name == checkpoint_name(step)}


def _manifest_of(folder: Path) -> dict[str, Any] | None:
    """The manifest of a checkpoint folder; None if it is none."""
    try:
        return read_manifest(folder, "checkpoint")
    except UnreadableError:
        raise
    except DataError:
        return None


def checkpoint_name(step: int) -> str:
    """The name of the folder of a step, by which the folders sort."""
    return f"step-{step:08d}"


def read_best(run: Path) -> dict[str, Any] | None:
    """The step, metric and value of the best evaluation of a run; None if there is none, or no checkpoint of
    that step any more.
    """
    try:
        with reading(run / BEST_FILE):
            best: dict[str, Any] = orjson.loads((run / BEST_FILE).read_bytes())
        sound = type(best["step"]) is int and type(best["value"]) is float
        return best if sound and best["step"] in whole_checkpoints(run) else None
    except (OSError, orjson.JSONDecodeError, KeyError, TypeError):
        return None


def load_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint at `path`, a checkpoint folder or a run folder.

    Raises:  CheckpointError or DataError, in one line, if a part is missing, damaged or does not fit.
    """
    folder = find_checkpoint(path)
    manifest = read_manifest(folder, "checkpoint")
    checkpoint = _load(folder, manifest)
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
        refuse_bad_rows(folder / _ROWS, "the puzzle table")
    return checkpoint


def _load(folder: Path, manifest: dict[str, Any]) -> Checkpoint:
    with part_of_checkpoint(folder / _FACTS, manifest, _REMEDY) as file:
        facts = orjson.loads(file.read_bytes())
        config = TypeAdapter(TRMConfig).validate_json(orjson.dumps(facts["config"]))
        family, canvas, vocabulary = facts["family"], int(facts["canvas"]), int(facts["vocabulary"])
        num_puzzles = int(facts["puzzles"])
        if family not in FAMILIES or vocabulary < family_of(family, canvas).vocabulary:
            raise ValueError(f"{vocabulary} tokens for family {family} on canvas {canvas}")
    with part_of_checkpoint(folder / WEIGHTS, manifest, _REMEDY) as file:
        weights = load_file(file)
    if num_puzzles:
        with part_of_checkpoint(folder / _PUZZLES, manifest, _REMEDY) as file:
            puzzles = PuzzleTable.from_arrow(pq.read_table(file))
            if len(puzzles) != num_puzzles:
                raise ValueError(f"it has {len(puzzles)} rows, expected {num_puzzles}")
        # What Arrow keeps for later would add to the rows that are read next.
        pa.default_memory_pool().release_unused()
        with part_of_checkpoint(folder / _ROWS, manifest, _REMEDY) as file:
            rows = load_file(file)["rows"]
    else:
        puzzles, rows = PuzzleTable.of_groups([], []), torch.zeros(0, config.puzzle_size)
    raw, ema = (
        {name[4:]: value for name, value in weights.items() if name.startswith(kind)}
        for kind in ("raw.", "ema.")
    )
    return Checkpoint(folder, config, family, canvas, vocabulary, raw, ema, rows, puzzles, manifest)


def load_trainer_state(folder: Path) -> dict[str, Tensor]:
    """What `save_checkpoint` was given as `trainer`.

    Raises:  CheckpointError if it was given nothing, or the file is damaged.
    """
    manifest = read_manifest(folder, "checkpoint")
    with part_of_checkpoint(folder / TRAINER, manifest, "it cannot be resumed from") as file:
        return load_file(file)
