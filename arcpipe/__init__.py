"""arcpipe: train, run and submit Tiny Recursive Models for Sudoku, Maze and ARC."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = [
    "TRM", "ArcpipeError", "build_dataset", "draw", "load_checkpoint", "predict", "read_tasks", "score",
    "solve", "train", "vote",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Return a name of `arcpipe.commands.python`, which is imported at the first use."""
    if name in __all__:
        return getattr(import_module("arcpipe.commands.python"), name)
    raise AttributeError(f"module 'arcpipe' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
