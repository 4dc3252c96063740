"""Small entries to Kaggle: a checkpoint, a file of hidden tasks, a bundle, and an imitation of /kaggle."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from arcpipe.augment.alike import distinct_augmentations
from arcpipe.augment.build import puzzle_set_of
from arcpipe.augment.forms import DataSettings, Source
from arcpipe.augment.split import select
from arcpipe.task import parse_task
from commands import succeed_here
from inference import save

CANVAS = 4
RECIPE = "kaggle-cpu-rehearsal"
SMALL = ("adapt.num_aug=1", "adapt.batch_size=8", "adapt.cpu_threads=1", "infer.max_steps=2", "infer.votes=2")
"""Settings with which an entry is as small as it can be."""


def hidden_task(number: int, num_tests: int = 1) -> dict[str, Any]:
    """A task of Kaggle's challenges file, whose output is its input with the colors exchanged."""
    generator = np.random.default_rng([7, number])
    grids = generator.integers(1, 9, (2 + num_tests, 3, 3))
    train = [{"input": grid.tolist(), "output": (9 - grid).tolist()} for grid in grids[:2]]
    return {"train": train, "test": [{"input": grid.tolist()} for grid in grids[2:]]}


def hidden_tasks(count: int) -> dict[str, Any]:
    """Tasks that nothing has seen: every seventh of three tests, the last of four."""
    tasks = {
        f"hidden{number:03d}": hidden_task(number, 3 if number % 7 == 0 else 1) for number in range(count - 1)
    }
    return tasks | {"hidden-last": hidden_task(count, 4)}


def write_challenges(path: Path, tasks: Mapping[str, Any]) -> Path:
    """The file of the tasks."""
    path.write_text(json.dumps(tasks))
    return path


TASKS = hidden_tasks(9)
RERUN = {"KAGGLE_IS_COMPETITION_RERUN": "1"}


def make_checkpoint(folder: Path) -> Path:
    """A checkpoint that mostly repeats its input, with rows for two tasks of its own."""
    tasks = tuple(parse_task(f"own{number}", hidden_task(1000 + number), "made up") for number in range(2))
    selection = select([Source("own", tasks, ())], DataSettings(max_side=CANVAS, canvas=CANVAS))
    groups = [distinct_augmentations(task, 1, 0) for task in selection.training]
    return save(folder, puzzle_set_of(selection.training, selection.targets, groups, CANVAS))


def make_bundle(checkpoint: Path, out: Path, *settings: str) -> Path:
    """A bundle of the checkpoint with the smallest settings, and others."""
    overrides = [word for setting in (*SMALL, *settings) for word in ("--set", setting)]
    flags = ("--checkpoint", checkpoint, "--out", out, "--owner", "someone", "--recipe", RECIPE)
    succeed_here("kaggle", "bundle", *flags, *overrides)
    return out


def make_root(folder: Path, bundle: Path, tasks: Mapping[str, Any]) -> Path:
    """An imitation of /kaggle, in the layout of 2026."""
    competition = folder / "input" / "competitions" / "arc-prize-2026-arc-agi-2"
    competition.mkdir(parents=True)
    for name in ("test", "evaluation"):
        write_challenges(competition / f"arc-agi_{name}_challenges.json", tasks)
    shutil.copytree(bundle / "dataset", folder / "input" / "datasets" / "someone" / "arcpipe-entry-data")
    for name in ("working", "temp"):
        (folder / name).mkdir()
    return folder
