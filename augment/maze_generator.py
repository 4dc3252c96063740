"""Generated mazes with exactly one shortest path."""

import numpy as np
from numpy.typing import NDArray

from arcpipe.augment.sources import SolvedPuzzles
from arcpipe.errors import DataError
from arcpipe.log import progress
from arcpipe.maze_rules import (
    FREE,
    GOAL,
    MAX_SIDE,
    START,
    WALL,
    canonical,
    mark_shortest_paths,
    search,
)

MIN_SIDE = 5
_PURPOSE = 0x6D617A65
_BATCH = 256
# At most this share of a maze's walls is opened after carving, so that there are loops.
_MAX_OPENED = 0.05
# Give up where fewer than one maze in a hundred qualifies, but not before these many.
_LEAST_TRIES = 4096
_TRIES_PER_MAZE = 100


def generate_mazes(count: int, size: int, min_path: int, seed: int) -> SolvedPuzzles:
    """Generate random mazes of size x size with one shortest path, of more than `min_path` moves.

    No two are equal, not even turned or flipped: a training and a test set that are drawn together and
    then parted are disjoint. The first mazes of a larger count are those of a smaller one.

    Raises:  DataError if `size` is not 5 to 64, or if fewer than one random maze in a hundred is new and
             has such a path.
    """
    if not MIN_SIDE <= size <= MAX_SIDE:
        raise DataError(f"mazes of {size} x {size}: the side should be {MIN_SIDE} to {MAX_SIDE}")
    found: dict[bytes, NDArray[np.uint8]] = {}
    longest = tries = 0
    with progress(total=count, initial=0, unit="maze", desc="mazes") as bar:
        while len(found) < count:
            if tries >= _LEAST_TRIES + _TRIES_PER_MAZE * len(found):
                raise DataError(
                    f"{len(found)} of {count} mazes of {size} x {size} with a shortest path of more than "
                    f"{min_path} moves in {tries} tries, the longest seen has {longest}: choose a "
                    "shorter path (--min-path), a larger side or fewer mazes"
                )
            rng = np.random.default_rng([seed, _PURPOSE, tries // _BATCH])
            questions, batch_longest = _draw_mazes(size, min_path, rng)
            tries, longest = tries + _BATCH, max(longest, batch_longest)
            known = len(found)
            for key, question in zip(canonical(questions).tolist(), questions, strict=True):
                found.setdefault(key, question)
            bar.update(min(len(found), count) - known)
    questions = np.array(list(found.values())[:count], np.uint8).reshape(count, size, size)
    return SolvedPuzzles(questions, mark_shortest_paths(questions), None, (), verified=count)


def _draw_mazes(size: int, min_path: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], int]:
    """Draw questions (N, S, S) of the mazes of a batch that have such a path, and the longest path of all."""
    passable = _carve(_BATCH, size, rng)
    passable |= rng.random(passable.shape) < _MAX_OPENED * rng.random((_BATCH, 1, 1))
    cells = passable.reshape(_BATCH, -1)
    starts = _pick(cells, rng)
    moves, unique = _unique_paths(passable, starts)
    # A start without a goal far enough makes way for the cell farthest from it: in a maze without loops
    # one of the two ends of the longest path.
    near = (moves * unique).max(axis=1) <= min_path
    starts[near] = moves[near].argmax(axis=1)
    moves[near], unique[near] = _unique_paths(passable[near], starts[near])
    goals_allowed = unique & (moves > min_path) & (moves > 0)
    goals = _pick(goals_allowed, rng)
    boards, kept = np.where(cells, FREE, WALL).astype(np.uint8), np.arange(_BATCH)
    boards[kept, starts], boards[kept, goals] = START, GOAL
    kept = kept[goals_allowed.any(axis=1)]
    return boards.reshape(passable.shape)[kept], int((moves * unique).max())


def _unique_paths(
    passable: NDArray[np.bool_], starts: NDArray[np.intp]
) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Return the moves (N, S * S) from the starts, and whether one shortest way leads to a cell."""
    found = search(passable, starts)
    shape = (len(passable), passable.shape[1] ** 2)
    return found.distances.reshape(shape), found.counts.reshape(shape) == 1


def _pick(allowed: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.intp]:
    """Pick a random allowed cell (N,) of each row, any one where none is."""
    picked: NDArray[np.intp] = np.where(allowed, rng.random(allowed.shape), -1.0).argmax(axis=1)
    return picked


def _carve(count: int, size: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Carve the passable cells (N, S, S) of perfect mazes, depth first from a random cell.

    A cell is carved if just one of its neighbors is passable. That asks for no lattice of rooms, so an
    even board is filled like an odd one.
    """
    width = size + 2
    moves = np.array([-width, -1, 1, width])
    walls = np.zeros((count, width, width), bool)
    walls[:, 1:-1, 1:-1] = True
    flat_walls, neighbors = walls.ravel(), np.zeros(walls.size, np.uint8)
    start = rng.integers(1, size + 1, (count, 2))
    stacks = np.zeros((count, size * size), np.int32)
    stacks[:, 0] = np.arange(count) * width**2 + start[:, 0] * width + start[:, 1]
    flat_walls[stacks[:, 0]] = False
    neighbors[stacks[:, :1] + moves] += 1
    depths, active = np.zeros(count, np.intp), np.arange(count)
    while active.size:
        near = stacks[active, depths[active]][:, None] + moves
        fits = flat_walls[near] & (neighbors[near] == 1)
        goes_on = fits.any(axis=1)
        chosen = np.where(fits, rng.random(fits.shape), -1.0).argmax(axis=1)
        carved, going = near[goes_on, chosen[goes_on]], active[goes_on]
        flat_walls[carved] = False
        neighbors[carved[:, None] + moves] += 1
        depths[active] += np.where(goes_on, 1, -1)
        stacks[going, depths[going]] = carved
        active = active[depths[active] >= 0]
    return ~walls[:, 1:-1, 1:-1]
