"""A checkpoint as people publish it, without its identifiers: they are made again, and proven."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from arcpipe.augment.build import puzzle_set_of, write_puzzle_set
from arcpipe.augment.identifiers import rebuild_identifiers
from arcpipe.augment.sources import read_source
from arcpipe.augment.split import Selection
from arcpipe.checkpoint import load_checkpoint
from arcpipe.official import identifiers_of
from arcpipe.runs import make_manifest, read_manifest
from commands import fail_here, run_here, succeed_here
from puzzles import made_up_tasks, write_source

NUM_AUG = 3
RECIPE = """
[model]
hidden_size = 48
num_heads = 2
num_layers = 1
expansion = 2.0
outer_cycles = 1
inner_cycles = 1
max_steps = 1
puzzle_size = 48
puzzle_tokens = 1

[train]
steps = 250
batch_size = 32
optimizer = "muon"
muon_lr = 0.02
lr = 5e-3
puzzle_lr = 0.05
loss = "softmax"
warmup_steps = 10
min_lr_ratio = 0.05
ema = 0.9
placement = false
precision = "float32"
checkpoint_every = 1000
"""


@dataclass(frozen=True)
class Published:
    """What is published: a file of tensors beside its configuration; and what it was trained on."""

    file: Path
    source: str
    data: Path
    run: Path

    def flags(self, *more: object) -> tuple[object, ...]:
        """The words of an import with its identifiers made again."""
        rebuild = ("--rebuild-identifiers", "sources", "--source", self.source, "--num-aug", NUM_AUG)
        return ("checkpoint", "import", self.file, "--canvas", 3, *rebuild, *more)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """A network that knows all demonstrations of four tasks, its rows in the order of the reference."""
    folder = tmp_path_factory.mktemp("published")
    source = read_source(write_source(folder, "few", made_up_tasks(4, max_side=3)))
    puzzles = rebuild_identifiers([source], 42, NUM_AUG)
    numbers = {name: number for number, name in enumerate(puzzles.task_ids)}
    rows = [puzzles.of_task(numbers[task.id]) for task in source.tasks]
    groups = [(puzzles.dihedrals[of_task], puzzles.colors[of_task]) for of_task in rows]
    selection = Selection(list(source.tasks), [], 0, [])
    write_puzzle_set(folder / "data", puzzle_set_of(selection, groups, 3), make_manifest("dataset"))
    (folder / "recipe.toml").write_text(RECIPE)
    succeed_here("train", "recipe.toml", "--data", "data", "--out", "run", cwd=folder)
    succeed_here("checkpoint", "export", "run", "--out", "official", cwd=folder)
    (file,) = (folder / "official").glob("step_*")
    names = folder / "official" / "identifiers.json"
    state = torch.load(file, weights_only=True)
    (table,) = [name for name in state if name.endswith("puzzle_emb.weights")]
    places = {name: place for place, name in enumerate(json.loads(names.read_bytes()))}
    order = [places[name] for name in identifiers_of(puzzles)]
    assert order != sorted(order)
    torch.save(state | {table: state[table][order].clone()}, file)
    names.unlink()
    return Published(file, str(folder / "few_challenges.json"), folder / "data", folder / "run")


def test_its_identifiers_are_made_again_and_proven(published: Published, tmp_path: Path) -> None:
    out = tmp_path / "own"
    succeed_here(*published.flags("--out", out))
    manifest = read_manifest(out, "checkpoint")
    assert manifest["identifiers"] == {
        "set": "sources", "seed": 42, "num_aug": NUM_AUG,
        "sources": {"few": "a set of 4 tasks and 7 test outputs"},
    }  # fmt: skip
    assert manifest["proof"]["right"] > 60
    assert manifest["proof"]["shifted"] < 20
    trained = load_checkpoint(published.run)
    own = load_checkpoint(out)
    assert torch.equal(own.rows[torch.from_numpy(own.puzzles.find(trained.puzzles))], trained.rows)
    succeed_here("checkpoint", "identifiers", *published.flags()[6:], "--out", tmp_path / "own.json")
    assert json.loads((tmp_path / "own.json").read_bytes()) == identifiers_of(own.puzzles)


def test_rows_of_another_seed_or_number_are_refused(published: Published, tmp_path: Path) -> None:
    out = tmp_path / "own"
    said = fail_here(*published.flags("--seed", 43, "--out", out), logs=True)
    assert "its rows are not those of these puzzles (of 64 demonstrations" in said
    assert "name 13 puzzles" in fail_here(*published.flags("--num-aug", NUM_AUG - 1, "--out", out), logs=True)
    assert not out.exists()
    succeed_here(*published.flags("--seed", 43, "--unproven", "--out", out))
    assert not read_manifest(out, "checkpoint")["proof"]["right"] > 32


def test_verify_asks_any_checkpoint_for_its_demonstrations(published: Published, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    succeed_here(*published.flags("--seed", 43, "--unproven", "--out", wrong))
    done = run_here("checkpoint", "verify", published.run, wrong, "--data", published.data)
    right_line, wrong_line = done.stdout.splitlines()
    assert done.returncode == 2
    assert "sound; of 64 demonstrations 100% are answered exactly, with the next rows" in right_line
    assert "its rows are of other puzzles, or not learned" not in right_line
    assert wrong_line.endswith("its rows are of other puzzles, or not learned")


def test_named_identifiers_are_proven_where_the_tasks_are_given(published: Published, tmp_path: Path) -> None:
    names = identifiers_of(rebuild_identifiers([read_source(published.source)], 42, NUM_AUG))
    for file, order in (("right.json", names), ("wrong.json", [names[0], *reversed(names[1:])])):
        (tmp_path / file).write_text(json.dumps(order))
    words = ("checkpoint", "import", published.file, "--canvas", 3, "--source", published.source)
    succeed_here(*words, "--identifiers", tmp_path / "right.json", "--out", tmp_path / "own")
    said = fail_here(*words, "--identifiers", tmp_path / "wrong.json", "--out", tmp_path / "other", logs=True)
    assert "its rows are not those" in said
