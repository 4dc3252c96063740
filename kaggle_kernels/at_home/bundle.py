"""A bundle: the folders `dataset` and `kernel` that `arcpipe kaggle push` sends, and their hashes.

dataset/  a checkpoint folder with the trunk, and beside it the recipe, arcpipe's wheel, and bundle.json with
          hashes; one level, because Kaggle has shown folders packed and unpacked
kernel/   the notebook and its metadata

The notebook writes a complete submission of [[0]] before it looks for the dataset. If that is not mounted,
not whole, or cannot be run, one line says why and what is mounted. A commit run then fails, for the user to
see it; a scored rerun ends well, because one that throws scores nothing.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from arcpipe import __version__
from arcpipe.augmentation import Augmentation
from arcpipe.checkpoint import load_checkpoint, save_checkpoint
from arcpipe.codec import ARC
from arcpipe.errors import CheckpointError, DataError
from arcpipe.grid import NUM_COLORS
from arcpipe.infer.predict import InferSettings
from arcpipe.kaggle_kernels.at_home.notebook import (
    NOTEBOOK,
    KaggleNames,
    dataset_metadata,
    kernel_metadata,
    notebook,
)
from arcpipe.kaggle_kernels.at_home.wheel import write_wheel
from arcpipe.kaggle_kernels.client.push import DATASET, KERNEL, read_bundle
from arcpipe.kaggle_kernels.on_kaggle.budget import KaggleSettings
from arcpipe.kaggle_kernels.on_kaggle.mounts import BUNDLE_FILE
from arcpipe.kaggle_kernels.on_kaggle.run import RECIPE_FILE
from arcpipe.puzzletable import PuzzleTable
from arcpipe.recipe import Recipe, load_recipe, to_toml
from arcpipe.runs import file_hash, make_manifest, new_folder, read_manifest, refuse_existing, write_json
from arcpipe.train.config import AdaptSettings

_TABLES = {"adapt": AdaptSettings, "infer": InferSettings, "kaggle": KaggleSettings}
_KIND = "kaggle-bundle"
_MEAN = "<mean of the trained rows>"
_IDENTITY = Augmentation(0, tuple(range(NUM_COLORS)))


def entry_recipe(source: str, overrides: Sequence[str] = ()) -> Recipe:
    """Return a recipe for an entry, its tables [adapt], [infer] and [kaggle] right.

    Raises:  RecipeError if one of them is not.
    """
    recipe = load_recipe(source, overrides, read=tuple(_TABLES))
    recipe.resolve(_TABLES)
    return recipe


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write the tables of an entry as a recipe file."""
    tables = {name: recipe.tables.get(name, {}) for name in _TABLES}
    path.write_text(to_toml(tables), encoding="utf-8")


def write_trunk(path: Path, out: Path) -> None:
    """Write a checkpoint without its puzzle rows but for one, their mean, with which new rows begin.

    Raises:  CheckpointError if it is not of ARC tasks.
    """
    whole = load_checkpoint(path)
    if whole.family != ARC.name:
        raise CheckpointError(f"{whole.path}: is for {whole.family} puzzles, not for ARC tasks")
    rows, puzzles = whole.rows, whole.puzzles
    if len(puzzles):
        rows = rows.mean(dim=0, keepdim=True, dtype=torch.float32)
        puzzles = PuzzleTable.of_groups([_MEAN], [[_IDENTITY]])
    save_checkpoint(replace(whole, path=out, raw=whole.ema, rows=rows, puzzles=puzzles))


def make_bundle(checkpoint: Path, recipe: Recipe, names: KaggleNames, out: Path) -> dict[str, Any]:
    """Write a bundle folder; return its manifest.

    Raises:  ArcpipeError and its kinds if the checkpoint or a name will not do, or `out` exists.
    """
    refuse_existing(out)
    names.check()
    settings = recipe.settings("kaggle", KaggleSettings)
    files: dict[str, str] = {}
    facts = {"competition": settings.competition, "recipe": recipe.name, "kaggle": asdict(settings)}
    manifest = make_manifest(_KIND, checkpoint=str(checkpoint), **facts, files=files)
    with new_folder(out, manifest) as folder:
        dataset, kernel = (folder / path.parent for path in (DATASET, KERNEL))
        write_trunk(checkpoint, dataset)
        write_recipe(recipe, dataset / RECIPE_FILE)
        write_wheel(dataset)
        hashes = {path.name: file_hash(path) for path in sorted(dataset.iterdir())}
        write_json(dataset / BUNDLE_FILE, {"arcpipe": __version__, **facts, "files": hashes})
        write_json(folder / DATASET, dataset_metadata(names))
        write_json(folder / KERNEL, kernel_metadata(names, settings))
        write_json(kernel / NOTEBOOK, notebook(names, settings, file_hash(dataset / BUNDLE_FILE)))
        for path in sorted(path for part in (dataset, kernel) for path in part.iterdir()):
            files[path.relative_to(folder).as_posix()] = file_hash(path)
    return manifest


def check_bundle(folder: Path) -> dict[str, Any]:
    """Return the manifest of a bundle that is whole, as it was made, and as Kaggle takes it.

    Raises:  DataError with every file that is missing, changed or too many; CheckpointError.
    """
    manifest = read_manifest(folder, _KIND)
    files: dict[str, str] = manifest["files"]
    paths = {
        path.relative_to(folder).as_posix(): path
        for part in (DATASET, KERNEL)
        for path in (folder / part.parent).rglob("*")
        if path.is_file()
    }
    problems = [f"{name} is missing" for name in files if name not in paths]
    problems += [f"{name} is not of the bundle" for name in paths if name not in files]
    problems += [
        f"{name} has changed"
        for name, path in paths.items()
        if name in files and file_hash(path) != files[name]
    ]
    if problems:
        raise DataError(f"{folder}: {'; '.join(sorted(problems))}: make the bundle again")
    read_bundle(folder)
    load_checkpoint(folder / DATASET.parent)
    return manifest
