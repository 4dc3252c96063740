"""Who may import whom; CONTRIBUTING.md has the rules in words."""

import re
import sys
import tomllib

import pytest

from sourcetree import CORE, ROOT, STAGES, broken_rule, imported_names, modules

# Packages that are declared under another name than they are imported by.
DISTRIBUTIONS = {"yaml": "pyyaml", "annotated_types": "annotated-types"}


@pytest.mark.parametrize("module", modules())
def test_a_module_keeps_the_import_rules(module: str) -> None:
    names = imported_names(modules()[module].read_text(encoding="utf-8"))
    broken = {name: rule for name in names if (rule := broken_rule(module, name))}
    assert not broken


def test_forbidden_imports_are_noticed_and_others_allowed() -> None:
    forbidden = {
        "arcpipe.grid": ("arcpipe.task.Task", "arcpipe.grid.Grid"),
        "arcpipe.checkpoint": (
            "arcpipe.train.trainer.train",
            "arcpipe.commands.cli",
            "accelerate.Accelerator",
        ),
        "arcpipe": ("arcpipe.errors.ArcpipeError",),
        "arcpipe.infer.predict": ("arcpipe.train.trainer.train", "arcpipe.submissions.submission"),
        "arcpipe.train.trainer": ("arcpipe.submissions", "arcpipe.commands.cli.main", "."),
        "arcpipe.commands.cli": ("train", "train.loop.train", "kaggle"),
        "arcpipe.kaggle_kernels.at_home.bundle": ("kaggle.api",),
    }
    allowed = {
        "arcpipe.runs": ("arcpipe.__version__",),
        "arcpipe.task": ("arcpipe.grid.Grid", "numpy"),
        "arcpipe.commands.cli": ("arcpipe.train.trainer.train",),
        "arcpipe.train.trainer": ("arcpipe.infer.evaluate.evaluate", "arcpipe.train.step", "arcpipe.trm.TRM"),
        "arcpipe.infer.predict": ("accelerate.Accelerator",),
        "arcpipe.kaggle_kernels.client.kaggle": ("kaggle.api",),
    }
    for rules, expected in ((forbidden, True), (allowed, False)):
        for importer, imported in rules.items():
            for name in imported:
                assert (broken_rule(importer, name) is not None) == expected, (importer, name)


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
