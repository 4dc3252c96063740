"""An imitation of Kaggle with a minimal bundle to push, and a checkpoint with the bundle of an entry."""

import shutil
import sys
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pytest

from arcpipe.runs import write_json
from entries import TASKS, make_bundle, make_checkpoint, make_root
from kaggle_server import COMPETITION, USER, KaggleServer, Shell, kaggle_server
from quick_python import quick_python

DATASET, KERNEL = f"{USER}/arcpipe-bundle", f"{USER}/arcpipe-entry"
NOTEBOOK = {"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return smallest_bundle(tmp_path / "bundle")


def smallest_bundle(folder: Path) -> Path:
    """Two files and a subfolder for the dataset, an empty notebook for the kernel."""
    write_json(
        folder / "dataset/dataset-metadata.json",
        {"id": DATASET, "title": "arcpipe bundle", "licenses": [{"name": "other"}]},
    )
    for name in ("arcpipe.whl", "trunk.safetensors", "wheels/other.whl"):
        (folder / "dataset" / name).parent.mkdir(exist_ok=True)
        (folder / "dataset" / name).write_bytes(name.encode())
    write_json(folder / "kernel/notebook.ipynb", NOTEBOOK)
    write_json(
        folder / "kernel/kernel-metadata.json",
        {
            "id": KERNEL, "title": "arcpipe entry", "code_file": "notebook.ipynb", "language": "python",
            "kernel_type": "notebook", "is_private": True, "enable_gpu": True, "enable_internet": False,
            "machine_shape": "NvidiaL4", "dataset_sources": [DATASET], "competition_sources": [COMPETITION],
        },
    )  # fmt: skip
    return folder


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    home = tmp_path / "home"
    home.mkdir()
    with kaggle_server() as server:
        yield Shell(server, server.environment(home))


@pytest.fixture
def server(shell: Shell) -> KaggleServer:
    return shell.server


@pytest.fixture(scope="session")
def first_push(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, KaggleServer]:
    """A bundle after a push, with the run of its kernel complete, and what the server then knew."""
    folder = tmp_path_factory.mktemp("pushed")
    bundle = smallest_bundle(folder / "bundle")
    with kaggle_server() as server:
        shell = Shell(server, server.environment(folder))
        shell.succeed("push", bundle)
        shell.succeed("status", bundle, "--wait")
    return bundle, server


@pytest.fixture
def pushed(first_push: tuple[Path, KaggleServer], server: KaggleServer, tmp_path: Path) -> Path:
    """A copy of the bundle after its push, which the server knows too."""
    folder, known = first_push
    for name in vars(known).keys() - {"port", "closing"}:
        setattr(server, name, deepcopy(getattr(known, name)))
    return shutil.copytree(folder, tmp_path / "bundle")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "checkpoint")


@pytest.fixture(scope="session")
def entry(checkpoint: Path) -> Path:
    """The bundle of an entry that adapts for a few steps; shared, so tests must not change it."""
    return make_bundle(checkpoint, checkpoint.parent / "bundle", "adapt.steps=20")


@pytest.fixture
def root(entry: Path, tmp_path: Path) -> Path:
    """A /kaggle with the entry and nine hidden tasks."""
    return make_root(tmp_path / "kaggle", entry, TASKS)


@pytest.fixture(scope="session")
def _python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with quick_python(tmp_path_factory.mktemp("quick")) as program:
        yield program


@pytest.fixture
def quick_stages(_python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes of a stage start at once; the rehearsals' start as on Kaggle."""
    monkeypatch.setattr(sys, "executable", str(_python))
