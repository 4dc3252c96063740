"""Hypothesis strategies for the types of the core."""

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from arcpipe.augmentation import Augmentation
from arcpipe.grid import Grid
from arcpipe.task import Pair, Task


def grids(max_side: int = 30) -> st.SearchStrategy[Grid]:
    """Grids of all shapes up to `max_side`."""
    shapes = st.tuples(st.integers(1, max_side), st.integers(1, max_side))
    return npst.arrays(np.uint8, shapes, elements=st.integers(0, 9))


def augmentations() -> st.SearchStrategy[Augmentation]:
    """All dihedrals with all permutations of the ten values."""
    return st.builds(Augmentation, st.integers(0, 7), st.permutations(range(10)).map(tuple))


@st.composite
def solved_tasks(draw: st.DrawFn) -> Task:
    """Tasks with small grids, all outputs known."""
    pairs = st.lists(st.builds(Pair, grids(4), grids(4)), min_size=1, max_size=3).map(tuple)
    return Task(draw(st.text("0123456789abcdef", min_size=1, max_size=8)), draw(pairs), draw(pairs))


def plain_task(task: Task) -> dict[str, Any]:
    """A task as lists and numbers, to compare by value."""
    return {
        part: [(pair.input.tolist(), None if pair.output is None else pair.output.tolist()) for pair in pairs]
        for part, pairs in (("train", task.demonstrations), ("test", task.tests))
    }
