"""arcpipe: train, run and submit Tiny Recursive Models for Sudoku, Maze and ARC."""

__version__ = "0.1.0"
