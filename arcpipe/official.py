"""The reference's checkpoints (`pretrain.py`), read and written.

step_N            one file of `torch.save`: the averaged weights, the puzzle table among them
all_config.yaml   the architecture under `arch`, beside the settings of training
identifiers.json  of the dataset: the name of each row of the puzzle table, row 0 "<blank>"
"""

import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import torch
import yaml
from torch import Tensor

from arcpipe.augmentation import IDENTITY, IDENTITY_COLORS
from arcpipe.checkpoint import Checkpoint
from arcpipe.errors import CheckpointError, DataError, one_line
from arcpipe.log import logger
from arcpipe.official_config import (
    CONFIG_FILE,
    ROWS,
    Shape,
    config_of,
    read_config,
    resolve_shape,
    settings_of,
)
from arcpipe.puzzletable import BLANK_TASK, PuzzleTable
from arcpipe.runs import file_hash, make_manifest, new_folder, reading, refuse_existing, write_json
from arcpipe.task import read_json
from arcpipe.tensorfiles import refuse_bad_values

IDENTIFIERS_FILE = "identifiers.json"
_COMPILED, _NETWORK = "_orig_mod.", "model.inner."
# Parts of the reference's names and what they are called here, in the order of their replacement.
_OWN_NAMES = (
    ("embed_tokens.embedding_weight", "embed_tokens"),
    ("embed_pos.embedding_weight", "embed_positions"),
    ("puzzle_emb.weights", ROWS),
    ("lm_head", "output_head"),
    ("q_head", "halt_head"),
    ("H_init", "init_answer"),
    ("L_init", "init_latent"),
    ("L_level.layers", "blocks"),
    ("self_attn.qkv_proj", "attention.qkv"),
    ("self_attn.o_proj", "attention.out"),
    ("mlp_t.", "token_mlp."),
    ("gate_up_proj", "gate_up"),
    ("down_proj", "down"),
)
# What torch.load raises for instructions that it does not follow, or that make no sense.
_UNPICKLING = (pickle.UnpicklingError, EOFError, LookupError, TypeError, AttributeError, AssertionError)
# A task, or a task under an augmentation.
_SEPARATOR = "|||"
_NAME = r"(?s)^(?P<task>.+?)(?:\|\|\|t(?P<dihedral>[0-7])\|\|\|(?P<colors>[0-9]{10}))?$"


@dataclass(frozen=True)
class Source:
    """What to import: the file, and what the user says beside it.

    config, identifiers: files, None for those beside the file; `identifiers` may be the dataset's folder.
    settings: of [model]. family, canvas: "" and 0 where the tensors tell.
    """

    file: Path
    config: Path | None
    identifiers: Path | None
    settings: dict[str, Any]
    family: str
    canvas: int


def own_name(official: str) -> str:
    """What a tensor of the reference is called here, whether its model was compiled or not."""
    name = official.removeprefix(_COMPILED).removeprefix(_NETWORK)
    for part, own in _OWN_NAMES:
        name = name.replace(part, own)
    return name


def official_name(own: str, *, compiled: bool = False) -> str:
    """What the reference calls a tensor; `compiled` as it is named in a model that was."""
    for part, name in reversed(_OWN_NAMES):
        own = own.replace(name, part)
    return (_COMPILED if compiled else "") + _NETWORK + own


def read_official(source: Source, path: Path) -> Checkpoint:
    """A reference checkpoint as one to be saved at `path`; the puzzle table stays mapped from the disk.

    Its weights are averages already, so both kinds are the same. The rows are left out, with a warning,
    unless the identifiers say which puzzle each of them is.

    Raises:  CheckpointError, DataError or RecipeError if a file is damaged, or they contradict each other.
    """
    weights = _read_tensors(source.file)
    config_path = source.config or source.file.parent / CONFIG_FILE
    config = read_config(config_path) if source.config or config_path.exists() else {}
    said = settings_of(config) | source.settings
    shape = resolve_shape(source.file, weights, said, source.family, source.canvas)
    rows = weights.pop(ROWS, torch.zeros(0, 0))
    puzzles = _puzzles(source, shape, len(rows))
    rows = rows[: len(puzzles)]
    refuse_bad_values({**weights, "the puzzle table": rows}, source.file)
    step = re.fullmatch(r"step_(\d+).*", source.file.name)
    manifest = make_manifest(
        "checkpoint",
        step=int(step[1]) if step else None,
        recipe={"model": asdict(shape.config)},
        source={"file": str(source.file), "sha256": file_hash(source.file)},
        official_config=config,
    )
    return Checkpoint(
        path=path, config=shape.config, family=shape.family, canvas=shape.canvas, vocabulary=shape.vocabulary,
        raw=weights, ema=weights, rows=rows, puzzles=puzzles,
        manifest=_plain(manifest, config_path),
    )  # fmt: skip


def _plain(manifest: dict[str, Any], config_path: Path) -> dict[str, Any]:
    """The manifest, if JSON can hold it: YAML can say more."""
    try:
        orjson.dumps(manifest)
    except TypeError as error:
        raise CheckpointError(f"{config_path}: holds what JSON cannot ({one_line(error)})") from None
    return manifest


def _read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a file by their names here, mapped from the disk. No code in it is run."""
    if file.is_dir():
        raise CheckpointError(f"{file}: is a folder; give the file in it, such as step_N")
    if not file.exists():
        raise CheckpointError(f"{file}: no such file")
    try:
        # By its name, zipfile calls no archive what it may not open.
        with reading(file), file.open("rb") as opened:
            is_zip = zipfile.is_zipfile(opened)
        if not is_zip:
            raise ValueError("it is cut short, something else, or of torch before 1.6: load and save it anew")
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError, ValueError, zipfile.BadZipFile) as error:
        reason = one_line(error).partition(". ")[0]
        raise CheckpointError(f"{file}: cannot be read as a file of torch.save ({reason})") from None
    except _UNPICKLING:
        raise CheckpointError(
            f"{file}: is damaged, or holds more than tensors, such as code that loading would run"
        ) from None
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        found = ", ".join(map(str, list(state)[:3])) if isinstance(state, dict) else type(state).__name__
        raise CheckpointError(f"{file}: holds something else than tensors by name (found {found})")
    weights = {own_name(name): value for name, value in state.items()}
    if len(weights) < len(state):
        raise CheckpointError(f"{file}: holds tensors twice, with {_COMPILED} in their names and without")
    return weights


def _puzzles(source: Source, shape: Shape, num_rows: int) -> PuzzleTable:
    """What the rows stand for; an empty table, with a warning, where that is not known."""
    if not shape.config.puzzle_size:
        return PuzzleTable.of_groups([], [])
    if shape.family != "arc" and num_rows == 1:
        return PuzzleTable.of_groups([shape.family], [[IDENTITY]])
    given = source.identifiers
    if given is not None and given.is_dir():
        given = given / IDENTIFIERS_FILE
    path = given or source.file.parent / IDENTIFIERS_FILE
    reason = f"there is no {path}"
    if given is not None or path.exists():
        puzzles = read_identifiers(path)
        # What Arrow keeps for later would add to the rows that are read next.
        pa.default_memory_pool().release_unused()
        if len(puzzles) == num_rows:
            return puzzles
        reason = f"{path} names {len(puzzles)} puzzles, {source.file} has {num_rows} rows"
        if given is not None:
            raise DataError(f"{reason}: it is of another dataset; without it, the trunk alone is imported")
    logger.warning(
        "the %d puzzle rows are left out: %s, and rows that go to the wrong puzzles score 0; give the "
        "%s of the dataset with --identifiers", num_rows, reason, IDENTIFIERS_FILE,
    )  # fmt: skip
    return PuzzleTable.of_groups([], [])


def read_identifiers(path: Path) -> PuzzleTable:
    """What the rows of a puzzle table stand for, from an identifiers.json.

    Raises:  DataError if it is none, does not begin with "<blank>" or names a puzzle twice.
    """
    names = _read_names(path)
    try:
        puzzles = _table_of(names)
    except ValueError as error:
        raise DataError(f"{path}: {one_line(error)}") from None
    _, first, counts = np.unique(puzzles.fingerprints(), return_index=True, return_counts=True)
    if (counts > 1).any():
        raise DataError(f"{path}: names {names[first[counts > 1].min()].as_py()!r} twice")
    return puzzles


def _read_names(path: Path) -> pa.StringArray:
    content = read_json(path)
    if not isinstance(content, list) or not content or not all(isinstance(name, str) for name in content):
        raise DataError(f"{path}: expected a list of names, one for each row of the puzzle table")
    if content[0] != BLANK_TASK:
        raise DataError(f"{path}: its first name is {content[0]!r}, expected {BLANK_TASK!r}")
    return pa.array(content)


def _table_of(names: pa.StringArray) -> PuzzleTable:
    """The puzzles of names; ValueError names a wrong one."""
    task, dihedral, colors = pc.extract_regex(names, _NAME).flatten()
    wrong = pc.fill_null(pc.match_substring(task, _SEPARATOR), True).to_numpy(zero_copy_only=False)
    if wrong.any():
        row = int(wrong.argmax())
        raise ValueError(
            f"row {row + 1}: {names[row].as_py()!r} is neither a task nor "
            f"task{_SEPARATOR}t<dihedral>{_SEPARATOR}<ten digits>"
        )
    plain = pc.equal(dihedral, "")
    digits = "".join(map(str, IDENTITY_COLORS))
    columns = {
        "task": task,
        "dihedral": pc.cast(pc.if_else(plain, "0", dihedral), pa.uint8()),
        "colors": pc.if_else(plain, digits, colors),
    }
    return PuzzleTable.from_arrow(pa.table(columns))


def identifiers_of(puzzles: PuzzleTable) -> list[str]:
    """The name of each puzzle as in an identifiers.json."""
    digits = (puzzles.colors + np.uint8(ord("0"))).tobytes().decode()
    plain = (puzzles.dihedrals == 0) & (puzzles.colors == IDENTITY_COLORS).all(axis=1)
    return [
        task if is_plain else f"{task}{_SEPARATOR}t{dihedral}{_SEPARATOR}{digits[10 * row : 10 * row + 10]}"
        for row, (task, dihedral, is_plain) in enumerate(
            zip((puzzles.task_ids[number] for number in puzzles.tasks), puzzles.dihedrals, plain, strict=True)
        )
    ]


def write_official(checkpoint: Checkpoint, out: Path, *, compiled: bool = True) -> Path:
    """Write a checkpoint's averaged weights and puzzle table as the reference's files; the file of tensors.

    Args:    compiled: name the tensors as in a compiled model, which the reference's loader expects.
    Raises:  CheckpointError if it has no rows, two networks or buckets; OutputError if `out` exists or cannot
             be written.
    """
    refuse_existing(out)
    if checkpoint.config.separate_networks:
        raise CheckpointError(f"{checkpoint.path}: has two networks, which the reference's files cannot hold")
    if checkpoint.config.buckets:
        raise CheckpointError(f"{checkpoint.path}: has buckets, the reference's program knows one canvas")
    state = {official_name(name, compiled=compiled): value.clone() for name, value in checkpoint.ema.items()}
    names = [BLANK_TASK]
    if checkpoint.config.puzzle_size:
        if not len(checkpoint.puzzles):
            raise CheckpointError(f"{checkpoint.path}: has no puzzle rows, which the reference's files need")
        names, rows = _named_rows(checkpoint)
        state[official_name(ROWS, compiled=compiled)] = rows
    file = out / f"step_{checkpoint.manifest.get('step') or 0}"
    manifest = make_manifest("official checkpoint", checkpoint=str(checkpoint.path))
    with new_folder(out, manifest) as folder:
        _save(state, folder / file.name)
        config = yaml.safe_dump(config_of(checkpoint), sort_keys=False)
        (folder / CONFIG_FILE).write_text(config, encoding="utf-8")
        write_json(folder / IDENTIFIERS_FILE, names, indent=False)
    return file


def _named_rows(checkpoint: Checkpoint) -> tuple[list[str], Tensor]:
    """The names and the rows of the table; the first row is that of "<blank>", of zeros where it has none."""
    names = identifiers_of(checkpoint.puzzles)
    if names == [checkpoint.family]:
        return [BLANK_TASK], checkpoint.rows
    if names[0] == BLANK_TASK:
        return names, checkpoint.rows
    return [BLANK_TASK, *names], torch.cat((torch.zeros_like(checkpoint.rows[:1]), checkpoint.rows))


def _save(state: Mapping[str, Tensor], path: Path) -> None:
    try:
        torch.save(dict(state), path)
    except RuntimeError as error:
        raise OSError(None, one_line(error)) from None
