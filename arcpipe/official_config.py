"""The architecture of a reference checkpoint: from its tensors, and from all_config.yaml for the rest.

Shapes do not tell how often the network is applied, and a wrong number of cycles answers wrongly without
a word: what neither the tensors nor the configuration say is asked for, and a contradiction is refused.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from torch import Tensor

from arcpipe.checkpoint import Checkpoint
from arcpipe.codec import family_of
from arcpipe.errors import CheckpointError, one_line
from arcpipe.recipe import Recipe
from arcpipe.runs import reading
from arcpipe.trm import TRM, TRMConfig

CONFIG_FILE = "all_config.yaml"
ROWS = "rows"
"""The name here of the puzzle table among a reference checkpoint's tensors."""

_FAMILIES = {12: "arc", 11: "sudoku", 6: "maze"}
_SIDES = {"arc": 30, "sudoku": 9, "maze": 30}
# Keys of the reference's `arch` and of its training, and the settings here.
_ARCH = {
    "hidden_size": "hidden_size",
    "L_layers": "num_layers",
    "num_heads": "num_heads",
    "expansion": "expansion",
    "H_cycles": "outer_cycles",
    "L_cycles": "inner_cycles",
    "halt_max_steps": "max_steps",
    "puzzle_emb_ndim": "puzzle_size",
    "puzzle_emb_len": "puzzle_tokens",
    "pos_encodings": "positions",
    "rope_theta": "rope_theta",
}
_TRAINING = {
    "global_batch_size": "batch_size",
    "lr": "lr",
    "lr_min_ratio": "min_lr_ratio",
    "lr_warmup_steps": "warmup_steps",
    "weight_decay": "weight_decay",
    "beta1": "beta1",
    "beta2": "beta2",
    "puzzle_emb_lr": "puzzle_lr",
    "puzzle_emb_weight_decay": "puzzle_weight_decay",
    "seed": "seed",
    "ema_rate": "ema",
}


@dataclass(frozen=True)
class Shape:
    """What a checkpoint's tensors are for: the network, the family of its puzzles, the canvas' side, V."""

    config: TRMConfig
    family: str
    canvas: int
    vocabulary: int


def read_config(path: Path) -> dict[str, Any]:
    """The content of an all_config.yaml.

    Raises:  CheckpointError if it cannot be read or has no `arch`.
    """
    try:
        with reading(path):
            config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise CheckpointError(f"{path}: cannot be read as YAML ({one_line(error)})") from None
    if not isinstance(config, dict) or not isinstance(config.get("arch"), dict):
        raise CheckpointError(f"{path}: has no table `arch`; expected the {CONFIG_FILE} of a training")
    return config


def settings_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of [model] that an all_config.yaml gives; values to be interpolated are left out."""
    arch = config.get("arch", {})
    said = {own: arch[key] for key, own in _ARCH.items() if not str(arch.get(key, "${")).startswith("${")}
    if isinstance(arch.get("mlp_t"), bool):
        said["mixer"] = "mlp" if arch["mlp_t"] else "attention"
    return said


def config_of(checkpoint: Checkpoint) -> dict[str, Any]:
    """The all_config.yaml of a checkpoint: the one it was imported with, or what its settings say."""
    imported: dict[str, Any] = checkpoint.manifest.get("official_config") or {}
    trained = checkpoint.manifest.get("recipe", {}).get("train", {})
    settings = asdict(checkpoint.config)
    arch = {
        "name": "recursive_reasoning.trm@TinyRecursiveReasoningModel_ACTV1",
        "loss": {"name": "losses@ACTLossHead", "loss_type": "stablemax_cross_entropy"},
        "halt_exploration_prob": trained.get("halt_exploration", 0.1),
        "H_layers": 0,
        "forward_dtype": str(checkpoint.ema["init_answer"].dtype).removeprefix("torch."),
        "no_ACT_continue": True,
        **imported.get("arch", {}),
        **{key: settings[own] for key, own in _ARCH.items()},
        "mlp_t": checkpoint.config.mixer == "mlp",
    }
    training = {key: trained[own] for key, own in _TRAINING.items() if own in trained}
    return {"ema": True, **training, **imported, "arch": arch}


def resolve_shape(
    file: Path, weights: Mapping[str, Tensor], said: Mapping[str, Any], family: str, canvas: int
) -> Shape:
    """What the tensors of a reference checkpoint are for.

    Args:    weights: under the names here. said: settings of [model]. family, canvas: "" and 0 where the
             user gives none.
    Raises:  CheckpointError or RecipeError for what is missing, and for what contradicts the tensors.
    """
    seen, total, vocabulary = _seen(file, weights)
    _refuse_gaps(file, seen, total, said)
    settings = {"puzzle_tokens": 0, "positions": "none", **said, **seen}
    config = Recipe(str(file), {"model": settings}).settings("model", TRMConfig)
    family = family or _FAMILIES.get(vocabulary, "")
    if not family:
        raise CheckpointError(f"{file}: {vocabulary} tokens are of no family known: give --family, --canvas")
    if total is None:
        canvas = canvas or _SIDES[family]
    elif "puzzle_tokens" in said or not config.puzzle_size:
        canvas = _side(file, total, config.prefix, canvas)
    else:
        canvas = canvas or _SIDES[family]
        config = _with_prefix(file, config, total, canvas)
    if family_of(family, canvas).vocabulary > vocabulary:
        raise CheckpointError(
            f"{file}: {vocabulary} tokens are too few for {family} on a canvas of side {canvas}: "
            "give the right --family and --canvas"
        )
    shape = Shape(config, family, canvas, vocabulary)
    _refuse_misfits(file, weights, shape)
    return shape


def _seen(file: Path, weights: Mapping[str, Tensor]) -> tuple[dict[str, Any], int | None, int]:
    """The settings that the tensors give, their number of tokens S if they depend on it, and V."""
    blocks = {match[1] for name in weights if (match := re.match(r"blocks\.(\d+)\.", name))}
    tokens, rows = weights.get("embed_tokens"), weights.get(ROWS)
    if not blocks or tokens is None or tokens.dim() != 2 or (rows is not None and rows.dim() != 2):
        some = ", ".join(list(weights)[:3]) or "none"
        raise CheckpointError(f"{file}: its tensors are not a Tiny Recursive Model's (found {some})")
    positions, mixer = weights.get("embed_positions"), weights.get("blocks.0.token_mlp.down.weight")
    seen = {
        "hidden_size": tokens.shape[1],
        "num_layers": len(blocks),
        "mixer": "attention" if mixer is None else "mlp",
        "puzzle_size": 0 if rows is None else rows.shape[1],
    }
    if positions is not None:
        seen["positions"] = "learned"
    of_all_tokens = positions if mixer is None else mixer
    total = len(of_all_tokens) if of_all_tokens is not None and of_all_tokens.dim() == 2 else None
    return seen, total, len(tokens)


def _refuse_gaps(file: Path, seen: Mapping[str, Any], total: int | None, said: Mapping[str, Any]) -> None:
    """Raises CheckpointError for all that contradicts the tensors, or is said neither by them nor else."""
    wrong = [
        f"{key} {said[key]!r}, the tensors {seen[key]!r}"
        for key in seen
        if said.get(key, seen[key]) != seen[key]
    ]
    if said.get("positions") == "learned" and "positions" not in seen:
        wrong.append("positions 'learned', the tensors 'rope' or 'none'")
    if wrong:
        raise CheckpointError(f"{file}: {CONFIG_FILE} or --set says " + "; ".join(wrong))
    needed = ["outer_cycles", "inner_cycles", "max_steps"]
    if seen["mixer"] == "attention":
        needed += ["num_heads", "positions"]
    if total is None and seen["puzzle_size"]:
        needed.append("puzzle_tokens")
    missing = [key for key in needed if key not in said and key not in seen]
    if missing:
        raise CheckpointError(
            f"{file}: its tensors do not tell {', '.join(missing)}: put the {CONFIG_FILE} of its training "
            f"beside it, name it with --config, or give each as --set model.{missing[0]}=VALUE"
        )


def _side(file: Path, total: int, prefix: int, canvas: int) -> int:
    """The canvas' side, given S and P; `canvas` is what the user says, 0 for nothing."""
    side = math.isqrt(max(0, total - prefix))
    if side == 0 or side * side != total - prefix or canvas not in (0, side):
        raise CheckpointError(
            f"{file}: its tensors are for {total} tokens, {prefix} of them the puzzle's: the other "
            f"{total - prefix} are no canvas{f' of side {canvas}' if canvas else ''}"
        )
    return side


def _with_prefix(file: Path, config: TRMConfig, total: int, canvas: int) -> TRMConfig:
    """The configuration with as many prefix tokens as the canvas leaves of S."""
    try:
        if total <= canvas * canvas:
            raise ValueError("none are left for the puzzle")
        return replace(config, puzzle_tokens=total - canvas * canvas)
    except ValueError as error:
        raise CheckpointError(
            f"{file}: its tensors are for {total} tokens, {canvas * canvas} of them the canvas' ({error}): "
            "give --canvas or --set model.puzzle_tokens=VALUE"
        ) from None


def _refuse_misfits(file: Path, weights: Mapping[str, Tensor], shape: Shape) -> None:
    """Raises CheckpointError for tensors that are missing, not the network's, or of another shape."""
    model = TRM(shape.config, shape.canvas * shape.canvas, shape.vocabulary)
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items() if name != ROWS}
    problems = [f"{name} is missing" for name in expected.keys() - found.keys()]
    problems += [f"{name} is not the network's" for name in found.keys() - expected.keys()]
    problems += [
        f"{name} has shape {found[name]}, expected {expected[name]}"
        for name in expected.keys() & found.keys()
        if found[name] != expected[name]
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CheckpointError(f"{file}: {'; '.join(sorted(problems)[:3])}{more}")
