"""The source tree as the house rules see it: its modules and what they import."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
STAGES = ("augment", "infer", "train", "submissions", "kaggle_kernels")

# A core module imports only those before it.
CORE = (
    "errors",
    "documents",
    "runs",
    "tables",
    "recipe",
    "log",
    "grid",
    "task",
    "augmentation",
    "boards",
    "codec",
    "puzzleset",
    "predictions",
    "processes",
    "model_config",
    "buckets",
    "batches",
    "losses",
    "task_embedding",
    "layers",
    "flow",
    "trm",
    "devices",
    "checkpoint",
    "official",
)
# A file imports from its own room and from rooms before it; the core's modules have an order of their own.
ROOMS = ("core", *STAGES, "commands")

# Packages that only some rooms may know.
RESERVED = {
    "accelerate": ("arcpipe.train", "arcpipe.infer"),
    "kaggle": ("arcpipe.kaggle_kernels.kaggle",),
    "kagglesdk": ("arcpipe.kaggle_kernels.kaggle",),
}


def package_files() -> dict[str, Path]:
    """Every file of the package, by its path within the installed package's parent."""
    folders = {"arcpipe": ROOT / "arcpipe", **{f"arcpipe/{stage}": ROOT / stage for stage in STAGES}}
    return {
        f"{name}/{path.relative_to(folder).as_posix()}": path
        for name, folder in folders.items()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name; a package by its own."""
    files = {name.removesuffix(".py"): path for name, path in package_files().items() if name.endswith(".py")}
    return {name.removesuffix("/__init__").replace("/", "."): path for name, path in files.items()}


def imported_names(source: str) -> Iterator[str]:
    """What a module imports anywhere in it, as dotted names; `.` for a relative import."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield "."
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def broken_rule(importer: str, imported: str) -> str | None:
    """The import rule that `importer` breaks by importing `imported`; None if it breaks none."""
    package, _, inner = imported.partition(".")
    if not package:
        return "imports are absolute"
    if package in STAGES:
        return f"a stage is imported as arcpipe.{package}"
    if package in RESERVED and not importer.startswith(RESERVED[package]):
        return f"{package} belongs in {' and '.join(RESERVED[package])} only"
    if package != "arcpipe":
        return None
    own_name, name = importer.partition(".")[2].partition(".")[0], inner.partition(".")[0]
    own_room, room = (of if of in ROOMS else "core" for of in (own_name, name))
    if own_name == "__main__" or name in ("", "__version__"):
        return None
    if own_room == room == "core":
        if own_name not in CORE:
            return "arcpipe/__init__.py imports nothing of arcpipe"
        return None if name in CORE[: CORE.index(own_name)] else "a core module imports those before it"
    return None if ROOMS.index(room) <= ROOMS.index(own_room) else "a room imports those before it"
