"""What a resumed training goes on from, and what it puts aside: renamed, never removed."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
from accelerate import Accelerator

from arcpipe.checkpoint import (
    BEST_FILE,
    load_checkpoint,
    load_trainer_state,
    named_checkpoints,
    read_best,
    whole_checkpoints,
)
from arcpipe.errors import CheckpointError
from arcpipe.infer.coverage import COVERAGE
from arcpipe.log import logger
from arcpipe.runs import write_json, writing
from arcpipe.train.distributed import first_does
from arcpipe.train.job import EVALUATIONS, TrainJob
from arcpipe.train.state import TrainState, load_state


def check_start(job: TrainJob) -> None:
    """Refuse to resume from a step that has no whole checkpoint, or a run none of whose checkpoints is whole.

    Raises:  CheckpointError, which names the steps to choose from.
    """
    whole = list(whole_checkpoints(job.out))
    if job.from_step is not None and job.from_step not in whole:
        found = f"those of steps {_listed(whole)}" if whole else "none"
        raise CheckpointError(f"{job.out}: has no whole checkpoint of step {job.from_step}, but {found}")
    if not whole and (broken := named_checkpoints(job.out)):
        names = ", ".join(path.name for path in broken.values())
        raise CheckpointError(
            f"{job.out}: none of its checkpoints is whole ({names}): copy the run again, or move them away "
            "to begin anew"
        )


def _listed(steps: list[int]) -> str:
    return ", ".join(map(str, steps))


def resumed_state(job: TrainJob, fresh: TrainState, accelerator: Accelerator) -> TrainState:
    """The state of the checkpoint to go on from; `fresh` where the run has none yet.

    What lies in the way of later checkpoints is put aside, with a warning.

    Raises:  CheckpointError, which names the other checkpoints to go on from, if it is damaged.
    """
    whole = whole_checkpoints(job.out)
    if not whole:
        return fresh
    step = max(whole) if job.from_step is None else job.from_step
    try:
        checkpoint, tensors = load_checkpoint(whole[step]), load_trainer_state(whole[step])
    except CheckpointError as error:
        others = [other for other in whole if other != step]
        way_on = f"to do so: --resume --from-step N, with N one of {_listed(others)}"
        raise CheckpointError(f"{error}; {way_on if others else 'it is the only one'}") from None
    state = load_state(fresh, checkpoint, tensors, accelerator)
    first_does(lambda: _make_way(job, step), accelerator)
    return state


def _make_way(job: TrainJob, step: int) -> None:
    """Put aside what has the name of a later checkpoint, its evaluation, and an outdated best.json."""
    whole = whole_checkpoints(job.out)
    for later, path in named_checkpoints(job.out).items():
        if later <= step:
            continue
        if later in whole:
            word, why = "aside", "comes after the step to go on from"
        else:
            word, why = "damaged", "is no whole checkpoint: its manifest.json is missing or of something else"
        # First: what still has its name when this is interrupted, the next evaluation would replace.
        evaluation = job.out / EVALUATIONS / path.name
        if evaluation.exists():
            _put_aside(evaluation, word)
        logger.warning("%s: %s; it is kept as %s", path, why, _put_aside(path, word).name)
    best = job.out / BEST_FILE
    if best.exists() and read_best(job.out) is None:
        _put_aside(best, "aside")
        if (left := _best_evaluation(job)) is not None:
            write_json(best, left)


def _put_aside(path: Path, word: str) -> Path:
    """Rename something to a name that is free; the new path."""
    number, target = 1, path.with_name(f"{path.name}.{word}")
    while target.exists() or target.is_symlink():
        number += 1
        target = path.with_name(f"{path.name}.{word}-{number}")
    with writing(path):
        path.rename(target)
    return target


def _best_evaluation(job: TrainJob) -> dict[str, Any] | None:
    """The best, as `read_best` gives it, of the evaluations of the checkpoints that are there: of those that
    answered most."""
    found = []
    for step, path in whole_checkpoints(job.out).items():
        with suppress(OSError, orjson.JSONDecodeError, KeyError, TypeError):
            scores = orjson.loads((job.out / EVALUATIONS / path.name / "scores.json").read_bytes())
            if not scores.get("interrupted"):
                coverage = {name: scores[name] for name in COVERAGE if name in scores}
                amount = (coverage.get("answered", 0.0), coverage.get("votes", 0))
                found.append((amount, float(scores[job.metric]), step, coverage))
    if not found:
        return None
    _, value, step, coverage = max(found, key=lambda one: one[:3])
    best = {"step": step, "metric": job.metric, "value": value}
    return best | ({"coverage": coverage} if coverage else {})
