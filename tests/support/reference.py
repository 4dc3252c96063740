"""The recordings of the reference model in `fixtures/`, and the same model here."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arcpipe.batches import PuzzleBatch
from arcpipe.trm import TRM, TRMConfig

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
# Parts of the reference's names and what they are called here.
_OWN_NAMES = (
    ("model.inner.", ""),
    ("embed_tokens.embedding_weight", "embed_tokens"),
    ("embed_pos.embedding_weight", "embed_positions"),
    ("puzzle_emb.weights", "rows"),
    ("puzzle_emb.local_weights", "rows"),
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
            own_name(key.removeprefix(prefix)): value
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


def own_name(official: str) -> str:
    """What an entry of the reference's state is called here."""
    for part, own in _OWN_NAMES:
        official = official.replace(part, own)
    return official


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
    error = float(np.abs(actual.detach().numpy() - recorded).max())
    assert error <= tolerance, f"{what} differs by {error:.1e}"
