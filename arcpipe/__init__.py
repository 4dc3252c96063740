"""arcpipe: train, run and submit Tiny Recursive Models for Sudoku, Maze and ARC."""

from pathlib import Path

__version__ = "0.1.0"

# In a checkout the stages (augment/, train/, ...) lie beside this package, not inside it. With a
# wheel installed and the current directory at the repository root, Python finds this folder first:
# searching the root too makes `arcpipe.train` importable from the sources.
if not (Path(__file__).parent / "augment").is_dir():
    __path__.append(str(Path(__file__).parent.parent))
