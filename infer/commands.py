"""`arcpipe infer` and `arcpipe vote`."""

from pathlib import Path
from typing import Annotated

import typer


def infer(
    checkpoint: Annotated[
        Path, typer.Option(help="A checkpoint folder, or a run folder for its newest one.")
    ],
    data: Annotated[Path, typer.Option(help="The dataset folder whose test inputs to answer.")],
    out: Annotated[Path, typer.Option(help="The folder of predictions to make.")],
    max_steps: Annotated[
        int, typer.Option(min=0, max=10000, help="Supervision steps; 0 for as many as in training.")
    ] = 0,
    batch_size: Annotated[int, typer.Option(min=1, help="Candidates computed at a time.")] = 256,
) -> None:
    """Answer every test input under every augmentation of its task.

    Example: arcpipe infer --checkpoint runs/first --data runs/data --out runs/predictions
    """
    from arcpipe.infer.run import infer_to_folder
    from arcpipe.infer.solve import InferSettings
    from arcpipe.log import start_logging

    start_logging()
    count = infer_to_folder(checkpoint, data, out, InferSettings(max_steps=max_steps, batch_size=batch_size))
    typer.echo(f"{out}: {count} candidates")


def vote(
    predictions: Annotated[list[Path], typer.Argument(help="Folders or Parquet files of predictions.")],
    challenges: Annotated[Path, typer.Option(help="The challenges file to answer.")],
    out: Annotated[Path, typer.Option(help="The submission file to make.")],
) -> None:
    """Rank the candidates of each test input and write the best two distinct ones as its attempts.

    Candidates are ranked by votes, then by mean halt probability; ties keep the first seen.

    Example: arcpipe vote runs/predictions --challenges runs/data/challenges.json --out submission.json
    """
    from arcpipe.infer.vote import rank_files
    from arcpipe.runs import refuse_existing
    from arcpipe.submissions.format import build_submission, write_submission
    from arcpipe.task import read_challenges

    refuse_existing(out)
    tasks = read_challenges(challenges)
    wanted = [(task.id, index) for task in tasks for index in range(len(task.tests))]
    ranked, num_ignored = rank_files(predictions, wanted, challenges)
    write_submission(build_submission(tasks, ranked), out)
    ignored = f"; ignored the candidates for {num_ignored} others" if num_ignored else ""
    answered = sum(key in ranked for key in wanted)
    typer.echo(f"{out}: {len(wanted)} test inputs, {answered} with a candidate{ignored}")
