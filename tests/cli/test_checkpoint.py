"""`arcpipe checkpoint`: import and export of published files, their answers, and refusal of hostile ones."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from arcpipe.augmentation import BLANK_TASK
from arcpipe.checkpoint import load_checkpoint
from arcpipe.official import identifiers_of
from arcpipe.puzzleset import read_puzzle_set
from candidates import read_predictions
from commands import fail_here, run_here, succeed_here
from puzzles import made_up_tasks, write_source
from reference import OfficialFiles, Recording, read_recording, write_official_files
from training import forget_hashes

INNER = "_orig_mod.model.inner"
ROWS, HEAD, TOKENS = (
    f"{INNER}.{name}" for name in ("puzzle_emb.weights", "lm_head.weight", "embed_tokens.embedding_weight")
)


@pytest.fixture(scope="module")
def recording(fixtures_dir: Path) -> Recording:
    """Attention with RoPE, 36 cells, ten puzzle rows."""
    return read_recording(fixtures_dir, "i_attn_rope")


@pytest.fixture
def files(recording: Recording, tmp_path: Path) -> OfficialFiles:
    return write_official_files(tmp_path / "official", recording.arrays)


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


def test_an_imported_checkpoint_answers_under_its_augmentations(files: OfficialFiles, tmp_path: Path) -> None:
    tasks = made_up_tasks(2)
    challenges = write_source(tmp_path, "few", tasks)
    # Other augmentations than arcpipe would draw; one task of the ten rows is not in the source.
    augmented = ("", "|||t1|||0987654321", "|||t6|||0132456789", "|||t0|||0213456789")
    names = [BLANK_TASK, *(task.id + end for task in tasks for end in augmented), "another"]
    (files.folder / "identifiers.json").write_text(json.dumps(names))
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


def test_import_and_export_are_inverse(files: OfficialFiles, own: Path, tmp_path: Path) -> None:
    checkpoint("export", own, "--out", tmp_path / "back")
    state = torch.load(tmp_path / "back" / files.file.name, weights_only=True)
    assert state.keys() == files.state.keys()
    assert all(torch.equal(state[name], value) for name, value in files.state.items())
    checkpoint("export", own, "--out", tmp_path / "plain", "--no-compiled-names")
    plain = torch.load(tmp_path / "plain" / files.file.name, weights_only=True)
    assert {"_orig_mod." + name for name in plain} == state.keys()


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


def test_what_cannot_be_exported_or_is_there_is_refused(files: OfficialFiles, own: Path) -> None:
    before = sorted(own.parent.iterdir())
    for words, says in (
        (("export", own, "--out", "back", "--trunk-only", "--format", "trm"), "--format"),
        (("export", own, "--out", "back", "--rows", "float32", "--format", "trm"), "--format"),
        (("export", own, "--out", "back", "--format", "arcpipe", "--no-compiled-names"), "--format"),
        (("export", own, "--out", files.folder), "exists already"),
        (("import", files.file, "--out", own), "exists already"),
        (("show", "nothing"), "no such folder"),
    ):
        assert says in fail_here("checkpoint", *words, cwd=own.parent)
    assert sorted(own.parent.iterdir()) == before


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
    done = run_here("checkpoint", "verify", tmp_path / "none", run_dir)
    assert done.returncode == 2
    says = ("none: no such folder", "1234: sound", f"{damaged}: damaged checkpoint (", "step-00001236: ")
    for line, part in zip(done.stdout.splitlines(), says, strict=True):
        assert part in line


def test_set_gives_what_the_files_do_not_say(files: OfficialFiles, tmp_path: Path) -> None:
    (files.folder / "all_config.yaml").rename(tmp_path / "named.yaml")
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
    target = files.folder / "written"
    for zipped in (True, False):
        bomb = files.state | {"bomb": Bomb(target)}
        torch.save(bomb, files.file, _use_new_zipfile_serialization=zipped)
        assert refused(files).startswith(f"{files.file}: ")
        assert not target.exists()
    torch.save(files.state, files.file)
    whole = files.file.read_bytes()
    zip_of_nothing = b"PK\x05\x06" + bytes(18)
    for content in (b"these are\nno weights\n", b"", whole[: len(whole) * 2 // 3], zip_of_nothing):
        files.file.write_bytes(content)
        assert refused(files).startswith(f"{files.file}: ")
    for other in (torch.zeros(3), [torch.zeros(3)], {"model": {"a": torch.zeros(3)}}, {}):
        torch.save(other, files.file)
        assert refused(files).startswith(f"{files.file}: ")
    files.file.unlink()
    assert "no such file" in refused(files)
    files.file.mkdir()
    assert refused(files).startswith(f"{files.file}: ")


@pytest.mark.parametrize(("changes", "says"), [
    ({HEAD: None}, "output_head.weight is missing"),
    ({TOKENS: None}, "are not a Tiny Recursive Model's"),
    ({f"{INNER}.H_level.layers.0.w": torch.zeros(2)}, "H_level.layers.0.w is not the network's"),
    ({HEAD: torch.zeros(12, 31)}, "output_head.weight has shape (12, 31), expected (12, 32)"),
    ({HEAD: torch.full((12, 32), float("nan"))}, "output_head.weight holds values that are not finite"),
    ({HEAD: torch.zeros(12, 32, dtype=torch.int64)}, "output_head.weight is of type int64"),
    ({ROWS: torch.full((10, 32), float("inf"))}, "the puzzle table holds values that are not finite"),
    ({ROWS: torch.zeros(10)}, "are not a Tiny Recursive Model's"),
    ({HEAD.removeprefix("_orig_mod."): torch.zeros(12, 32)}, "holds tensors twice"),
    ({TOKENS: torch.zeros(7, 32), HEAD: torch.zeros(7, 32)}, "7 tokens are of no family known"),
])  # fmt: skip
def test_tensors_of_no_model(
    files: OfficialFiles, changes: dict[str, torch.Tensor | None], says: str
) -> None:
    state: dict[str, Any] = files.state | changes
    torch.save({name: value for name, value in state.items() if value is not None}, files.file)
    said = refused(files)
    assert said.startswith(f"{files.file}: ")
    assert says in said


@pytest.mark.parametrize(("content", "says"), [
    ("arch: [", "cannot be read as YAML"),
    ("just text", "has no table `arch`"),
    ("arch:\n  H_cycles: !!python/object/apply:os.system ['exit 1']\n", "cannot be read as YAML"),
    ("arch: {H_cycles: 2, L_cycles: 2}\nfound: !!set {a, b}\n", "do not tell max_steps, num_heads"),
])  # fmt: skip
def test_wrong_configurations_are_named(files: OfficialFiles, content: str, says: str) -> None:
    (files.folder / "all_config.yaml").write_text(content)
    assert says in refused(files)


def test_identifiers_of_another_dataset_are_refused(files: OfficialFiles) -> None:
    other = files.folder / "other.json"
    other.write_text(json.dumps([BLANK_TASK, "a", "b"]))
    said = refused(files, "--identifiers", other)
    assert "names 3 puzzles" in said
    assert "has 10 rows: it is of another dataset" in said
    assert "no such file" in refused(files, "--identifiers", files.folder / "none.json")
