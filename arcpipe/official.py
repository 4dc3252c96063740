"""Read and write checkpoints of the official code (`pretrain.py`).

step_N            a `torch.save` file of the averaged weights, including the puzzle table
all_config.yaml   the architecture under `arch`, and the settings of training
identifiers.json  from the dataset: the name of each row of the puzzle table, row 0 "<blank>"

A wrong number of cycles loads without an error and predicts wrongly. So settings that neither the tensors nor
all_config.yaml contain must be given, and contradictions are refused.
"""

import math
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import torch
import yaml
from torch import Tensor

from arcpipe.augmentation import BLANK_TASK, IDENTITY_COLORS, PuzzleTable
from arcpipe.boards import MAX_BOARD_SIDE
from arcpipe.checkpoint import OFFICIAL_LOSSES, Checkpoint, official_loss, refuse_bad_values
from arcpipe.codec import family_of
from arcpipe.documents import limit, read_json, read_within, refuse_extremes
from arcpipe.errors import CheckpointError, DataError, one_line
from arcpipe.log import logger
from arcpipe.model_config import TRMConfig
from arcpipe.recipe import Recipe
from arcpipe.runs import file_hash, make_manifest, new_folder, reading, write_json
from arcpipe.trm import TRM

CONFIG_FILE = "all_config.yaml"
IDENTIFIERS_FILE = "identifiers.json"
_COMPILED, _NETWORK = "_orig_mod.", "model.inner."
_ROWS, _TOKEN_MLP = "rows", "blocks.0.token_mlp.down.weight"
# Parts of official tensor names and the names here, replaced in this order.
_TENSORS = (
    ("embed_tokens.embedding_weight", "embed_tokens"),
    ("embed_pos.embedding_weight", "embed_positions"),
    ("puzzle_emb.weights", _ROWS),
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
# Keys of the official `arch` -> settings of [model].
_ARCH = {
    "hidden_size": "hidden_size", "L_layers": "num_layers", "num_heads": "num_heads",
    "expansion": "expansion",
    "H_cycles": "outer_cycles", "L_cycles": "inner_cycles", "halt_max_steps": "max_steps",
    "puzzle_emb_ndim": "puzzle_size", "puzzle_emb_len": "puzzle_tokens",
    "pos_encodings": "positions", "rope_theta": "rope_theta",
}  # fmt: skip
# Official training settings -> settings of [train].
_TRAINING = {
    "global_batch_size": "batch_size",
    "lr": "lr", "lr_min_ratio": "min_lr_ratio", "lr_warmup_steps": "warmup_steps",
    "weight_decay": "weight_decay", "beta1": "beta1", "beta2": "beta2",
    "puzzle_emb_lr": "puzzle_lr", "puzzle_emb_weight_decay": "puzzle_weight_decay",
    "seed": "seed", "ema_rate": "ema",
}  # fmt: skip
# The official vocabulary and canvas side of each family.
_FAMILIES = {12: "arc", 11: "sudoku", 6: "maze"}
_SIDES = {"arc": 30, "sudoku": 9, "maze": 30}
# What torch.load raises for a pickle that is damaged or not allowed.
_UNPICKLING = (
    pickle.UnpicklingError, EOFError, LookupError, TypeError, AttributeError, AssertionError, RecursionError,
    MemoryError,
)  # fmt: skip
_SEPARATOR = "|||"
# The YAML parser takes seconds for 100 kB.
_MOST_YAML = 2**15
_PICKLE, _MOST_PICKLE = "data.pkl", 2**18
_NAME = r"(?s)^(?P<task>.+?)(?:\|\|\|t(?P<dihedral>[0-7])\|\|\|(?P<colors>[0-9]{10}))?$"


def own_name(official: str) -> str:
    """Return the name here of an official tensor, from a compiled model or not."""
    name = official.removeprefix(_COMPILED).removeprefix(_NETWORK)
    for part, own in _TENSORS:
        name = name.replace(part, own)
    return name


def official_name(own: str, *, compiled: bool) -> str:
    """Return the official name of a tensor; `compiled`: in a compiled model."""
    for part, name in reversed(_TENSORS):
        own = own.replace(name, part)
    return (_COMPILED if compiled else "") + _NETWORK + own


def read_official(
    file: Path, path: Path, *, config: Path | None = None,
    identifiers: Path | Callable[[], PuzzleTable] | None = None,
    settings: Mapping[str, Any] | None = None, family: str | None = None, canvas: int = 0,
) -> Checkpoint:  # fmt: skip
    """Return an official checkpoint, to be saved at `path`, with its puzzle table mapped from disk.

    Its weights are averages, so raw and ema are the same. Without identifiers, which name the puzzle of each
    row, the rows are left out with a warning.

    Args:    file: a torch.save file.
             config: the all_config.yaml; None for the one beside the file.
             identifiers: the identifiers.json, or the folder of its dataset; None for the one beside the
             file; or a function that returns the puzzles.
             settings: settings of [model], which override those of `config`.
             family: None to infer it from the number of tokens.
             canvas: side of the canvas; 0 to take it from `config` or the tensors, else the family's official
             one, with a warning.
    Raises:  CheckpointError, DataError or RecipeError if a file is damaged, or they contradict each other.
    """
    weights = _read_tensors(file)
    config_path = config or file.parent / CONFIG_FILE
    official = _read_config(config_path) if config or config_path.exists() else {}
    own_config = _own_config(file, weights, official.get("arch", {}), settings or {})
    loss = str(official_loss(official.get("arch", {})).get("loss_type", "${"))
    if loss not in OFFICIAL_LOSSES and not loss.startswith("${"):
        known = ", ".join(OFFICIAL_LOSSES)
        raise CheckpointError(
            f"{config_path}: arch.loss.loss_type is {loss:.100}, which decides how answers read: expected "
            f"one of {known}"
        )
    side = official.get("canvas")
    canvas = canvas or (side if isinstance(side, int) and 0 < side <= MAX_BOARD_SIDE else 0)
    family, canvas = _family_and_canvas(file, weights, own_config, family, canvas)
    _refuse_misfits(file, weights, own_config, canvas)
    rows = weights.pop(_ROWS, torch.zeros(0, 0))
    puzzles = PuzzleTable.uncolored([])
    if own_config.puzzle_size and family != "arc" and len(rows) == 1:
        puzzles = PuzzleTable.uncolored([family])
    elif own_config.puzzle_size:
        puzzles = _find_puzzles(file, identifiers, len(rows))
    rows = rows[: len(puzzles)]
    refuse_bad_values({**weights, "the puzzle table": rows}, file)
    step = re.fullmatch(r"step_(\d+).*", file.name)
    manifest = make_manifest(
        "checkpoint",
        step=int(step[1]) if step else None,
        recipe={"model": asdict(own_config)},
        source={"file": str(file), "sha256": file_hash(file)},
        official_config=official,
    )
    try:
        orjson.dumps(manifest)
    except TypeError as error:
        # YAML has types that JSON lacks.
        raise CheckpointError(f"{config_path}: holds what JSON cannot ({one_line(error)})") from None
    return Checkpoint(
        path=path, config=own_config, family=family, canvas=canvas, vocabulary=len(weights["embed_tokens"]),
        raw=weights, ema=weights, rows=rows, puzzles=puzzles, manifest=manifest,
    )  # fmt: skip


def _read_tensors(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by their names here, mapped from disk, without running code in it."""
    if file.is_dir():
        raise CheckpointError(f"{file}: is a folder; give the file in it, such as step_N")
    if not file.exists():
        raise CheckpointError(
            f"{file}: no such file; one on the Hugging Face hub is named hf:OWNER/NAME/PATH"
        )
    try:
        # Opened here, because zipfile reports "no archive" where permission is missing.
        with reading(file), file.open("rb") as opened:
            if not zipfile.is_zipfile(opened):
                raise ValueError(
                    "it is cut short, something else, or of torch before 1.6: load and save it anew"
                )
            parts = zipfile.ZipFile(opened).infolist()
            # torch.save does not compress, so no part can be larger than the file.
            if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
                raise ValueError("its parts are compressed")
            # The pickle names the tensors; each of its bytes could become a set in memory.
            if any(
                part.filename.endswith(_PICKLE) and part.file_size > limit(_MOST_PICKLE) for part in parts
            ):
                raise ValueError(f"its {_PICKLE} has more than {limit(_MOST_PICKLE) / 1e3:.0f} kB")
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
        some = ", ".join(map(str, list(state)[:3])) if isinstance(state, dict) else type(state).__name__
        raise CheckpointError(f"{file}: holds something else than tensors by name (found {some})")
    # A tensor of any size can be a view of a few numbers.
    if sum(value.nbytes for value in state.values()) > file.stat().st_size:
        raise CheckpointError(f"{file}: its tensors are larger than the file")
    weights = {own_name(name): value for name, value in state.items()}
    if len(weights) < len(state):
        raise CheckpointError(f"{file}: holds tensors twice, with {_COMPILED} in their names and without")
    return weights


class _Loader(yaml.SafeLoader):
    """A YAML loader without aliases, with which ten lines can expand to a billion values."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise ValueError("it has an alias (*), which no such file needs")
        return super().compose_node(parent, index)


def _read_config(path: Path) -> dict[str, Any]:
    """Return the content of an all_config.yaml."""
    try:
        with reading(path):
            config = yaml.load(read_within(path, _MOST_YAML).decode(), _Loader)
        refuse_extremes(config)
    except RecursionError:
        raise CheckpointError(f"{path}: cannot be read as YAML (nested too deeply)") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise CheckpointError(f"{path}: cannot be read as YAML ({one_line(error)})") from None
    if not isinstance(config, dict) or not isinstance(config.get("arch"), dict):
        raise CheckpointError(f"{path}: has no table `arch`; expected the {CONFIG_FILE} of a training")
    return config


def _own_config(
    file: Path, weights: Mapping[str, Tensor], arch: Mapping[str, Any], settings: Mapping[str, Any]
) -> TRMConfig:
    """Return the configuration of the network that these tensors belong to.

    Args:    arch: from all_config.yaml; values with ${...} are ignored.
    Raises:  CheckpointError or RecipeError for missing settings and those that contradict the tensors.
    """
    tokens, rows = weights.get("embed_tokens"), weights.get(_ROWS)
    blocks = {match[1] for name in weights if (match := re.match(r"blocks\.(\d+)\.", name))}
    if not blocks or tokens is None or tokens.dim() != 2 or (rows is not None and rows.dim() != 2):
        some = ", ".join(list(weights)[:3]) or "none"
        raise CheckpointError(f"{file}: its tensors are not a Tiny Recursive Model's (found {some})")
    facts = {own: arch[key] for key, own in _ARCH.items() if not str(arch.get(key, "${")).startswith("${")}
    if isinstance(arch.get("mlp_t"), bool):
        facts["mixer"] = "mlp" if arch["mlp_t"] else "attention"
    facts |= settings
    inferred = {
        "hidden_size": tokens.shape[1],
        "num_layers": len(blocks),
        "mixer": "mlp" if _TOKEN_MLP in weights else "attention",
        "puzzle_size": 0 if rows is None else rows.shape[1],
    }
    if "embed_positions" in weights:
        inferred["positions"] = "learned"
    wrong = [
        f"{key} {facts[key]!r}, the tensors {value!r}"
        for key, value in inferred.items()
        if facts.get(key, value) != value
    ]
    if wrong:
        raise CheckpointError(f"{file}: {CONFIG_FILE} or --set says " + "; ".join(wrong))
    required = ["outer_cycles", "inner_cycles", "max_steps"]
    required += ["num_heads", "positions"] if inferred["mixer"] == "attention" else []
    required += ["puzzle_tokens"] if inferred["puzzle_size"] else []
    missing = [key for key in required if key not in facts and key not in inferred]
    if missing:
        raise CheckpointError(
            f"{file}: its tensors do not tell {', '.join(missing)}: put the {CONFIG_FILE} of its training "
            f"beside it, name it with --config, or give each as --set model.{missing[0]}=VALUE"
        )
    recipe = Recipe(str(file), {"model": {"puzzle_tokens": 0, "positions": "none", **facts, **inferred}})
    return recipe.settings("model", TRMConfig)


def _family_and_canvas(
    file: Path, weights: Mapping[str, Tensor], config: TRMConfig, family: str | None, canvas: int
) -> tuple[str, int]:
    """Return the family of a checkpoint's puzzles and the side of its canvas."""
    vocabulary = len(weights["embed_tokens"])
    family = family or _FAMILIES.get(vocabulary)
    if not family:
        raise CheckpointError(f"{file}: {vocabulary} tokens are of no family known: give --family, --canvas")
    by_token = weights.get(_TOKEN_MLP, weights.get("embed_positions"))
    if not canvas and by_token is not None:
        canvas = math.isqrt(max(1, by_token.shape[:1].numel() - config.prefix))
    if not canvas:
        canvas = _SIDES[family]
        logger.warning(
            "%s: nothing says how large its canvas is, so it is taken for %d, that of the official data; "
            "another one would answer noise: --canvas names it", file, canvas,
        )  # fmt: skip
    if family_of(family, canvas).vocabulary > vocabulary:
        raise CheckpointError(
            f"{file}: {vocabulary} tokens are too few for {family} on a canvas of side {canvas}: "
            "give the right --family and --canvas"
        )
    return family, canvas


def _refuse_misfits(file: Path, weights: Mapping[str, Tensor], config: TRMConfig, canvas: int) -> None:
    """Raise CheckpointError for tensors that are missing, not the network's, or of another shape."""
    # On the meta device, because only the shapes of the weights are needed.
    with torch.device("meta"):
        model = TRM(config, canvas * canvas, len(weights["embed_tokens"]))
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    actual = {name: tuple(value.shape) for name, value in weights.items() if name != _ROWS}
    problems = [f"{name} is missing" for name in expected.keys() - actual.keys()]
    problems += [f"{name} is not the network's" for name in actual.keys() - expected.keys()]
    problems += [
        f"{name} has shape {actual[name]}, expected {expected[name]}"
        for name in expected.keys() & actual.keys()
        if actual[name] != expected[name]
    ]
    if problems:
        where = f"for a canvas of side {canvas}, {config.prefix} tokens of the puzzle before it"
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CheckpointError(f"{file}: {where}: {'; '.join(sorted(problems)[:3])}{more}")


def _find_puzzles(
    file: Path, identifiers: Path | Callable[[], PuzzleTable] | None, num_rows: int
) -> PuzzleTable:
    """Return the puzzle of each row; if unknown, warn and return an empty table."""
    if callable(identifiers):
        puzzles = identifiers()
        if len(puzzles) != num_rows:
            raise DataError(
                f"the identifiers rebuilt name {len(puzzles)} puzzles, {file} has {num_rows} rows: it is of "
                "other sources, or of another number of augmentations"
            )
        return puzzles
    path = identifiers or file.parent / IDENTIFIERS_FILE
    if path.is_dir():
        path = path / IDENTIFIERS_FILE
    reason = f"there is no {path}"
    if identifiers is not None or path.exists():
        puzzles = read_identifiers(path)
        # Free Arrow's cached memory before the rows are read.
        pa.default_memory_pool().release_unused()
        if len(puzzles) == num_rows:
            return puzzles
        reason = f"{path} names {len(puzzles)} puzzles, {file} has {num_rows} rows"
        if identifiers is not None:
            raise DataError(f"{reason}: it is of another dataset; without it, the trunk alone is imported")
    logger.warning(
        "the %d puzzle rows are left out: %s, and rows that go to the wrong puzzles score 0; give the "
        "%s of the dataset with --identifiers, or make it again with --rebuild-identifiers", num_rows,
        reason, IDENTIFIERS_FILE,
    )  # fmt: skip
    return PuzzleTable.uncolored([])


def read_identifiers(path: Path) -> PuzzleTable:
    """Return the puzzles of an identifiers.json, one per row of a puzzle table.

    Raises:  DataError if it is not one, does not begin with "<blank>" or names a puzzle twice.
    """
    content = read_json(path)
    if not isinstance(content, list) or not content or not all(isinstance(name, str) for name in content):
        raise DataError(f"{path}: expected a list of names, one for each row of the puzzle table")
    if content[0] != BLANK_TASK:
        raise DataError(f"{path}: its first name is {content[0]!r}, expected {BLANK_TASK!r}")
    task, dihedral, colors = pc.extract_regex(pa.array(content), _NAME).flatten()
    wrong = pc.fill_null(pc.match_substring(task, _SEPARATOR), True).to_numpy(zero_copy_only=False)
    if wrong.any():
        row = int(wrong.argmax())
        raise DataError(
            f"{path}: row {row + 1}: {content[row]!r} is neither a task nor "
            f"task{_SEPARATOR}t<dihedral>{_SEPARATOR}<ten digits>"
        )
    plain = pc.equal(dihedral, "")
    columns = {
        "task": task,
        "dihedral": pc.cast(pc.if_else(plain, "0", dihedral), pa.uint8()),
        "colors": pc.if_else(plain, "".join(map(str, IDENTITY_COLORS)), colors),
    }
    try:
        puzzles = PuzzleTable.from_arrow(pa.table(columns))
    except ValueError as error:
        raise DataError(f"{path}: {one_line(error)}") from None
    _, first, counts = np.unique(puzzles.fingerprints(), return_index=True, return_counts=True)
    if (counts > 1).any():
        raise DataError(f"{path}: names {content[first[counts > 1].min()]!r} twice")
    return puzzles


def identifiers_of(puzzles: PuzzleTable) -> list[str]:
    """Return the name of each puzzle in an identifiers.json."""
    digits = (puzzles.colors + np.uint8(ord("0"))).tobytes().decode()
    plain = (puzzles.dihedrals == 0) & (puzzles.colors == IDENTITY_COLORS).all(axis=1)
    names = [puzzles.task_ids[number] for number in puzzles.tasks]
    for row in np.flatnonzero(~plain).tolist():
        names[row] += f"{_SEPARATOR}t{puzzles.dihedrals[row]}{_SEPARATOR}{digits[10 * row : 10 * row + 10]}"
    return names


def write_official(checkpoint: Checkpoint, out: Path, *, compiled: bool = True) -> Path:
    """Write a checkpoint's averaged weights and puzzle table as official files; return the file of tensors.

    Args:    compiled: name the tensors as in a compiled model, as the official loader expects.
    Raises:  CheckpointError if it has no rows, or settings that the official code lacks; OutputError if
             `out` exists or cannot be written.
    """
    config, plain = checkpoint.config, TRMConfig()
    own = [
        f"model.{name} = {value}"
        for name in ("separate_networks", "embedding", "tied_head", "loop_residual", "flow", "buckets")
        if (value := getattr(config, name)) != getattr(plain, name)
    ]
    own += [f"model.positions = {config.positions}"] if config.positions.startswith("rope2d") else []
    if own:
        raise CheckpointError(
            f"{checkpoint.path}: has {', '.join(own)}, which the official program does not know: "
            "--format arcpipe exports it for arcpipe"
        )
    state = {official_name(name, compiled=compiled): value.clone() for name, value in checkpoint.ema.items()}
    if "official_config" not in checkpoint.manifest:
        # The official code stores its initial states in its compute dtype.
        for name in (official_name(own, compiled=compiled) for own in ("init_answer", "init_latent")):
            state[name] = state[name].to(getattr(torch, _forward_dtype(checkpoint)))
    names = [BLANK_TASK]
    if config.puzzle_size:
        if not len(checkpoint.puzzles):
            raise CheckpointError(f"{checkpoint.path}: has no puzzle rows, which the official files need")
        names, rows = identifiers_of(checkpoint.puzzles), checkpoint.rows
        if names == [checkpoint.family]:
            names = [BLANK_TASK]
        elif names[0] != BLANK_TASK:
            names, rows = [BLANK_TASK, *names], torch.cat((torch.zeros_like(rows[:1]), rows))
        state[official_name(_ROWS, compiled=compiled)] = rows
    file = out / f"step_{checkpoint.manifest.get('step') or 0}"
    manifest = make_manifest("official checkpoint", checkpoint=str(checkpoint.path))
    with new_folder(out, manifest) as folder:
        try:
            torch.save(state, folder / file.name)
        except RuntimeError as error:
            raise OSError(None, one_line(error)) from None
        text = yaml.safe_dump(_official_config(checkpoint), sort_keys=False)
        (folder / CONFIG_FILE).write_text(text, encoding="utf-8")
        write_json(folder / IDENTIFIERS_FILE, names, indent=False)
    return file


def _forward_dtype(checkpoint: Checkpoint) -> str:
    """Return the compute dtype of a checkpoint's training; if unknown, that of its initial states."""
    dtype = checkpoint.manifest.get("dtype") or checkpoint.precision
    return dtype if hasattr(torch, dtype) else str(checkpoint.ema["init_answer"].dtype).removeprefix("torch.")


def _official_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the all_config.yaml of a checkpoint: the one it was imported with, updated by its settings."""
    imported: dict[str, Any] = checkpoint.manifest.get("official_config") or {}
    recipe = checkpoint.manifest.get("recipe", {}).get("train", {})
    settings = asdict(checkpoint.config)
    arch = {
        "name": "recursive_reasoning.trm@TinyRecursiveReasoningModel_ACTV1",
        "halt_exploration_prob": recipe.get("halt_exploration", 0.1),
        "H_layers": 0,
        "forward_dtype": _forward_dtype(checkpoint),
        "no_ACT_continue": True,
        **imported.get("arch", {}),
        **{key: settings[own] for key, own in _ARCH.items()},
        "mlp_t": checkpoint.config.mixer == "mlp",
    }
    losses = {own: name for name, own in OFFICIAL_LOSSES.items()}
    arch["loss"] = {"name": "losses@ACTLossHead", **official_loss(arch), "loss_type": losses[checkpoint.loss]}
    training = {key: recipe[own] for key, own in _TRAINING.items() if own in recipe}
    # The official code takes the canvas from its dataset; the entry here is for `checkpoint import`.
    return {"ema": True, **training, **imported, "arch": arch, "canvas": checkpoint.canvas}
