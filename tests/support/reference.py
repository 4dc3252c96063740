"""The recordings of the reference model in `fixtures/`, and the same model here."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

from arcpipe.batches import PuzzleBatch
from arcpipe.model_config import TRMConfig
from arcpipe.official import own_name
from arcpipe.trm import TRM

RECORDINGS = (
    "i_attn_rope",
    "ii_mlp_t",
    "iii_learned_pos_no_puzzle_emb",
    "iv_attn_rope_h64_seq64",
    "v_puzzle_emb_ceil",
)
NUM_STEPS = 3
# Of states and logits by step, of losses, of gradients as a share of the largest.
STATE_TOLERANCE = (2e-4, 1e-3, 1e-2)
LOSS_TOLERANCE = 1e-4
GRADIENT_TOLERANCE = 1e-3

_STATE = "state/"
# How the identifiers of a task end: itself, and under two augmentations.
_AUGMENTED = ("", "|||t2|||0738561429", "|||t0|||0213456789")


@dataclass(frozen=True)
class Recording:
    """What the reference recorded, by key; the same model here, and its puzzle table (P, puzzle_size)."""

    arrays: dict[str, NDArray[Any]]
    model: TRM
    table: Tensor

    def batch(self, number: int) -> PuzzleBatch:
        """One of the three batches."""
        names = ("inputs", "labels", "puzzle_identifiers")
        return PuzzleBatch(*(torch.tensor(self.arrays[f"batch{number}/{name}"]).long() for name in names))

    def gradients(self) -> dict[str, NDArray[Any]]:
        """The recorded gradients of the first training step, under the names here."""
        prefix = "grad/"
        return {
            own_name(key.removeprefix(prefix).replace("local_weights", "weights")): value
            for key, value in self.arrays.items()
            if key.startswith(prefix)
        }


def read_recording(folder: Path, name: str) -> Recording:
    """The recording of a name, from its one or two files."""
    arrays: dict[str, NDArray[Any]] = {}
    for path in folder.glob(f"trm_{name}*.npz"):
        with np.load(path) as recorded:
            arrays |= {key: recorded[key] for key in recorded.files}
    official = json.loads(str(arrays["config_json"]))
    weights = {
        own_name(key.removeprefix(_STATE)): torch.tensor(value)
        for key, value in arrays.items()
        if key.startswith(_STATE)
    }
    table = weights.pop("rows", torch.zeros(official["num_puzzle_identifiers"], 0))
    model = TRM(_own_config(official), official["seq_len"], official["vocab_size"])
    model.load_state_dict(weights)
    return Recording(arrays, model, table)


def _own_config(official: dict[str, Any]) -> TRMConfig:
    return TRMConfig(
        mixer="mlp" if official["mlp_t"] else "attention",
        positions=official["pos_encodings"],
        hidden_size=official["hidden_size"],
        num_layers=official["L_layers"],
        num_heads=official["num_heads"],
        expansion=official["expansion"],
        outer_cycles=official["H_cycles"],
        inner_cycles=official["L_cycles"],
        max_steps=official["halt_max_steps"],
        puzzle_size=official["puzzle_emb_ndim"],
        puzzle_tokens=official["puzzle_emb_len"],
    )


def assert_close(actual: Tensor, recorded: NDArray[Any], tolerance: float, what: str) -> None:
    """The tensor has the recorded shape, and the recorded values within an absolute tolerance."""
    assert actual.shape == recorded.shape, what
    error = float(np.abs(actual.detach().double().numpy() - recorded).max())
    assert error <= tolerance, f"{what} differs by {error:.1e}"


@dataclass(frozen=True)
class OfficialFiles:
    """A checkpoint in the reference's files: its folder, and the tensors as they were saved."""

    folder: Path
    state: dict[str, Tensor]

    @property
    def file(self) -> Path:
        """The file of tensors."""
        return self.folder / "step_1234"


def write_official_files(
    folder: Path, arrays: dict[str, NDArray[Any]], *, compiled: bool = True, bfloat16_init: bool = True
) -> OfficialFiles:
    """What the reference's trainer would have saved of a recording, as the published files are."""
    prefix = "_orig_mod." if compiled else ""
    state = {
        prefix + key.removeprefix(_STATE): torch.tensor(value)
        for key, value in arrays.items()
        if key.startswith(_STATE)
    }
    if bfloat16_init:
        state = {name: value.bfloat16() if "_init" in name else value for name, value in state.items()}
    config = json.loads(str(arrays["config_json"]))
    # The trainer takes these from the dataset, so they are not in its configuration.
    of_data = ("seq_len", "vocab_size", "num_puzzle_identifiers", "batch_size")
    arch = {key: value for key, value in config.items() if key not in of_data}
    folder.mkdir()
    torch.save(state, folder / "step_1234")
    (folder / "all_config.yaml").write_text(
        yaml.safe_dump({"arch": arch, "lr": 1e-4, "data_paths": ["data/arc"]})
    )
    names = ["<blank>", *(f"task{number // 3}" + _AUGMENTED[number % 3] for number in range(9))]
    (folder / "identifiers.json").write_text(json.dumps(names[: config["num_puzzle_identifiers"]]))
    return OfficialFiles(folder, state)
