"""A checkpoint: one folder that holds a trained model and the puzzles it knows.

model.safetensors    the network's weights: raw.<name> as trained, ema.<name> averaged
puzzles.safetensors  rows (P, puzzle_size), the puzzle-embedding table
puzzles.parquet      row -> task, dihedral, colors
model.json           architecture, canvas, vocabulary
trainer.safetensors  what only exact resume needs: optimizer and carry
manifest.json        step, recipe, provenance
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from arcpipe.augmentation import DIHEDRALS, IDENTITY_COLORS, Augmentation
from arcpipe.errors import CheckpointError, one_line
from arcpipe.puzzleset import PuzzleSet
from arcpipe.runs import MANIFEST, new_folder, read_manifest, write_json
from arcpipe.trm import TRM, TRMConfig

CHECKPOINTS = "checkpoints"
PuzzleKey = tuple[str, Augmentation]
"""What a row of the puzzle table stands for: task id and augmentation."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory; `raw` and `ema` are weights by name, `rows` the table (P, puzzle_size)."""

    path: Path
    config: TRMConfig
    canvas: int
    vocabulary: int
    raw: dict[str, Tensor]
    ema: dict[str, Tensor]
    rows: Tensor
    puzzles: list[PuzzleKey]
    manifest: dict[str, Any]

    def model(self) -> TRM:
        """The network with the averaged weights, in evaluation mode, on the CPU."""
        model = TRM(self.config, self.canvas * self.canvas, self.vocabulary)
        try:
            model.load_state_dict(self.ema)
        except RuntimeError as error:
            raise CheckpointError(f"{self.path}: weights do not fit model.json: {one_line(error)}") from None
        return model.eval()

    def rows_of(self, puzzles: PuzzleSet) -> Tensor:
        """The table's rows (P, puzzle_size) in the order of a dataset's puzzle ids.

        Raises:  CheckpointError if the canvas differs or a puzzle was never trained.
        """
        if puzzles.canvas != self.canvas:
            raise CheckpointError(
                f"{self.path}: trained on canvas {self.canvas}, the dataset has canvas {puzzles.canvas}"
            )
        numbers = {key: number for number, key in enumerate(self.puzzles)}
        keys = puzzle_keys(puzzles)
        unknown = sorted({task for task, augmentation in keys if (task, augmentation) not in numbers})
        if unknown:
            raise CheckpointError(
                f"{self.path}: knows no embedding for {len(unknown)} tasks of the dataset "
                f"or for some of their augmentations, such as {unknown[0]}; train on this dataset"
            )
        return self.rows[[numbers[key] for key in keys]]


def puzzle_keys(puzzles: PuzzleSet) -> list[PuzzleKey]:
    """Task id and augmentation of each puzzle of a dataset, in the order of its ids."""
    return [
        (puzzles.task_ids[task], puzzles.augmentation(number))
        for number, task in enumerate(puzzles.puzzle_tasks)
    ]


def save_checkpoint(
    path: Path,
    *,
    model: TRM,
    ema: Mapping[str, Tensor],
    rows: Tensor,
    puzzles: Sequence[PuzzleKey],
    canvas: int,
    trainer: Mapping[str, Tensor],
    manifest: dict[str, Any],
) -> None:
    """Write a checkpoint folder, whole or not at all.

    Args:    ema: averaged parameters by name. trainer: what exact resume needs.
             manifest: from `make_manifest("checkpoint", step=..., recipe=..., ...)`.
    Raises:  OutputError if it exists or cannot be written.
    """
    raw = model.state_dict()
    weights = {f"raw.{name}": value for name, value in raw.items()}
    weights |= {f"ema.{name}": ema.get(name, value) for name, value in raw.items()}
    with new_folder(path, manifest) as folder:
        _save_tensors(folder / "model.safetensors", weights)
        _save_tensors(folder / "puzzles.safetensors", {"rows": rows})
        _save_tensors(folder / "trainer.safetensors", trainer)
        table = {
            "task": [task for task, _ in puzzles],
            "dihedral": pa.array([augmentation.dihedral for _, augmentation in puzzles], pa.uint8()),
            "colors": ["".join(map(str, augmentation.colors)) for _, augmentation in puzzles],
        }
        pq.write_table(pa.table(table), folder / "puzzles.parquet")
        facts = {"config": asdict(model.config), "canvas": canvas, "vocabulary": model.vocabulary}
        write_json(folder / "model.json", facts)


def _save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    # Clones: safetensors refuses tensors that share memory, such as those of an empty carry.
    try:
        save_file({name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}, path)
    except SafetensorError as error:
        raise OSError(None, one_line(error)) from None


def find_checkpoint(path: Path) -> Path:
    """The checkpoint folder at `path`, or the newest one of the run folder at `path`.

    Raises:  CheckpointError if there is none.
    """
    if (path / "model.json").is_file():
        return path
    if not path.exists():
        raise CheckpointError(f"{path}: no such folder")
    found = [folder for folder in (path / CHECKPOINTS).glob("step-*") if (folder / MANIFEST).is_file()]
    if not found:
        raise CheckpointError(f"{path}: neither a checkpoint folder nor a run folder with a checkpoint")
    return max(found, key=lambda folder: folder.name)


def load_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint at `path`, a checkpoint folder or a run folder.

    Raises:  CheckpointError or DataError, in one line, if a part is missing, damaged or does not fit.
    """
    folder = find_checkpoint(path)
    manifest = read_manifest(folder, "checkpoint")
    try:
        facts = orjson.loads((folder / "model.json").read_bytes())
        config = TypeAdapter(TRMConfig).validate_json(orjson.dumps(facts["config"]))
        canvas, vocabulary = int(facts["canvas"]), int(facts["vocabulary"])
        weights = load_file(folder / "model.safetensors")
        rows = load_file(folder / "puzzles.safetensors")["rows"]
        table = pq.read_table(folder / "puzzles.parquet").to_pylist()
        puzzles = [_puzzle_key(row, number) for number, row in enumerate(table, 1)]
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder}: damaged checkpoint ({one_line(error)}); choose another one of its run or train again"
        ) from None
    if rows.shape != (len(puzzles), config.puzzle_size):
        raise CheckpointError(
            f"{folder}: puzzles.safetensors has rows of shape {tuple(rows.shape)}, "
            f"expected {(len(puzzles), config.puzzle_size)}"
        )
    everything = weights | {"the puzzle table": rows}
    bad = [name for name, value in everything.items() if not torch.isfinite(value).all()]
    if bad:
        raise CheckpointError(f"{folder}: {bad[0]} holds values that are not finite")
    return Checkpoint(
        path=folder,
        config=config,
        canvas=canvas,
        vocabulary=vocabulary,
        raw={name[4:]: value for name, value in weights.items() if name.startswith("raw.")},
        ema={name[4:]: value for name, value in weights.items() if name.startswith("ema.")},
        rows=rows,
        puzzles=puzzles,
        manifest=manifest,
    )


def _puzzle_key(row: dict[str, Any], number: int) -> PuzzleKey:
    """A row of puzzles.parquet; ValueError or TypeError if it is none, KeyError if it lacks a column."""
    task, dihedral, colors = row["task"], row["dihedral"], tuple(map(int, row["colors"]))
    if not isinstance(task, str):
        raise ValueError(f"puzzles.parquet, row {number}: task {task!r} is no text")
    if dihedral not in range(len(DIHEDRALS)) or sorted(colors) != list(IDENTITY_COLORS):
        raise ValueError(
            f"puzzles.parquet, row {number}: dihedral {dihedral}, colors {row['colors']} is no augmentation"
        )
    return task, Augmentation(dihedral, colors)


def load_trainer_state(folder: Path) -> dict[str, Tensor]:
    """What `save_checkpoint` was given as `trainer`."""
    try:
        return load_file(folder / "trainer.safetensors")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: cannot be resumed from ({one_line(error)})") from None
