"""Training: dataset folder -> checkpoint. `arcpipe.train(...)` trains, see docs/python.md."""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _Training(ModuleType):
    """This package as a callable module: `arcpipe.train` is both the package and the function."""

    def __call__(self, *arguments: Any, **flags: Any) -> Any:
        """Train; see `arcpipe.commands.python.train`."""
        # Not at the top: arcpipe/commands is a later room.
        return import_module("arcpipe.commands.python").train(*arguments, **flags)


sys.modules[__name__].__class__ = _Training
