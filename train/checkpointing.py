"""When a training writes checkpoints and evaluates, which ones it keeps, and how it is resumed from one."""

import os
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from arcpipe.checkpoint import (
    BEST_FILE,
    CHECKPOINTS,
    checkpoint_name,
    load_checkpoint,
    load_trainer_state,
    named_checkpoints,
    read_best,
    whole_checkpoints,
)
from arcpipe.documents import load_json
from arcpipe.errors import CheckpointError
from arcpipe.infer.evaluate import COVERAGE, Evaluator
from arcpipe.log import logger
from arcpipe.predictions import SHARDS
from arcpipe.runs import make_manifest, new_folder, reading, write_json, writing
from arcpipe.train.config import TrainRun
from arcpipe.train.distributed import all_work, first_does, largest
from arcpipe.train.state import TrainState, checkpoint_of, load_state, save_state

EVALUATIONS = "evaluations"
# Of the time, for evaluations where nothing else is said; how far apart they are of themselves.
_SHARE = 0.1
# The last one of a short training may take longer, in seconds.
_LAST_S = 60.0
# What `new_folder` leaves of a checkpoint or an evaluation where its process is killed.
_UNFINISHED = re.compile(r"\.step-[0-9]{8,}\.([0-9]{1,7})\.tmp")


class Checkpointer:
    """Writes the checkpoints of a run, evaluates them, and keeps the newest and the best.

    Every process has one and makes the same calls; the first process writes.

    interrupted: a signal ended an evaluation, whose scores are those of what was answered until then.
    """

    def __init__(
        self, run: TrainRun, state: TrainState, accelerator: Accelerator, stopping: Callable[[], bool],
        *, resumed: bool,
    ) -> None:  # fmt: skip
        """Args:  stopping: asked during an evaluation whether to end it.
        resumed: the state is that of a checkpoint, which need not be written again.
        """
        self.run, self.accelerator, self.stopping = run, accelerator, stopping
        self.interrupted = False
        # Seconds of the last save and the last evaluation, by which the end is reckoned.
        self.save_s, self.evaluation_s = 0.0, 0.0
        if run.evaluator and run.clock.minutes is not None:
            self.evaluation_s = 60 * min(run.evaluation.max_minutes, _SHARE * run.clock.minutes)
        self.saved_step, self.saved_at = state.step if resumed else -1, state.seconds
        self.evaluated_step, self.tenth = -1, 10
        # A resumed run may have been killed between an evaluation at this step and its record.
        has_scores = first_does(lambda: _read_scores(self._scores_file(state.step)), accelerator)
        self.scored_step = state.step if has_scores else -1

    @property
    def end_s(self) -> float:
        """The seconds that saving and evaluating after the last step will take."""
        return self.save_s + self.evaluation_s

    def due(self, state: TrainState, progress: float) -> dict[str, float]:
        """Write and evaluate what is due before the next step; return the scores of an evaluation, if any.

        Args:  state: its seconds are alike on all processes, so that they agree on what is due.
               progress: how far the training is, 0..1, alike on all processes.
        """
        tenth, before = int(progress / _SHARE), self.tenth
        self.tenth = tenth
        settings, evaluation = self.run.settings, self.run.evaluation
        if state.step == 0:
            return {}
        minutes = (state.seconds - self.saved_at) / 60
        if state.step % settings.checkpoint_every == 0 or 0 < settings.checkpoint_minutes <= minutes:
            self.save(state)
        minutes = (state.seconds - state.evaluated_at) / 60
        if evaluation.every == "auto":
            by_step = tenth > before
        else:
            by_step = evaluation.every > 0 and state.step % evaluation.every == 0
        by_time = 0 < evaluation.every_minutes <= minutes
        return self.evaluate(state) if by_step or by_time or state.step == self.scored_step else {}

    def save(self, state: TrainState) -> Path:
        """Write checkpoints/step-N, unless it is there, and remove those not to be kept; return its path."""
        path, began = self.run.out / CHECKPOINTS / checkpoint_name(state.step), time.monotonic()
        if self.saved_step != state.step:
            manifest = make_manifest("checkpoint", recipe=self.run.recipe, dataset=self.run.dataset)
            save_state(state, path, self.run.puzzles, manifest, self.accelerator)
            self.save_s = time.monotonic() - began
            self.saved_step, self.saved_at = state.step, state.seconds
            first_does(self._tidy, self.accelerator)
        return path

    def evaluate(self, state: TrainState) -> dict[str, float]:
        """Evaluate the averaged weights on the test inputs; return the scores, the same on every process.

        The candidates of a step lie in evaluations/step-N. Coverage stands among the scores; where nothing
        was answered it stands alone. A step that was evaluated to the end before is read, not done again.
        """
        evaluator, accelerator, step = self.run.evaluator, self.accelerator, state.step
        if evaluator is None or self.evaluated_step == step:
            return {}
        self.save(state)
        if step == self.scored_step:
            scores = first_does(lambda: _read_scores(self._scores_file(step)), accelerator)
        else:
            whole_s = 60 * self.run.evaluation.max_minutes
            if self.run.evaluation.every == "auto":
                least_s = _LAST_S if step >= self.run.last_step else 0.0
                whole_s = min(whole_s, max(least_s, _SHARE * (state.seconds - state.evaluated_at)))
            limit_s = -largest([-min(whole_s, self.run.clock.left_s)], accelerator)[0]
            if limit_s < 0:
                logger.info("step %d: not evaluated, the time is up", step)
                return {}
            began = time.monotonic()
            self.interrupted = self._answer(evaluator, state, limit_s)
            cut_by = "ended by --max-minutes" if limit_s < whole_s else ""
            scores = first_does(lambda: self._score(evaluator, step, cut_by), accelerator)
            self.evaluation_s = time.monotonic() - began
        self.evaluated_step, state.evaluated_at = step, state.seconds
        return {f"eval/{name}": value for name, value in scores.items()}

    def _answer(self, evaluator: Evaluator, state: TrainState, limit_s: float) -> bool:
        """Write the candidates of all processes to evaluations/step-N, as far as these seconds reach; return
        whether a signal ended that."""
        folder = self._scores_file(state.step).parent

        def make_folder() -> None:
            # A killed evaluation may have left one.
            shutil.rmtree(folder, ignore_errors=True)
            with new_folder(folder, make_manifest("predictions", step=state.step)) as empty:
                (empty / SHARDS).mkdir()

        first_does(make_folder, self.accelerator)
        manifest = make_manifest("checkpoint", recipe=self.run.recipe)
        checkpoint = checkpoint_of(state, self.run.out, self.run.puzzles, manifest)
        rank, num_ranks = self.accelerator.process_index, self.accelerator.num_processes
        return all_work(
            lambda stop: evaluator.answer(checkpoint, folder, rank, num_ranks, stop, limit_s),
            self.stopping,
            self.accelerator,
        )

    def _score(self, evaluator: Evaluator, step: int, cut_by: str) -> dict[str, float]:
        """Score the candidates in evaluations/step-N; write scores and coverage there, last of all."""
        file = self._scores_file(step)
        scores, coverage = evaluator.score(file.parent)
        cut = self.interrupted and not coverage.whole
        words = [", ".join(f"{name} {value:.4f}" for name, value in scores.items())] if scores else []
        words += [coverage.text, f"{coverage.votes} of {coverage.votes_asked} votes"]
        words += [cut_by] if cut_by and not cut and not coverage.whole else []
        words += ["ended by a signal, to be done again with --resume"] if cut else []
        logger.info("step %d: %s", step, "; ".join(words))
        facts = scores | coverage.facts
        if scores and not cut:
            best = read_best(self.run.out)
            if (new := _better(self.run, step, facts, best)) is not best:
                write_json(self.run.out / BEST_FILE, new)
        write_json(file, facts | ({"interrupted": True} if cut else {}))
        self._tidy()
        return facts

    def _scores_file(self, step: int) -> Path:
        return self.run.out / EVALUATIONS / checkpoint_name(step) / "scores.json"

    def _tidy(self) -> None:
        """Remove all whole checkpoints but the newest and the best, and the evaluations of those removed."""
        folder, evaluations = self.run.out / CHECKPOINTS, self.run.out / EVALUATIONS
        whole, best = whole_checkpoints(self.run.out), read_best(self.run.out)
        to_keep = {*list(whole)[-self.run.settings.keep_last :], self.saved_step}
        to_keep |= set() if best is None else {best["step"]}
        for step in sorted(whole.keys() - to_keep):
            # In this order none is left without its checkpoint; a link stays where it is.
            for path in (evaluations / whole[step].name, whole[step]):
                if path.is_dir() and not path.is_symlink():
                    # First under a name that none takes for whole.
                    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
                    with suppress(OSError):
                        path.rename(unfinished)
                    shutil.rmtree(unfinished, ignore_errors=True)
        for path in (*folder.glob(".step-*"), *evaluations.glob(".step-*")):
            of_process = _UNFINISHED.fullmatch(path.name)
            if of_process and not _is_at_work(int(of_process[1])):
                shutil.rmtree(path, ignore_errors=True)


def _is_at_work(process: int) -> bool:
    """Whether another process of this number runs here, which may be writing."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return process != os.getpid()


def _read_scores(file: Path) -> dict[str, float]:
    """The scores of a step; none if it was not evaluated, or not to the end, or if they are damaged."""
    try:
        with reading(file):
            scores: dict[str, float] = load_json(file)
        return {} if scores.get("interrupted") else scores
    except (OSError, ValueError, AttributeError):
        return {}


def _better(
    run: TrainRun, step: int, scores: dict[str, float], best: dict[str, Any] | None
) -> dict[str, Any]:
    """Return the better of an evaluation and the best, as best.json has them: what answers more, or else the
    new one if its score is no worse; older ones have no coverage."""
    new: dict[str, Any] = {"step": step, "metric": run.metric, "value": float(scores[run.metric])}
    if coverage := {name: scores[name] for name in COVERAGE if name in scores}:
        new["coverage"] = coverage
    if best is None or best["metric"] != new["metric"]:
        return new
    of_best = best.get("coverage")
    # Without a coverage the scores alone can be compared.
    if coverage == of_best or not coverage or not of_best:
        return new if new["value"] >= best["value"] else best
    if (coverage["answered"], coverage["votes"]) > (of_best["answered"], of_best["votes"]):
        logger.info(
            "step %d: answers more than step %d, whose place it takes as the best", step, best["step"]
        )
        return new
    logger.info("step %d: answers less than the best, step %d, so it is not compared", step, best["step"])
    return best


def resumed_state(run: TrainRun, fresh: TrainState, accelerator: Accelerator) -> TrainState:
    """Return the state of the checkpoint to go on from, in place of a fresh one.

    What lies in the way of later checkpoints is put aside, with a warning: renamed, never removed.

    Raises:  CheckpointError, which names the other checkpoints to go on from, if it is damaged.
    """
    whole = whole_checkpoints(run.out)
    step = max(whole) if run.from_step is None else run.from_step
    try:
        checkpoint, tensors = load_checkpoint(whole[step]), load_trainer_state(whole[step])
    except CheckpointError as error:
        others = ", ".join(str(other) for other in whole if other != step)
        way_on = f"to do so: --resume --from-step N, with N one of {others}"
        raise CheckpointError(f"{error}; {way_on if others else 'it is the only one'}") from None
    state = load_state(fresh, checkpoint, tensors)
    first_does(lambda: _make_way(run, step), accelerator)
    return state


def _make_way(run: TrainRun, step: int) -> None:
    """Put aside what has the name of a later checkpoint, its evaluation, and an outdated best.json."""
    whole = whole_checkpoints(run.out)
    for later, path in named_checkpoints(run.out).items():
        if later <= step:
            continue
        if later in whole:
            word, why = "aside", "comes after the step to go on from"
        else:
            word, why = "damaged", "is no whole checkpoint: its manifest.json is missing or of something else"
        # First: what still has its name when this is interrupted, the next evaluation would replace.
        evaluation = run.out / EVALUATIONS / path.name
        if evaluation.exists():
            _put_aside(evaluation, word)
        logger.warning("%s: %s; it is kept as %s", path, why, _put_aside(path, word).name)
    if (run.out / BEST_FILE).exists() and read_best(run.out) is None:
        _put_aside(run.out / BEST_FILE, "aside")
        # As the evaluations that are left have it.
        best: dict[str, Any] | None = None
        for number, path in whole_checkpoints(run.out).items():
            with suppress(OSError, ValueError, KeyError, TypeError):
                scores = _read_scores(run.out / EVALUATIONS / path.name / "scores.json")
                best = _better(run, number, scores, best)
        if best is not None:
            write_json(run.out / BEST_FILE, best)


def _put_aside(path: Path, word: str) -> Path:
    """Rename a file or folder to a name that is free; return the new path."""
    number, target = 1, path.with_name(f"{path.name}.{word}")
    while target.exists() or target.is_symlink():
        number += 1
        target = path.with_name(f"{path.name}.{word}-{number}")
    with writing(path):
        path.rename(target)
    return target
