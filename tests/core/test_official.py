"""Checkpoints of the reference: import, and exact round trips."""

import json
import logging
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from arcpipe.augmentation import BLANK_TASK, IDENTITY, Augmentation, PuzzleTable
from arcpipe.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from arcpipe.errors import ArcpipeError, CheckpointError, DataError
from arcpipe.model_config import TRMConfig
from arcpipe.official import identifiers_of, read_identifiers, read_official, write_official
from arcpipe.runs import make_manifest
from arcpipe.trm import TRM
from puzzles import augmented
from reference import (
    NUM_STEPS,
    RECORDINGS,
    STATE_TOLERANCE,
    OfficialFiles,
    Recording,
    assert_close,
    read_recording,
    write_official_files,
)  # fmt: skip


@pytest.fixture(scope="module", params=RECORDINGS)
def recording(request: pytest.FixtureRequest, fixtures_dir: Path) -> Recording:
    return read_recording(fixtures_dir, request.param)


@pytest.fixture
def attention(fixtures_dir: Path, tmp_path: Path) -> OfficialFiles:
    """Files of an attention model with RoPE, whose canvas of 6 does not show in its tensors."""
    return write_official_files(tmp_path / "official", read_recording(fixtures_dir, "i_attn_rope").arrays)


@pytest.fixture
def mlp(fixtures_dir: Path, tmp_path: Path) -> OfficialFiles:
    """Files of a model that mixes tokens by an MLP, 4 + 36 of them, with 11 tokens of vocabulary."""
    return write_official_files(tmp_path / "official", read_recording(fixtures_dir, "ii_mlp_t").arrays)


def side_of(recording: Recording) -> int:
    return math.isqrt(recording.model.num_tokens)


def imported(files: OfficialFiles, path: Path, **changes: Any) -> Checkpoint:
    """Import a checkpoint to `path`; return it as loaded from there."""
    save_checkpoint(read_official(files.file, path, **changes))
    return load_checkpoint(path)


@pytest.mark.parametrize("published", [True, False])
def test_round_trips_are_exact(recording: Recording, tmp_path: Path, published: bool) -> None:
    """For files as published, of a compiled model with some bfloat16 tensors, and for plain ones."""
    files = write_official_files(
        tmp_path / "official", recording.arrays, compiled=published, bfloat16_init=published
    )
    checkpoint = imported(files, tmp_path / "own", canvas=side_of(recording))
    back = write_official(checkpoint, tmp_path / "back", compiled=published)
    state = torch.load(back, weights_only=True)
    assert back.name == files.file.name
    assert state.keys() == files.state.keys()
    for name, value in files.state.items():
        assert state[name].dtype == value.dtype, name
        assert torch.equal(state[name], value), name
    before, after = (
        yaml.safe_load((folder / "all_config.yaml").read_text()) for folder in (files.folder, back.parent)
    )
    assert after | {"arch": before["arch"]} == before | {"canvas": side_of(recording), "ema": True}
    assert before["arch"].items() <= after["arch"].items()
    if recording.model.config.puzzle_size:
        names = [json.loads((of / "identifiers.json").read_bytes()) for of in (files.folder, back.parent)]
        assert names[0] == names[1]


def test_an_imported_model_answers_as_the_reference_did(recording: Recording, tmp_path: Path) -> None:
    files = write_official_files(tmp_path / "official", recording.arrays, bfloat16_init=False)
    checkpoint = imported(files, tmp_path / "own", canvas=side_of(recording))
    assert asdict(checkpoint.config) == asdict(recording.model.config)
    model, batch = checkpoint.model(), recording.batch(0)
    table = checkpoint.rows if checkpoint.config.puzzle_size else recording.table
    rows = table[batch.puzzle_ids]
    carry = model.empty_carry(len(batch.inputs))
    carry = model.admit(carry, batch.inputs, batch.labels, batch.puzzle_ids)
    answer, latent = carry.answer, carry.latent
    # The reference starts a new sample after its last step.
    for step in range(min(NUM_STEPS, checkpoint.config.max_steps)):
        with torch.no_grad():
            answer, latent, logits, halt_logit = model(batch.inputs, rows, answer, latent)
        for key, value in (("logits", logits), ("q_halt_logits", halt_logit)):
            assert_close(value, recording.arrays[f"eval{step}/{key}"], STATE_TOLERANCE[step], key)


def test_the_digits_of_an_identifier_are_the_color_of_each_color(fixtures_dir: Path, tmp_path: Path) -> None:
    with np.load(fixtures_dir / "grid_encoding.npz") as recorded:
        name, before, after = str(recorded["aug_name"]), recorded["aug_in"], recorded["aug_out"]
    path = tmp_path / "identifiers.json"
    path.write_text(json.dumps([BLANK_TASK, name]))
    puzzles = read_identifiers(path)
    assert puzzles.task_ids[puzzles.tasks[1]] == name.partition("|||")[0]
    assert np.array_equal(augmented(before.astype(np.uint8), puzzles.augmentation(1)), after)
    assert identifiers_of(puzzles) == [BLANK_TASK, name]


@pytest.mark.parametrize(("names", "says"), [
    ([], "expected a list of names"),
    ([BLANK_TASK, 3], "expected a list of names"),
    (["a", "b"], "its first name is 'a', expected '<blank>'"),
    ([BLANK_TASK, "a|||t8|||0123456789"], "row 2: 'a|||t8|||0123456789' is neither a task nor"),
    ([BLANK_TASK, "a|||t1|||012345678"], "row 2: 'a|||t1|||012345678' is neither"),
    ([BLANK_TASK, "a|||t1|||0123456788"], "row 2: its colors are no permutation"),
    ([BLANK_TASK, "a", "a|||t0|||0123456789"], "names 'a' twice"),
])  # fmt: skip
def test_wrong_identifiers_are_refused(tmp_path: Path, names: object, says: str) -> None:
    path = tmp_path / "identifiers.json"
    path.write_text(json.dumps(names))
    with pytest.raises(DataError) as caught:
        read_identifiers(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)


@pytest.mark.parametrize("kind", ["none", "of another count"])
def test_rows_that_may_be_of_other_puzzles_are_left_out_with_a_warning(
    attention: OfficialFiles, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = attention.folder / "identifiers.json"
    if kind == "none":
        path.unlink()
    else:
        path.write_text(json.dumps([BLANK_TASK, "a"]))
    with caplog.at_level(logging.WARNING, "arcpipe"):
        trunk = imported(attention, tmp_path / "own", canvas=6)
    assert (len(trunk.puzzles), trunk.rows.shape) == (0, (0, 32))
    assert "the 10 puzzle rows are left out" in caplog.text
    assert "--identifiers" in caplog.text


def test_the_one_row_of_a_sudoku_model_is_its_familys(mlp: OfficialFiles, tmp_path: Path) -> None:
    name = "_orig_mod.model.inner.puzzle_emb.weights"
    torch.save(mlp.state | {name: mlp.state[name][:1].clone()}, mlp.file)
    (mlp.folder / "identifiers.json").write_text(json.dumps([BLANK_TASK]))
    checkpoint = imported(mlp, tmp_path / "own")
    assert (checkpoint.family, checkpoint.canvas) == ("sudoku", 6)
    assert identifiers_of(checkpoint.puzzles) == ["sudoku"]
    back = write_official(checkpoint, tmp_path / "back")
    assert json.loads((back.parent / "identifiers.json").read_bytes()) == [BLANK_TASK]
    assert torch.equal(torch.load(back, weights_only=True)[name], mlp.state[name][:1])


@pytest.mark.parametrize(("changes", "says"), [
    ({"hidden_size": 64}, "hidden_size 64, the tensors 32"),
    ({"L_layers": 4, "mlp_t": True}, "num_layers 4, the tensors 2; mixer 'mlp', the tensors 'attention'"),
    ({"puzzle_emb_ndim": 0}, "puzzle_size 0, the tensors 32"),
    ({"pos_encodings": "learned"}, "embed_positions is missing"),
    ({"H_cycles": "three"}, "model.outer_cycles: input should be a valid integer, found 'three'"),
    ({"puzzle_emb_ndim": "${.hidden_size}", "num_heads": 5}, "must be a multiple of 2 * num_heads (10)"),
    ({"expansion": 40}, "blocks.0.mlp.down.weight has shape (32, 256), expected (32, 1024)"),
])  # fmt: skip
def test_a_configuration_that_contradicts_the_tensors_is_refused(
    attention: OfficialFiles, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    path = attention.folder / "all_config.yaml"
    config = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(config | {"arch": config["arch"] | changes}))
    with pytest.raises(ArcpipeError) as caught:
        read_official(attention.file, tmp_path / "own", canvas=6)
    assert str(attention.file) in str(caught.value)
    assert says in str(caught.value)


def test_a_canvas_that_contradicts_the_tensors_is_refused(mlp: OfficialFiles, tmp_path: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"a canvas of side 9, .*has shape \(40, 256\), expected \(85, 256\)"
    ):
        read_official(mlp.file, tmp_path / "own", canvas=9)
    with pytest.raises(CheckpointError, match="11 tokens are too few for arc on a canvas of side 6"):
        read_official(mlp.file, tmp_path / "own", family="arc")


@pytest.fixture
def trained(tmp_path: Path) -> Checkpoint:
    """A checkpoint as the trainer writes it: separate averages, and no row for "<blank>"."""
    torch.manual_seed(0)
    config = TRMConfig(hidden_size=16, num_heads=2, num_layers=1, max_steps=3, puzzle_size=8, puzzle_tokens=1)
    raw = TRM(config, 25, 12).state_dict()
    puzzles = PuzzleTable.of_groups(["b", "a"], [[IDENTITY, Augmentation(3)], [IDENTITY]])
    checkpoint = Checkpoint(
        path=tmp_path / "trained", config=config, family="arc", canvas=5, vocabulary=12, raw=raw,
        ema={name: value + 1 for name, value in raw.items()}, rows=torch.randn(3, 8), puzzles=puzzles,
        manifest=make_manifest("checkpoint", step=7, recipe={"train": {"lr": 3e-4, "halt_exploration": 0.2}}),
    )  # fmt: skip
    save_checkpoint(checkpoint)
    return checkpoint


def test_it_is_written_with_its_averages_and_a_blank_row(trained: Checkpoint, tmp_path: Path) -> None:
    file = write_official(trained, tmp_path / "official", compiled=False)
    again = read_official(file, tmp_path / "again")
    assert (file.name, again.config) == ("step_7", trained.config)
    assert all(torch.equal(value, trained.ema[name]) for name, value in again.ema.items())
    assert identifiers_of(again.puzzles) == [BLANK_TASK, "b", "b|||t3|||0123456789", "a"]
    assert torch.equal(again.rows, torch.cat((torch.zeros(1, 8), trained.rows)))
    config = yaml.safe_load((file.parent / "all_config.yaml").read_text())
    assert (config["lr"], config["arch"]["halt_exploration_prob"]) == (3e-4, 0.2)
    assert (config["arch"]["forward_dtype"], again.precision) == ("float32", "float32")


def test_it_is_written_in_the_arithmetic_of_its_training(trained: Checkpoint, tmp_path: Path) -> None:
    in_bfloat16 = replace(trained, manifest=trained.manifest | {"dtype": "bfloat16"})
    file = write_official(in_bfloat16, tmp_path / "official")
    config = yaml.safe_load((file.parent / "all_config.yaml").read_text())
    assert config["arch"]["forward_dtype"] == "bfloat16"
    state = torch.load(file, weights_only=True)
    dtypes = {name: value.dtype for name, value in state.items() if name.endswith(("H_init", "L_init"))}
    assert list(dtypes.values()) == [torch.bfloat16] * 2
    assert read_official(file, tmp_path / "again", canvas=5).precision == "auto"


def test_what_the_reference_cannot_hold_is_refused(trained: Checkpoint, tmp_path: Path) -> None:
    trunk = replace(trained, rows=trained.rows[:0], puzzles=PuzzleTable.of_groups([], []))
    own = replace(trained, config=replace(trained.config, separate_networks=True, tied_head=True))
    all_at_once = r"has model\.separate_networks = True, model\.tied_head = True, which the official program"
    for checkpoint, says in ((trunk, "has no puzzle rows"), (own, all_at_once)):
        with pytest.raises(CheckpointError, match=says):
            write_official(checkpoint, tmp_path / "official")
    assert not (tmp_path / "official").exists()
