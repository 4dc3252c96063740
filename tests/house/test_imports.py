"""Who may import whom; CONTRIBUTING.md has the rules in words."""

import re
import sys
import tomllib

import pytest

from sourcetree import CORE, ROOT, STAGES, broken_rule, imported_names, modules

# Packages that are declared under another name than they are imported by.
DISTRIBUTIONS = {
    "yaml": "pyyaml", "annotated_types": "annotated-types", "huggingface_hub": "huggingface-hub",
}  # fmt: skip


def test_every_module_keeps_the_import_rules() -> None:
    broken = {
        f"{module} imports {name}": rule
        for module, path in modules().items()
        for name in imported_names(path.read_text(encoding="utf-8"))
        if (rule := broken_rule(module, name))
    }
    assert not broken


@pytest.mark.parametrize(
    ("importer", "forbidden", "allowed"),
    [
        ("arcpipe", "arcpipe.errors.ArcpipeError", "importlib"),
        ("arcpipe.runs", "arcpipe.task.Task", "arcpipe.__version__"),
        ("arcpipe.grid", "arcpipe.grid.Grid", "arcpipe.errors.ArcpipeError"),
        ("arcpipe.task", "arcpipe.commands.cli", "arcpipe.grid.Grid"),
        ("arcpipe.checkpoint", "arcpipe.train.trainer.train", "numpy"),
        ("arcpipe.checkpoint", "accelerate.Accelerator", "arcpipe.trm.TRM"),
        ("arcpipe.infer.predict", "arcpipe.train.trainer.train", "accelerate.Accelerator"),
        ("arcpipe.train.trainer", "arcpipe.submissions", "arcpipe.infer.evaluate.evaluate"),
        ("arcpipe.train.trainer", ".", "arcpipe.train.step"),
        ("arcpipe.commands.cli", "train.loop.train", "arcpipe.train.trainer.train"),
        ("arcpipe.commands.cli", "kaggle", "arcpipe.kaggle_kernels.commands"),
        ("arcpipe.kaggle_kernels.bundle", "kaggle.api", "arcpipe.checkpoint"),
        ("arcpipe.kaggle_kernels.kaggle", "arcpipe.commands.cli", "kaggle.api"),
    ],
)
def test_forbidden_imports_are_noticed(importer: str, forbidden: str, allowed: str) -> None:
    assert broken_rule(importer, forbidden)
    assert not broken_rule(importer, allowed)


def test_imports_are_found_wherever_they_stand() -> None:
    source = "import a.b as c\ndef f():\n    from d.e import g, h\n    from . import i\n"
    assert list(imported_names(source)) == ["a.b", "d.e.g", "d.e.h", "."]


def test_every_core_module_has_its_place_in_the_order() -> None:
    core = {name.partition(".")[2] for name in modules() if name.count(".") == 1}
    assert core <= {*CORE, *STAGES, "commands", "__main__"}


def test_no_test_or_benchmark_imports_a_stage_by_its_bare_name() -> None:
    bare = [
        f"{path.name}: {name}"
        for folder in ("benchmarks", "tests")
        for path in (ROOT / folder).rglob("*.py")
        for name in imported_names(path.read_text(encoding="utf-8"))
        if name.partition(".")[0] in STAGES
    ]
    assert not bare


def test_every_imported_package_is_a_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[<>=~!\[; ]", line)[0] for line in project["dependencies"]}
    imported = {
        name.partition(".")[0]
        for path in modules().values()
        for name in imported_names(path.read_text(encoding="utf-8"))
    }
    imported = imported - sys.stdlib_module_names - {"arcpipe", ""}
    assert {DISTRIBUTIONS.get(name, name) for name in imported} <= declared
