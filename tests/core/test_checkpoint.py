"""The checkpoint folder: exact round trips, rows by puzzle, one-line errors for damage."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from arcpipe.augmentation import PuzzleTable
from arcpipe.checkpoint import (
    Checkpoint,
    RowChanges,
    changes_since,
    load_checkpoint,
    load_trainer_state,
    save_checkpoint,
)
from arcpipe.codec import family_of
from arcpipe.errors import ArcpipeError, CheckpointError, OutputError
from arcpipe.model_config import TRMConfig
from arcpipe.puzzleset import PuzzleSet, read_puzzle_set
from arcpipe.runs import make_manifest
from files import forget_hashes
from inference import CONFIG, random_model
from puzzles import IDENTITY, build, made_up_tasks, table_of, write_source

STATE = torch.zeros(2, 3)
TRAINER = {"steps": torch.tensor([1, 2]), "answer": STATE, "latent": STATE}


@pytest.fixture(scope="module")
def puzzles(tmp_path_factory: pytest.TempPathFactory) -> PuzzleSet:
    """Three tasks with four puzzles each."""
    folder = tmp_path_factory.mktemp("puzzles")
    return read_puzzle_set(build(folder / "data", write_source(folder, "few", made_up_tasks(3))))


def save(path: Path, puzzles: PuzzleSet, config: TRMConfig = CONFIG) -> Checkpoint:
    made = random_model(puzzles, config)
    averages = made.raw | {name: weight + 1 for name, weight in made.raw.items() if "init_" not in name}
    checkpoint = replace(made, path=path, ema=averages, manifest=make_manifest("checkpoint", recipe={}))
    save_checkpoint(checkpoint, TRAINER)
    return checkpoint


@pytest.fixture(scope="module")
def saved(puzzles: PuzzleSet, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return save(tmp_path_factory.mktemp("saved") / "checkpoint", puzzles)


@pytest.fixture
def hashed(saved: Checkpoint, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(saved.path, tmp_path / "checkpoint")


@pytest.fixture
def copy(hashed: Path) -> Path:
    """A copy to damage, without hashes, as in older checkpoints: only the content shows the damage."""
    return forget_hashes(hashed)


def refusal(folder: Path, kind: type[ArcpipeError] = CheckpointError) -> str:
    """Return the one line that is said of a checkpoint that does not load."""
    with pytest.raises(kind) as caught:
        load_checkpoint(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_checkpoint_comes_back_and_is_not_written_over(saved: Checkpoint, puzzles: PuzzleSet) -> None:
    with pytest.raises(OutputError, match="exists already"):
        save(saved.path, puzzles)
    loaded = load_checkpoint(saved.path)
    assert loaded.manifest.keys() - saved.manifest.keys() == {"files"}
    assert saved.manifest.items() <= loaded.manifest.items()
    for field in ("config", "family", "canvas", "vocabulary"):
        assert getattr(loaded, field) == getattr(saved, field), field
    assert np.array_equal(loaded.puzzles.fingerprints(), saved.puzzles.fingerprints())
    for found, expected in (
        (loaded.rows, saved.rows),
        (loaded.raw, saved.raw),
        (loaded.ema, saved.ema),
        (load_trainer_state(saved.path), TRAINER),
        (dict(loaded.model().state_dict()), saved.ema),
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert not loaded.model().training


def all_rows(path: Path, puzzles: PuzzleSet) -> Tensor:
    return load_checkpoint(path).rows_by_id(puzzles)(np.arange(puzzles.num_puzzles))


def test_rows_go_by_task_and_augmentation_not_by_position(saved: Checkpoint, puzzles: PuzzleSet) -> None:
    order = np.random.default_rng(0).permutation(puzzles.num_puzzles)[:7].tolist()
    table = puzzles.table
    some = PuzzleTable(table.task_ids, table.tasks[order], table.dihedrals[order], table.colors[order])
    assert torch.equal(all_rows(saved.path, replace(puzzles, table=some)), saved.rows[order])
    # Tasks are identified by name; their numbers differ between datasets.
    turned = replace(table, task_ids=table.task_ids[::-1], tasks=len(table.task_ids) - 1 - table.tasks)
    assert torch.equal(all_rows(saved.path, replace(puzzles, table=turned)), saved.rows)


def test_a_dataset_of_other_puzzles_is_refused(saved: Checkpoint, puzzles: PuzzleSet) -> None:
    table = puzzles.table
    colors = table.colors.copy()
    colors[-1, [8, 9]] = colors[-1, [9, 8]]
    canvas = puzzles.canvas
    stranger = replace(table, task_ids=[*table.task_ids[:-1], "stranger"])
    for change, said in (
        ({"table": stranger}, r"knows no embedding for 1 tasks .* such as stranger"),
        ({"table": replace(table, colors=colors)}, f"such as {table.task_ids[-1]}: adapt it"),
        ({"canvas": canvas + 1}, f"canvas {canvas}, the dataset has canvas {canvas + 1}"),
        ({"family": family_of("sudoku", canvas)}, "family arc, the dataset has puzzles of family sudoku"),
    ):
        with pytest.raises(CheckpointError, match=said):
            all_rows(saved.path, replace(puzzles, **change))  # type: ignore[arg-type]


def test_rows_are_handed_out_as_float32(saved: Checkpoint, puzzles: PuzzleSet, tmp_path: Path) -> None:
    half = saved.rows.bfloat16()
    save_checkpoint(replace(saved, path=tmp_path / "half", rows=half))
    rows = all_rows(tmp_path / "half", puzzles)
    assert rows.dtype == torch.float32
    assert torch.equal(rows, half.float())
    save(tmp_path / "without", puzzles, config=replace(CONFIG, puzzle_size=0, puzzle_tokens=0))
    stranger = replace(puzzles, table=table_of(["stranger"], [[IDENTITY]]))
    assert all_rows(tmp_path / "without", stranger).shape == (1, 0)


# Kinds of damage; the last is that of blocks that a disk never wrote.
DAMAGE: dict[str, Callable[[Path], object]] = {
    "gone": Path.unlink,
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3]),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("these are\nno weights\n"),
    "zeros": lambda path: path.write_bytes(path.read_bytes()[:-64] + bytes(64)),
}
PARTS = ("model.safetensors", "puzzles.safetensors", "puzzles.parquet", "model.json", "manifest.json")


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("hashes", [True, False])
def test_a_damaged_file_is_named(hashed: Path, hashes: bool, damage: str) -> None:
    """Without hashes, as in older checkpoints, some damage is not detected."""
    for part in PARTS if damage != "zeros" else PARTS[:4] * hashes:
        folder = shutil.copytree(hashed, hashed.parent / part)
        if not hashes:
            forget_hashes(folder)
        DAMAGE[damage](folder / part)
        said = refusal(folder, ArcpipeError)
        assert str(folder) in said
        if hashes and part != "manifest.json":
            assert said.startswith(f"{folder / part}: damaged checkpoint (")


def changed(path: Path, before: Checkpoint, ids: list[int], since: Path | None) -> Checkpoint:
    """Save a checkpoint with new rows for these puzzles; the others are those of `since`, or zeros."""
    rows = before.rows.clone() if since else torch.zeros_like(before.rows)
    rows[ids] = torch.randn(len(ids), rows.shape[1])
    checkpoint = replace(before, path=path, rows=rows)
    save_checkpoint(checkpoint, TRAINER, RowChanges(torch.tensor(ids), since))
    return checkpoint


TABLE, BASE, CHANGED = (f"puzzles{part}.safetensors" for part in ("", "-base", "-changed"))


def test_only_rows_that_changed_are_written_and_the_others_linked_to(hashed: Path, tmp_path: Path) -> None:
    first = changed(tmp_path / "first", load_checkpoint(hashed), [1, 5], hashed)
    second = changed(tmp_path / "second", first, [1, 5, 7], first.path)
    third = changed(tmp_path / "third", first, [2], None)
    assert (second.path / BASE).samefile(hashed / TABLE)
    assert changes_since(second.path).ids.tolist() == [1, 5, 7]
    # A checkpoint must not depend on others, which may be removed.
    shutil.rmtree(hashed)
    shutil.rmtree(first.path)
    for checkpoint in (second, third):
        loaded = load_checkpoint(checkpoint.path)
        assert torch.equal(loaded.rows, checkpoint.rows)
        assert not (checkpoint.path / TABLE).exists()
        copied = replace(loaded, path=tmp_path / "copy")
        save_checkpoint(copied)
        assert torch.equal(load_checkpoint(copied.path).rows, checkpoint.rows)
        shutil.rmtree(copied.path)
    for part, damage in ((BASE, "gone"), (BASE, "zeros"), (CHANGED, "cut"), (CHANGED, "zeros")):
        folder = shutil.copytree(second.path, tmp_path / "damaged")
        DAMAGE[damage](folder / part)
        assert f"{part}: damaged checkpoint (" in refusal(folder)
        shutil.rmtree(folder)


def test_where_there_is_nothing_to_link_to_all_rows_are_written(hashed: Path, tmp_path: Path) -> None:
    older = changed(tmp_path / "older", load_checkpoint(hashed), [1], forget_hashes(hashed))
    assert (older.path / TABLE).exists()
    assert torch.equal(load_checkpoint(older.path).rows, older.rows)


@pytest.mark.parametrize("damage", ["gone", "cut", "zeros"])
def test_without_trainer_state_it_loads_but_ends(hashed: Path, damage: str) -> None:
    DAMAGE[damage](hashed / "trainer.safetensors")
    load_checkpoint(hashed)
    with pytest.raises(CheckpointError, match=r"/trainer\.safetensors: .*cannot be resumed from"):
        load_trainer_state(hashed)


HEAD = "ema.output_head.weight"
NOT_FINITE = torch.full((12, 16), float("inf"))


@pytest.mark.parametrize(("part", "name", "value", "says"), [
    ("model", "raw.output_head.weight", NOT_FINITE, "raw.output_head.weight holds values that are not"),
    ("model", HEAD, NOT_FINITE, f"{HEAD} holds values that are not finite"),
    ("model", HEAD, torch.zeros(12, 16).long(), f"{HEAD} is of type int64, expected float32"),
    ("model", HEAD, torch.zeros(2, 3), "weights do not fit model.json"),
    ("model", HEAD, None, "weights do not fit model.json"),
    ("puzzles", "rows", torch.full((12, 2), float("nan")), "the puzzle table holds values that are not"),
    ("puzzles", "rows", torch.zeros(11, 2), "rows of shape (11, 2), expected (12, 2)"),
    ("puzzles-changed", "ids", torch.tensor([12]), "a puzzle is none of 12"),
    ("puzzles-changed", "ids", torch.tensor([[0]]), "rows of shape"),
    ("puzzles-changed", "ids", torch.tensor([0.0]), "rows of shape"),
])  # fmt: skip
def test_wrong_tensors_are_refused(
    copy: Path, part: str, name: str, value: Tensor | None, says: str, tmp_path: Path
) -> None:
    if part == "puzzles-changed":
        copy = forget_hashes(changed(tmp_path / "changed", load_checkpoint(copy), [1], None).path)
    file = copy / f"{part}.safetensors"
    tensors = load_file(file) | {name: value}
    save_file({key: tensor for key, tensor in tensors.items() if tensor is not None}, file)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(copy).model()
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["config", "family", "canvas", "vocabulary", "puzzles"])
@pytest.mark.parametrize("value", [None, [], "many", {"unknown": 1}, 1])
def test_a_wrong_model_json_is_said_in_one_line(copy: Path, key: str, value: Any) -> None:
    """A vocabulary of 1 is too small, 1 is not a family, and there is not 1 puzzle."""
    facts = orjson.loads((copy / "model.json").read_bytes())
    without = {name: fact for name, fact in facts.items() if name != key}
    for content in ([facts | {key: value}] if (key, value) != ("canvas", 1) else []) + [without, []]:
        (copy / "model.json").write_bytes(orjson.dumps(content))
        assert "damaged checkpoint" in refusal(copy)


@pytest.mark.parametrize(("column", "value", "says"), [
    ("dihedral", 9, "row 5: its dihedral is not 0..7"),
    ("dihedral", None, "row 5: its dihedral is not 0..7"),
    ("colors", "0123456788", "row 5: its colors are no permutation of 0123456789"),
    ("colors", "012345678", "row 5: its colors are not ten digits"),
    ("task", None, "a task is no text"),
])  # fmt: skip
def test_a_puzzle_that_cannot_be_is_named(copy: Path, column: str, value: object, says: str) -> None:
    file = copy / "puzzles.parquet"
    table = pq.read_table(file)
    rows = table.to_pylist()
    rows[4] |= {column: value}
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), file)
    damage = f"damaged checkpoint ({says}); choose another one of its run or train again"
    assert refusal(copy) == f"{file}: {damage}"
    pq.write_table(table.drop_columns([column]), file)
    assert "damaged checkpoint" in refusal(copy)
