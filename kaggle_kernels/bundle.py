"""A bundle: the folders `dataset` and `kernel` that `arcpipe kaggle push` sends, and their hashes.

dataset/  the files of a checkpoint with the trunk, the recipe, arcpipe's wheel, and bundle.json with hashes;
          without subfolders, because Kaggle mounts those packed or unpacked
kernel/   the notebook and its metadata

The notebook writes a complete submission of [[0]] before it looks for the dataset. If the dataset is missing,
incomplete or cannot be run, one line says why and what is mounted. A commit run then fails visibly; a scored
rerun succeeds, because a failed rerun scores nothing.
"""

import base64
import hashlib
import os
import re
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import arcpipe
from arcpipe import runs
from arcpipe.augmentation import DIHEDRALS, PuzzleTable
from arcpipe.checkpoint import load_checkpoint, save_checkpoint
from arcpipe.codec import ARC
from arcpipe.errors import ArcpipeError, CheckpointError, DataError
from arcpipe.infer.config import InferSettings
from arcpipe.kaggle_kernels.clock import KaggleSettings
from arcpipe.kaggle_kernels.mounts import BUNDLE_FILE
from arcpipe.kaggle_kernels.run import RECIPE_FILE, REPORT, RERUN_VARIABLE, ROOT_VARIABLE, SMOKE, SUBMISSION
from arcpipe.kaggle_kernels.submit import DATASET, KERNEL, KIND, read_bundle
from arcpipe.recipe import Recipe, load_recipe, to_toml
from arcpipe.train.config import AdaptSettings

_TABLES = {"adapt": AdaptSettings, "infer": InferSettings, "kaggle": KaggleSettings}
NOTEBOOK = "notebook.ipynb"
_MEAN = "<mean of the trained rows>"
_CELL = re.compile(r"^# %%( \[markdown\])?\n", re.MULTILINE)
_OWNER = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
_SLUG = re.compile(r"[a-z0-9](-?[a-z0-9])*")
# Kaggle allows names of 6 to 50 characters; that of the dataset has an ending added.
_DATASET_ENDING = "-data"
_SHORTEST, _LONGEST = 6, 50 - len(_DATASET_ENDING)

_WHEEL, _TAG = f"arcpipe-{arcpipe.__version__}", "py3-none-any"
_WHEEL_FACTS = {
    "METADATA": f"Metadata-Version: 2.1\nName: arcpipe\nVersion: {arcpipe.__version__}\n"
    "Requires-Python: >=3.11\n",
    "WHEEL": f"Wheel-Version: 1.0\nGenerator: arcpipe\nRoot-Is-Purelib: true\nTag: {_TAG}\n",
    "entry_points.txt": "[console_scripts]\narcpipe = arcpipe.commands.cli:main\n",
}
# A fixed time, so that the same files make the same wheel.
_EPOCH = (1980, 1, 1, 0, 0, 0)


def entry_recipe(source: str, overrides: Sequence[str] = ()) -> Recipe:
    """Load the recipe of an entry and validate its tables [adapt], [infer] and [kaggle].

    Raises:  RecipeError if one of them is invalid.
    """
    recipe = load_recipe(source, overrides, read=tuple(_TABLES))
    recipe.resolve(_TABLES)
    return recipe


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write the tables of an entry as a recipe file."""
    tables = {name: recipe.tables.get(name, {}) for name in _TABLES}
    path.write_text(to_toml(tables), encoding="utf-8")


def write_trunk(path: Path, out: Path) -> None:
    """Write a checkpoint with a single puzzle row, the mean of all rows, from which new rows start.

    Raises:  CheckpointError if it is not for ARC tasks.
    """
    whole = load_checkpoint(path)
    if whole.family != ARC.name:
        raise CheckpointError(f"{whole.path}: is for {whole.family} puzzles, not for ARC tasks")
    rows, puzzles, colors = whole.rows, whole.puzzles, whole.colors
    if len(puzzles) and whole.config.embedding == "task":
        rows, colors = whole.mean_rows(), colors.mean(dim=0, keepdim=True)
        puzzles = PuzzleTable.uncolored([_MEAN], range(len(DIHEDRALS)))
    elif len(puzzles):
        rows = rows.mean(dim=0, keepdim=True, dtype=torch.float32)
        puzzles = PuzzleTable.uncolored([_MEAN])
    save_checkpoint(replace(whole, path=out, raw=whole.ema, rows=rows, puzzles=puzzles, colors=colors))


def make_bundle(checkpoint: Path, recipe: Recipe, owner: str, name: str, out: Path) -> dict[str, Any]:
    """Write a bundle folder; return its manifest.

    Args:    owner: the owner of dataset and kernel on Kaggle. name: the name of the kernel.
    Raises:  ArcpipeError if Kaggle would refuse or change a name; CheckpointError if the checkpoint is not
             usable; OutputError if `out` exists.
    """
    if not _OWNER.fullmatch(owner):
        raise ArcpipeError(f"--owner {owner!r}: expected your name on Kaggle, as in kaggle.com/NAME")
    if not _SLUG.fullmatch(name) or not _SHORTEST <= len(name) <= _LONGEST:
        raise ArcpipeError(
            f"--name {name!r}: expected {_SHORTEST} to {_LONGEST} characters a-z and 0-9, with single "
            "hyphens between them"
        )
    runs.refuse_existing(out)
    settings = recipe.settings("kaggle", KaggleSettings)
    kernel_id, dataset_id = f"{owner}/{name}", f"{owner}/{name}{_DATASET_ENDING}"
    # Kaggle derives the name from the title.
    title = name.replace("-", " ")
    facts = {"competition": settings.competition, "recipe": recipe.name, "kaggle": asdict(settings)}
    manifest = runs.make_manifest(KIND, checkpoint=str(checkpoint), **facts, files={})
    with runs.new_folder(out, manifest) as folder:
        dataset, kernel = (folder / path.parent for path in (DATASET, KERNEL))
        write_trunk(checkpoint, dataset)
        write_recipe(recipe, dataset / RECIPE_FILE)
        write_wheel(dataset)
        hashes = {path.name: runs.file_hash(path) for path in sorted(dataset.iterdir())}
        runs.write_json(dataset / BUNDLE_FILE, {"arcpipe": arcpipe.__version__, **facts, "files": hashes})
        dataset_metadata = {"id": dataset_id, "title": f"{title} data", "licenses": [{"name": "other"}]}
        runs.write_json(folder / DATASET, dataset_metadata)
        # A private notebook without internet, with the dataset and the competition mounted.
        kernel_metadata = {
            "id": kernel_id, "title": title, "code_file": NOTEBOOK, "language": "python",
            "kernel_type": "notebook", "is_private": True, "enable_gpu": bool(settings.machine_shape),
            "enable_tpu": False, "enable_internet": False,
            **({"machine_shape": settings.machine_shape} if settings.machine_shape else {}),
            # Else the kernel keeps its first image, such as that without CUDA, on another machine too.
            "docker_image_pinning_type": "latest",
            "dataset_sources": [dataset_id], "competition_sources": [settings.competition],
            "kernel_sources": [], "model_sources": [],
        }  # fmt: skip
        runs.write_json(folder / KERNEL, kernel_metadata)
        digest = runs.file_hash(dataset / BUNDLE_FILE)
        runs.write_json(kernel / NOTEBOOK, _notebook(title, dataset_id, settings, digest))
        manifest["files"] = _hashes(folder)
    return manifest


def _hashes(bundle: Path) -> dict[str, str]:
    """Return the SHA-256 of each file of the dataset and the kernel, by its path in the bundle."""
    paths = sorted(path for part in (DATASET, KERNEL) for path in (bundle / part.parent).rglob("*"))
    return {path.relative_to(bundle).as_posix(): runs.file_hash(path) for path in paths if path.is_file()}


def _notebook(title: str, dataset_id: str, settings: KaggleSettings, digest: str) -> dict[str, Any]:
    """Return the notebook as JSON.

    Args:  digest: the SHA-256 of the bundle.json of the same bundle.
    """
    room = resources.files("arcpipe.kaggle_kernels")
    text = Template((room / "templates" / "notebook.txt").read_text("utf-8")).substitute(
        title=title, version=arcpipe.__version__, smoke_minutes=f"{settings.smoke_minutes:g}",
        mounts=(room / "mounts.py").read_text("utf-8"), competition=settings.competition,
        digest=digest, dataset=dataset_id, root_variable=ROOT_VARIABLE, rerun_variable=RERUN_VARIABLE,
        submission=SUBMISSION, smoke=SMOKE, report=REPORT,
    )  # fmt: skip
    _, *parts = _CELL.split(text)
    cells = []
    for number, (markdown, source) in enumerate(zip(parts[::2], parts[1::2], strict=True)):
        if markdown:
            plain = re.sub(r"^# ?", "", source.strip(), flags=re.MULTILINE)
            cells.append(new_markdown_cell(plain, id=f"cell-{number}"))
        else:
            cells.append(new_code_cell(source.strip(), id=f"cell-{number}"))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    notebook: dict[str, Any] = new_notebook(cells=cells, metadata=metadata)
    return notebook


def write_wheel(folder: Path) -> Path:
    """Write a reproducible wheel of the running arcpipe, from a checkout or an installed package, offline.

    It declares no requirements: Kaggle's image has them, and the notebook has no network.

    Source:  packaging.python.org, "Binary distribution format".
    """
    package = Path(arcpipe.__file__).resolve().parent
    # In a checkout the stages are links within it. Do not send the targets of other links.
    paths = [Path(place, name) for place, _, names in os.walk(package, followlinks=True) for name in names]
    content = {
        path.relative_to(package.parent).as_posix(): path.read_bytes()
        for path in paths
        if path.resolve().is_relative_to(package.parent)
        and not any(part.startswith((".", "__pycache__")) for part in path.relative_to(package).parts)
    }
    info = f"{_WHEEL}.dist-info"
    content |= {f"{info}/{name}": text.encode() for name, text in _WHEEL_FACTS.items()}
    record = ""
    for path in sorted(content):
        digest = base64.urlsafe_b64encode(hashlib.sha256(content[path]).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(content[path])}\n"
    content[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    target = folder / f"{_WHEEL}-{_TAG}.whl"
    with runs.writing(target), zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(content):
            entry = zipfile.ZipInfo(path, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, content[path])
    return target


def check_bundle(folder: Path) -> dict[str, Any]:
    """Check that a bundle is complete, unchanged and acceptable to Kaggle; return its manifest.

    Raises:  DataError with every missing, changed or unknown file; CheckpointError.
    """
    manifest = runs.read_manifest(folder, KIND)
    files = manifest.get("files")
    if not isinstance(files, dict):
        raise DataError(f"{folder}: its manifest names no files: make the bundle again")
    hashes = _hashes(folder)
    problems = [
        *(f"{name} is missing" for name in files.keys() - hashes.keys()),
        *(f"{name} is not of the bundle" for name in hashes.keys() - files.keys()),
        *(f"{name} has changed" for name in files.keys() & hashes.keys() if hashes[name] != files[name]),
    ]
    if problems:
        raise DataError(f"{folder}: {'; '.join(sorted(problems))}: make the bundle again")
    read_bundle(folder)
    load_checkpoint(folder / DATASET.parent)
    return manifest
