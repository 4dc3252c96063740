"""Every recipe trains in a small version, and its comments state its numbers."""

import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import typer

from arcpipe.commands.cli import app
from arcpipe.recipe import load_recipe, recipe_names
from arcpipe.runs import find_checkpoint
from commands import succeed_here
from puzzles import build, sized_tasks, write_source
from training import metrics

# Smaller values for what would be slow.
SMALL = (
    "model.hidden_size=16", "model.num_heads=2", "model.puzzle_size=16", "model.puzzle_tokens=2",
    "model.expansion=1.0", "model.outer_cycles=2", "model.inner_cycles=1", "model.max_steps=2",
    "train.batch_size=4", "train.log_every=1", "train.compile=off",
)  # fmt: skip


def family(name: str) -> str:
    """The family of the puzzles that a recipe is for."""
    return next((kind for kind in ("sudoku", "maze") if name.startswith(kind)), "arc")


def data_of(name: str) -> str:
    """The dataset that fits a recipe; with buckets, one on their canvas."""
    model = load_recipe(name).tables["model"]
    if model.get("embedding") == "task":
        return "fresh"
    return "sized" if model.get("buckets") else family(name)


@pytest.fixture(scope="module")
def datasets(work: Path) -> dict[str, Path]:
    """A tiny dataset folder of each family; those of ARC leave room for the largest bucket of a recipe."""
    sized = build(work / "canvas", write_source(work, "canvas", sized_tasks([9, 14, 3])), canvas=26)
    fresh = build(work / "colors", write_source(work, "canvas", sized_tasks([9])), canvas=26, num_aug=None)
    of_kind = {name: work / name for name in ("sudoku", "maze")}
    return of_kind | {"arc": work / "data", "sized": sized, "fresh": fresh}


# Recipes for Kaggle adapt a checkpoint: tests/kaggle_kernels runs one of them.
TRAINING = [name for name in recipe_names() if "train" in load_recipe(name).tables]


@pytest.mark.parametrize("name", TRAINING)
def test_a_recipe_trains(name: str, datasets: dict[str, Path], run: Path) -> None:
    flags = [word for setting in SMALL for word in ("--set", setting)]
    out = run
    succeed_here("train", name, "--data", datasets[data_of(name)], "--out", out, "--steps", 2, *flags)
    assert [record["step"] for record in metrics(out) if "train/lr" in record] == [1, 2]
    assert find_checkpoint(out).name == "step-00000002"


def augment_commands(name: str) -> list[list[str]]:
    """The arguments of `arcpipe augment` in the comments of a recipe."""
    text = (resources.files("arcpipe.recipes") / f"{name}.toml").read_text(encoding="utf-8")
    joined = re.sub(r"\\\n# +", "", text)
    return [match.split() for match in re.findall(r"^# +arcpipe augment (.*)$", joined, re.MULTILINE)]


@pytest.mark.parametrize("name", [name for name in TRAINING if name != "quickstart"])
def test_a_recipe_says_how_to_make_its_dataset(name: str) -> None:
    """By a command that arcpipe understands, its own or that of the recipe it extends."""
    found = augment_commands(name)
    if not found:
        text = (resources.files("arcpipe.recipes") / f"{name}.toml").read_text(encoding="utf-8")
        named = re.search(r"dataset is\s+(?:# )?that of ([\w-]+\w)", text)
        assert named is not None
        found = augment_commands(named.group(1))
    group: Any = typer.main.get_command(app).get_command(None, "augment")  # type: ignore[attr-defined]
    for subcommand, *words in found:
        context = group.commands[subcommand].make_context(subcommand, words)
        assert subcommand == family(name)
        assert any(context.params.get(name) for name in ("sources", "source", "generate", "recipe"))
    assert found


def test_the_numbers_of_a_recipe_follow_from_those_of_the_official_one() -> None:
    tables = {name: load_recipe(name).tables["train"] for name in TRAINING}
    samples = {name: table["steps"] * table["batch_size"] for name, table in tables.items()}
    # 50,000 epochs of 1000 examples.
    for base in ("sudoku-extreme", "maze-hard"):
        for name in {base, f"{base}-attention", f"{base}-small-gpu"} & set(TRAINING):
            assert 0 <= 50_000 * 1000 - samples[name] < tables[name]["batch_size"]
    for name in ("arc-agi-1", "arc-agi-2"):
        large = f"{name}-large-batch"
        assert 0 <= samples[large] - samples[name] < tables[large]["batch_size"]
    # The rates go with the square root of the batch.
    for name, base_batch in (
        ("arc-agi-1-small-gpu", 768), ("sudoku-extreme-small-gpu", 768), ("maze-hard-small-gpu", 128),
    ):  # fmt: skip
        own, base = tables[name], tables[load_recipe(name).bases[0]]
        assert own["lr"] == pytest.approx(1e-4 * (own["batch_size"] / base_batch) ** 0.5, rel=0.03)
        assert own["puzzle_lr"] / own["lr"] == pytest.approx(base["puzzle_lr"] / base["lr"])


def test_a_recipe_is_no_copy_of_another() -> None:
    """A setting repeated from the extended recipe would ignore changes there."""
    for name in recipe_names():
        text = (resources.files("arcpipe.recipes") / f"{name}.toml").read_text(encoding="utf-8")
        written = {key: value for key, value in tomllib.loads(text).items() if key != "extends"}
        bases = load_recipe(name).bases
        if bases:
            inherited = load_recipe(bases[0]).tables
            repeated = [
                f"{name}: {table}.{key}"
                for table, settings in written.items()
                for key, value in settings.items()
                if inherited.get(table, {}).get(key) == value
            ]
            assert not repeated
