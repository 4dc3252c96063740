"""`arcpipe checkpoint`: files of the reference, exact round trips, and refusal of wrong and hostile ones."""

import json
import math
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from arcpipe.augmentation import BLANK_TASK
from arcpipe.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from arcpipe.model_config import TRMConfig
from arcpipe.official import identifiers_of, read_identifiers, read_official, write_official
from arcpipe.puzzleset import read_puzzle_set
from arcpipe.runs import make_manifest
from arcpipe.trm import TRM
from candidates import read_predictions
from commands import fail_here, run_here, succeed_here
from files import Files, forget_hashes, json_of, lay_out
from puzzles import (
    IDENTITY,
    Augmentation,
    augmentation_of,
    augmented,
    made_up_tasks,
    restored,
    table_of,
    write_source,
)
from reference import RECORDINGS, OfficialFiles, read_recording, write_official_files

CONFIG, NAMES = "all_config.yaml", "identifiers.json"
INNER = "_orig_mod.model.inner"
ROWS, HEAD, TOKENS = (
    f"{INNER}.{name}" for name in ("puzzle_emb.weights", "lm_head.weight", "embed_tokens.embedding_weight")
)


@pytest.fixture
def mlp(fixtures_dir: Path, tmp_path: Path) -> OfficialFiles:
    """A model that mixes tokens by an MLP, 4 + 36 of them, with 11 tokens of vocabulary."""
    return write_official_files(tmp_path / "official", read_recording(fixtures_dir, "ii_mlp_t").arrays)


@pytest.fixture
def own(files: OfficialFiles, tmp_path: Path) -> Path:
    """The files, imported."""
    said = checkpoint("import", files.file, "--out", tmp_path / "own", "--canvas", 6)
    assert "arc on canvas 6" in said
    assert "10 puzzle rows" in said
    return tmp_path / "own"


def checkpoint(*arguments: object) -> str:
    """Run a command, assert success, and return its stdout."""
    return succeed_here("checkpoint", *arguments)


def refused(files: OfficialFiles, *flags: object) -> str:
    """Run an import that must fail and leave nothing; return its error."""
    folder = files.folder.parent
    before = sorted(folder.iterdir())
    said = fail_here("checkpoint", "import", files.file, "--out", folder / "new", "--canvas", 6, *flags)
    assert sorted(folder.iterdir()) == before
    return said


def config_of(folder: Path) -> Any:
    return yaml.safe_load((folder / CONFIG).read_text())


@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize("name", RECORDINGS)
def test_round_trips_are_exact(fixtures_dir: Path, name: str, tmp_path: Path, published: bool) -> None:
    """For files as published, of a compiled model with some bfloat16 tensors, and for plain ones."""
    recording = read_recording(fixtures_dir, name)
    files = write_official_files(
        tmp_path / "official", recording.arrays, compiled=published, bfloat16_init=published
    )
    own, out, side = tmp_path / "own", tmp_path / "back", math.isqrt(recording.model.num_tokens)
    checkpoint("import", files.file, "--out", own, "--canvas", side)
    imported = load_checkpoint(own)
    assert asdict(imported.config) == asdict(recording.model.config)
    for name, value in recording.model.state_dict().items():
        assert published or torch.equal(imported.ema[name], value), name
    checkpoint("export", own, "--out", out, *([] if published else ["--no-compiled-names"]))
    state = torch.load(out / files.file.name, weights_only=True)
    assert state.keys() == files.state.keys()
    for name, value in files.state.items():
        assert state[name].dtype == value.dtype, name
        assert torch.equal(state[name], value), name
    before, after = map(config_of, (files.folder, out))
    assert after | {"arch": before["arch"]} == before | {"canvas": side, "ema": True}
    assert before["arch"].items() <= after["arch"].items()
    if recording.model.config.puzzle_size:
        assert json_of(out / NAMES) == json_of(files.folder / NAMES)


def test_the_digits_of_an_identifier_are_the_color_of_each_color(fixtures_dir: Path, tmp_path: Path) -> None:
    with np.load(fixtures_dir / "grid_encoding.npz") as recorded:
        name, before, after = str(recorded["aug_name"]), recorded["aug_in"], recorded["aug_out"]
        back = recorded["aug_inverse_of_out"]
    lay_out({NAMES: [BLANK_TASK, name]}, tmp_path)
    puzzles = read_identifiers(tmp_path / NAMES)
    augmentation = augmentation_of(puzzles, 1)
    assert puzzles.task_ids[puzzles.tasks[1]] == name.partition("|||")[0]
    assert np.array_equal(augmented(before.astype(np.uint8), augmentation), after)
    assert np.array_equal(restored(after, augmentation), back)
    assert identifiers_of(puzzles) == [BLANK_TASK, name]


def test_an_imported_checkpoint_answers_under_its_augmentations(files: OfficialFiles, tmp_path: Path) -> None:
    tasks = made_up_tasks(2)
    challenges = write_source(tmp_path, "few", tasks)
    # Other augmentations than arcpipe would draw; one task of the ten rows is not in the source.
    augmented = ("", "|||t1|||0987654321", "|||t6|||0132456789", "|||t0|||0213456789")
    names = [BLANK_TASK, *(task.id + end for task in tasks for end in augmented), "another"]
    lay_out({NAMES: names}, files.folder)
    own, data, predictions = tmp_path / "own", tmp_path / "data", tmp_path / "predictions"
    checkpoint("import", files.file, "--out", own, "--canvas", 6)
    succeed_here("augment", "arc", "--source", challenges, "--extend", own, "--canvas", 6, "--out", data)
    puzzles = read_puzzle_set(data)
    assert identifiers_of(puzzles.table) == names[1:-1]
    rows = load_checkpoint(own).rows_by_id(puzzles)(np.arange(puzzles.num_puzzles))
    assert torch.equal(rows, files.state[ROWS][1:-1].float())
    succeed_here("infer", "--checkpoint", own, "--data", data, "--out", predictions, "--max-steps", 2)
    asked = {(one.task, one.test_index, one.augmentation) for one in read_predictions(predictions)}
    assert len(asked) == 4 * sum(len(task.tests) for task in tasks)


def test_a_checkpoint_to_hand_on_is_smaller(own: Path, tmp_path: Path) -> None:
    (own / "trainer.safetensors").write_bytes(b"not handed on")
    checkpoint("export", own, "--format", "arcpipe", "--out", tmp_path / "half", "--rows", "bfloat16")
    checkpoint("export", own, "--out", tmp_path / "trunk", "--trunk-only")
    whole, half, trunk = map(load_checkpoint, (own, tmp_path / "half", tmp_path / "trunk"))
    assert torch.equal(half.rows, whole.rows.bfloat16())
    assert (len(trunk.rows), len(trunk.puzzles)) == (0, 0)
    for smaller in (half, trunk):
        assert not (smaller.path / "trainer.safetensors").exists()
        assert all(torch.equal(value, whole.ema[name]) for name, value in smaller.ema.items())
    said = fail_here("checkpoint", "export", trunk.path, "--out", tmp_path / "back")
    assert "has no puzzle rows" in said


def test_show_says_what_is_in_a_checkpoint(files: OfficialFiles, own: Path) -> None:
    facts = json.loads(checkpoint("show", own, "--json"))
    assert (facts["model"]["family"], facts["model"]["inner_cycles"]) == ("arc", 2)
    assert facts["weights"] == {"trunk": 58242, "puzzle_rows": 320}
    assert (facts["puzzles"]["tasks"], facts["puzzles"]["most_rows_of_a_task"]) == (4, 3)
    assert facts["training"]["step"] == 1234
    assert facts["provenance"]["source"]["file"] == str(files.file)
    assert facts["bytes"]["all"] == sum(file.stat().st_size for file in own.iterdir())
    text = checkpoint("show", own)
    assert "inner_cycles (n, L_cycles)" in text
    assert "58,242" in text


def test_verify_says_which_checkpoints_are_sound(own: Path, tmp_path: Path) -> None:
    run_dir, steps = tmp_path / "run", tmp_path / "run" / "checkpoints"
    forget_hashes(shutil.copytree(own, tmp_path / "old"))
    shutil.copytree(own, steps / "step-00001234")
    assert checkpoint("verify", run_dir, tmp_path / "old").splitlines() == [
        f"{steps / 'step-00001234'}: sound",
        f"{tmp_path / 'old'}: can be read, but has no hashes to compare with",
    ]
    damaged = shutil.copytree(own, steps / "step-00001235") / "puzzles.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-64] + bytes(range(64)))
    (steps / "step-00001236").mkdir()
    done = run_here("checkpoint", "verify", tmp_path / "none", run_dir, code=2)
    says = ("none: no such folder", "1234: sound", f"{damaged}: damaged checkpoint (", "step-00001236: ")
    for line, part in zip(done.stdout.splitlines(), says, strict=True):
        assert part in line


def test_set_gives_what_the_files_do_not_say(files: OfficialFiles, tmp_path: Path) -> None:
    (files.folder / CONFIG).rename(tmp_path / "named.yaml")
    said = refused(files)
    assert "its tensors do not tell outer_cycles, inner_cycles" in said
    assert "--set model.outer_cycles=VALUE" in said
    named = ("--config", tmp_path / "named.yaml")
    for name, sets, cycles in (("own", (), 2), ("more", ("--set", "model.inner_cycles=5"), 5)):
        checkpoint("import", files.file, "--out", tmp_path / name, "--canvas", 6, *named, *sets)
        assert load_checkpoint(tmp_path / name).config.inner_cycles == cycles
    assert "did you mean 'inner_cycles'" in refused(files, *named, "--set", "model.inner_cycle=5")
    assert "reads [model] only" in refused(files, *named, "--set", "train.lr=5")


class Bomb:
    """An object that writes a file if a loader runs code to unpickle it."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.target}",)


def test_what_is_no_file_of_tensors_is_refused_and_code_in_it_not_run(files: OfficialFiles) -> None:
    target, whole = files.folder / "written", files.file.read_bytes()
    zip_of_nothing = b"PK\x05\x06" + bytes(18)
    for content in (b"these are\nno weights\n", b"", whole[: len(whole) * 2 // 3], zip_of_nothing):
        files.file.write_bytes(content)
        assert refused(files).startswith(f"{files.file}: ")
    bomb = files.state | {"bomb": Bomb(target)}
    for other in (bomb, torch.zeros(3), [torch.zeros(3)], {"model": {"a": torch.zeros(3)}}, {}):
        for zipped in (True, False):
            torch.save(other, files.file, _use_new_zipfile_serialization=zipped)
            assert refused(files).startswith(f"{files.file}: ")
    assert not target.exists()
    files.file.unlink()
    assert "no such file" in refused(files)
    files.file.mkdir()
    assert refused(files).startswith(f"{files.file}: ")


ARCH, TENSORS = "arch", "tensors"
# A part of the files, what is in it instead or changed in it, and the error.
WRONG: list[tuple[str, Any, str]] = [
    (TENSORS, {HEAD: None}, "output_head.weight is missing"),
    (TENSORS, {TOKENS: None}, "are not a Tiny Recursive Model's"),
    (TENSORS, {f"{INNER}.H_level.layers.0.w": torch.zeros(2)}, "H_level.layers.0.w is not the network's"),
    (TENSORS, {HEAD: torch.zeros(12, 31)}, "output_head.weight has shape (12, 31), expected (12, 32)"),
    (TENSORS, {HEAD: torch.full((12, 32), math.nan)}, "output_head.weight holds values that are not finite"),
    (TENSORS, {HEAD: torch.zeros(12, 32, dtype=torch.int64)}, "output_head.weight is of type int64"),
    (TENSORS, {ROWS: torch.full((10, 32), math.inf)}, "the puzzle table holds values that are not finite"),
    (TENSORS, {ROWS: torch.zeros(10)}, "are not a Tiny Recursive Model's"),
    (TENSORS, {HEAD.removeprefix("_orig_mod."): torch.zeros(12, 32)}, "holds tensors twice"),
    (TENSORS, {TOKENS: torch.zeros(7, 32), HEAD: torch.zeros(7, 32)}, "7 tokens are of no family known"),
    (ARCH, {"hidden_size": 64}, "hidden_size 64, the tensors 32"),
    (
        ARCH, {"L_layers": 4, "mlp_t": True},
        "num_layers 4, the tensors 2; mixer 'mlp', the tensors 'attention'",
    ),
    (ARCH, {"puzzle_emb_ndim": 0}, "puzzle_size 0, the tensors 32"),
    (ARCH, {"pos_encodings": "learned"}, "embed_positions is missing"),
    (ARCH, {"H_cycles": "three"}, "model.outer_cycles: input should be a valid integer, found 'three'"),
    (ARCH, {"puzzle_emb_ndim": "${.hidden_size}", "num_heads": 5}, "a multiple of 2 * num_heads (10)"),
    (ARCH, {"loss": {"loss_type": "focal"}}, "arch.loss.loss_type is focal, which decides how answers read"),
    (ARCH, {"expansion": 40}, "blocks.0.mlp.down.weight has shape (32, 256), expected (32, 1024)"),
    (CONFIG, "arch: [", "cannot be read as YAML"),
    (CONFIG, "just text", "has no table `arch`"),
    (CONFIG, "arch:\n  H_cycles: !!python/object/apply:os.system ['exit 1']\n", "cannot be read as YAML"),
    (CONFIG, "arch: {H_cycles: 2, L_cycles: 2}\nfound: !!set {a, b}\n", "do not tell max_steps, num_heads"),
    (NAMES, [], "expected a list of names"),
    (NAMES, [BLANK_TASK, 3], "expected a list of names"),
    (NAMES, ["a", "b"], "its first name is 'a', expected '<blank>'"),
    (NAMES, [BLANK_TASK, "a|||t8|||0123456789"], "row 2: 'a|||t8|||0123456789' is neither a task nor"),
    (NAMES, [BLANK_TASK, "a|||t1|||012345678"], "row 2: 'a|||t1|||012345678' is neither"),
    (NAMES, [BLANK_TASK, "a|||t1|||0123456788"], "row 2: its colors are no permutation"),
    (NAMES, [BLANK_TASK, "a", "a|||t0|||0123456789"], "names 'a' twice"),
]  # fmt: skip


@pytest.mark.parametrize(("part", "content", "says"), WRONG)
def test_files_that_are_wrong_are_refused(files: OfficialFiles, part: str, content: Any, says: str) -> None:
    path = files.folder / (CONFIG if part == ARCH else part)
    if part == TENSORS:
        path, state = files.file, files.state | content
        torch.save({name: value for name, value in state.items() if value is not None}, path)
    elif part == ARCH:
        config = config_of(files.folder)
        path.write_text(yaml.safe_dump(config | {"arch": config["arch"] | content}))
    else:
        path.write_text(content if part == CONFIG else json.dumps(content))
    said = refused(files)
    assert str(path if part == NAMES else files.folder) in said
    assert says in said


def test_identifiers_of_another_dataset_are_refused(files: OfficialFiles) -> None:
    lay_out({"other.json": [BLANK_TASK, "a", "b"]}, files.folder)
    said = refused(files, "--identifiers", files.folder / "other.json")
    assert "names 3 puzzles" in said
    assert "has 10 rows: it is of another dataset" in said
    assert "no such file" in refused(files, "--identifiers", files.folder / "none.json")


@pytest.mark.parametrize("named", [{}, {NAMES: [BLANK_TASK, "a"]}])
def test_rows_that_may_be_of_other_puzzles_are_left_out_with_a_warning(
    files: OfficialFiles, tmp_path: Path, named: Files
) -> None:
    """Without identifiers, and with those of another number of rows."""
    (files.folder / NAMES).unlink()
    lay_out(named, files.folder)
    done = run_here("checkpoint", "import", files.file, "--out", tmp_path / "own", "--canvas", 6, code=0)
    trunk = load_checkpoint(tmp_path / "own")
    assert (len(trunk.puzzles), trunk.rows.shape) == (0, (0, 32))
    assert "the 10 puzzle rows are left out" in done.stderr
    assert "--identifiers" in done.stderr


def test_the_one_row_of_a_sudoku_model_is_its_familys(mlp: OfficialFiles, tmp_path: Path) -> None:
    torch.save(mlp.state | {ROWS: mlp.state[ROWS][:1].clone()}, mlp.file)
    lay_out({NAMES: [BLANK_TASK]}, mlp.folder)
    checkpoint("import", mlp.file, "--out", tmp_path / "own")
    imported = load_checkpoint(tmp_path / "own")
    assert (imported.family, imported.canvas) == ("sudoku", 6)
    assert identifiers_of(imported.puzzles) == ["sudoku"]
    back = write_official(imported, tmp_path / "back")
    assert json_of(back.parent / NAMES) == [BLANK_TASK]
    assert torch.equal(torch.load(back, weights_only=True)[ROWS], mlp.state[ROWS][:1])


def test_a_canvas_or_family_that_contradicts_the_tensors_is_refused(mlp: OfficialFiles) -> None:
    said = refused(mlp, "--canvas", 9)
    assert "a canvas of side 9, " in said
    assert "has shape (40, 256), expected (85, 256)" in said
    assert "11 tokens are too few for arc on a canvas of side 6" in refused(mlp, "--family", "arc")


@pytest.fixture
def trained(tmp_path: Path) -> Checkpoint:
    """A checkpoint as the trainer writes it: separate averages, and no row for "<blank>"."""
    torch.manual_seed(0)
    config = TRMConfig(hidden_size=16, num_heads=2, num_layers=1, max_steps=3, puzzle_size=8, puzzle_tokens=1)
    raw = TRM(config, 25, 12).state_dict()
    puzzles = table_of(["b", "a"], [[IDENTITY, Augmentation(3)], [IDENTITY]])
    made = Checkpoint(
        path=tmp_path / "trained", config=config, family="arc", canvas=5, vocabulary=12, raw=raw,
        ema={name: value + 1 for name, value in raw.items()}, rows=torch.randn(3, 8), puzzles=puzzles,
        manifest=make_manifest("checkpoint", step=7, recipe={"train": {"lr": 3e-4, "halt_exploration": 0.2}}),
    )  # fmt: skip
    save_checkpoint(made)
    return made


def test_it_is_written_with_its_averages_and_a_blank_row(trained: Checkpoint, tmp_path: Path) -> None:
    file = write_official(trained, tmp_path / "official", compiled=False)
    again = read_official(file, tmp_path / "again")
    assert (file.name, again.config) == ("step_7", trained.config)
    assert all(torch.equal(value, trained.ema[name]) for name, value in again.ema.items())
    assert identifiers_of(again.puzzles) == [BLANK_TASK, "b", "b|||t3|||0123456789", "a"]
    assert torch.equal(again.rows, torch.cat((torch.zeros(1, 8), trained.rows)))
    config = config_of(file.parent)
    assert (config["lr"], config["arch"]["halt_exploration_prob"]) == (3e-4, 0.2)
    assert (config["arch"]["forward_dtype"], again.precision) == ("float32", "float32")


@pytest.mark.parametrize(("table", "loss"), [("train", "softmax"), ("adapt", "softmax"), ("train", None)])
def test_its_loss_comes_back(trained: Checkpoint, tmp_path: Path, table: str, loss: str | None) -> None:
    """And again after a second export; by it probabilities are read, and `adapt` trains with it."""
    recipe = {table: {"loss": loss} if loss else {}}
    again = replace(trained, manifest=make_manifest("checkpoint", recipe=recipe))
    for number in range(2):
        file = write_official(again, tmp_path / f"official{number}")
        written = config_of(file.parent)["arch"]["loss"]
        assert written == {"name": "losses@ACTLossHead", "loss_type": f"{loss or 'stablemax'}_cross_entropy"}
        again = read_official(file, tmp_path / "again", canvas=5)
        assert again.loss == (loss or "stablemax")


def test_it_is_written_in_the_arithmetic_of_its_training(trained: Checkpoint, tmp_path: Path) -> None:
    in_bfloat16 = replace(trained, manifest=trained.manifest | {"dtype": "bfloat16"})
    file = write_official(in_bfloat16, tmp_path / "official")
    assert config_of(file.parent)["arch"]["forward_dtype"] == "bfloat16"
    state = torch.load(file, weights_only=True)
    dtypes = {name: value.dtype for name, value in state.items() if name.endswith(("H_init", "L_init"))}
    assert list(dtypes.values()) == [torch.bfloat16] * 2
    assert read_official(file, tmp_path / "again", canvas=5).precision == "auto"
