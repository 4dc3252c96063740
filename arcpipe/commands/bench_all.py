"""`arcpipe bench` without a stage: every benchmark in turn, each in a process of its own, in one table.

Part of the command line. What a benchmark measures is in the stages; here are the sizes for a device.
"""

import math
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson
import typer

from arcpipe.commands.bench import markdown_table, table_text
from arcpipe.errors import ArcpipeError
from arcpipe.runs import make_manifest, new_folder, write_bytes, write_json

_GRACE_S = 120.0
NO_TIME = "not begun: the time was up"
_SPEEDS = ("way", "grids/s", "ratio", "steps", "agreement")


@dataclass(frozen=True)
class Part:
    """A benchmark: its title, the words of its command, commands that make what it needs, and what is to be
    said of that."""

    title: str
    command: list[str]
    needs: list[list[str]] = field(default_factory=list)
    note: str = ""


@dataclass
class Measured:
    """A part's commands, and its settings, rows and note as the last of them wrote them; or why not."""

    title: str
    commands: list[str]
    settings: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    note: str = ""
    failure: str = ""


def parts_for(*, on_gpu: bool, quick: bool, scratch: Path, model: Sequence[str] = ()) -> list[Part]:
    """The benchmarks at the sizes for a device, or at small ones.

    Args:  model: a checkpoint and a dataset folder to infer with; without them a model is trained for a
           moment in `scratch`.
    """
    size = "quick" if quick else "gpu" if on_gpu else "cpu"
    trainings = {
        "quick": {"small": "--batch-size 8 --steps 3 --cpu-threads 1"},
        "cpu": {"sudoku-mlp": "--batch-size 8 --steps 3", "arc-900": "--batch-size 4 --steps 1"},
        "gpu": {"sudoku-mlp": "--batch-size 768 --steps 5", "arc-900": "--batch-size 768 --steps 3"},
    }
    sizes = {
        "quick": ("--max-grids 100 --tries 1", "--num-aug 5 --batch-size 64", "--candidates 50000"),
        "cpu": ("--max-grids 1000", "--num-aug 1000", "--candidates 1000000"),
        "gpu": ("--max-grids 2048", "--num-aug 1000", "--candidates 1000000"),
    }
    infer, augment, vote = (words.split() for words in sizes[size])
    needs: list[list[str]] = []
    note = ""
    if not model:
        model = [str(scratch / "run"), str(scratch / "data")]
        needs, note = _made_up(size, *model)
    trainings_of = [
        Part(f"Training step, {shape}", ["bench", "train", "--shape", shape, *words.split()])
        for shape, words in trainings[size].items()
    ]
    command = ["bench", "infer", "--checkpoint", model[0], "--data", model[1], *infer]
    return [
        *trainings_of,
        Part("Inference", command, needs, note),
        Part("Vote", ["bench", "vote", *vote]),
        Part("Data", ["bench", "augment", *augment]),
    ]


def _made_up(size: str, run: str, data: str) -> tuple[list[list[str]], str]:
    """The commands that make a dataset and a model that hardly learned it, and what to say of that."""
    puzzles, recipe = {
        "quick": ("--generate 100 --test 100 --side 4", "sudoku-4x4 --steps 20"),
        "cpu": ("--generate 500 --test 1000 --side 4", "sudoku-4x4 --steps 300"),
        "gpu": ("--generate 200 --test 2048 --side 9", "sudoku-extreme --steps 20 --set train.batch_size=64"),
    }[size]
    off = "--set train.compile=off --set eval.every=0"
    needs = [
        [*f"augment sudoku {puzzles} --num-aug inf --out".split(), data],
        [*f"train {recipe} {off} --data".split(), data, "--out", run],
    ]
    return needs, f"a model made up for this, which hardly learned ({recipe}): no accuracy is compared"


def bench_all(parts: Iterable[Part], out: Path, max_minutes: float | None = None) -> None:
    """Run the parts, print the table of each as it is known, and write bench.json and bench.md to `out`.

    Args:    max_minutes: no part, and no form of a training step, begins after this time, and a part that
             lasts longer by more than two minutes is ended; None for no limit.
    Raises:  ArcpipeError, when all is written, if a part failed.
    """
    from arcpipe.commands.doctor import examine

    ends_at = math.inf if max_minutes is None else time.monotonic() + 60 * max_minutes
    measured = []
    with tempfile.TemporaryDirectory(prefix="arcpipe-bench-") as scratch:
        for number, part in enumerate(parts):
            measured.append(_measure(part, Path(scratch) / f"{number}.json", ends_at))
            typer.echo(f"{measured[-1].title}\n{_text(measured[-1])}\n")
    found = examine()
    machine = {topic: found[topic] for topic in ("platform", "cpu", "gpus")}
    facts = make_manifest("bench", machine=machine)
    with new_folder(out, facts) as folder:
        write_json(folder / "bench.json", facts | {"parts": [asdict(one) for one in measured]})
        write_bytes(folder / "bench.md", _markdown(facts, measured).encode())
    typer.echo(f"{out / 'bench.json'}\n{out / 'bench.md'}")
    failed = [f"{one.title}: {one.failure}" for one in measured if one.failure not in ("", NO_TIME)]
    if failed:
        raise ArcpipeError("; ".join(failed))


def _measure(part: Part, file: Path, ends_at: float) -> Measured:
    """Run a part's commands; what the last of them writes to `file`."""
    one = Measured(part.title, [shlex.join(["arcpipe", *words]) for words in (*part.needs, part.command)])
    for command in (*part.needs, [*part.command, "--json", str(file)]):
        left_s = ends_at - time.monotonic()
        if left_s <= 0:
            one.failure = NO_TIME
        else:
            one.failure = _failure([*command, *_limit(command, left_s)], left_s)
        if one.failure:
            return one
    written = orjson.loads(file.read_bytes())
    one.settings, one.rows, one.note = written["settings"], written["rows"], written["note"]
    if part.note:
        one.note += f"; {part.note}"
        one.rows = [{name: row[name] for name in _SPEEDS} for row in one.rows]
    return one


def _limit(command: list[str], left_s: float) -> list[str]:
    """The flags that end a benchmark of many forms by itself."""
    return ["--max-minutes", f"{left_s / 60:.3f}"] if command[1] == "train" and left_s < math.inf else []


def _failure(command: list[str], left_s: float) -> str:
    """Run an `arcpipe` command in a process of its own; why it failed, empty if it did not."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "arcpipe", *command], env=environment, stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True, timeout=None if left_s == math.inf else left_s + _GRACE_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "ended: it was not done when the time was up"
    if done.returncode == 0:
        return ""
    last = done.stderr.rstrip().rpartition("\n")[2].removeprefix("arcpipe: ")
    return f"arcpipe {command[0]} {command[1]} ended with exit code {done.returncode}: {last}"


def _text(one: Measured) -> str:
    return one.failure or f"{table_text(one.rows)}\n{one.note}"


def _markdown(facts: dict[str, Any], measured: list[Measured]) -> str:
    """All tables, and what machine they are of."""
    machine, versions = facts["machine"], facts["versions"]
    gpus = ", ".join(gpu["name"] for gpu in machine["gpus"]) or "no GPU"
    said = ", ".join(f"{name} {version}" for name, version in versions.items())
    parts = [f"# arcpipe bench\n\n{machine['cpu']['cores']} cores, {gpus}; {said}; {facts['created']}"]
    for one in measured:
        table = one.failure or f"{markdown_table(one.rows)}\n\n{one.note}."
        commands = "\n".join(one.commands)
        parts.append(f"## {one.title}\n\n```sh\n{commands}\n```\n\n{table}")
    return "\n\n".join(parts) + "\n"
