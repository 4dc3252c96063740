"""When a training writes checkpoints and evaluates, and which checkpoints it keeps."""

import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import orjson
from accelerate import Accelerator

from arcpipe.checkpoint import BEST_FILE, CHECKPOINTS, checkpoint_name, read_best, whole_checkpoints
from arcpipe.log import logger
from arcpipe.predictions import SHARDS
from arcpipe.runs import make_manifest, new_folder, write_json
from arcpipe.train.job import EVALUATIONS, Evaluator, TrainJob
from arcpipe.train.state import TrainState, checkpoint_of, save_state
from arcpipe.train.together import all_work, first_does

# What `new_folder` leaves of a checkpoint or an evaluation where its process is killed.
_UNFINISHED = re.compile(r"\.step-[0-9]{8,}\.([0-9]{1,7})\.tmp")


class Saver:
    """Writes the checkpoints of a run, evaluates them, and keeps the newest and the best.

    Every process has one and calls it alike; the first one writes. interrupted: a signal has ended an
    evaluation, which has no scores then.
    """

    def __init__(
        self, job: TrainJob, state: TrainState, accelerator: Accelerator, stopping: Callable[[], bool],
        *, resumed: bool,
    ) -> None:  # fmt: skip
        """Args:  resumed: the state is that of a checkpoint, which need not be written again.
        stopping: asked during an evaluation, whether to end it.
        """
        self.job, self.accelerator, self.stopping = job, accelerator, stopping
        self.interrupted = False
        self.saved_step, self.saved_at = state.step if resumed else -1, state.seconds
        self.evaluated_step = -1
        # Of a resumed run: it was evaluated at this step, but may have been killed before it was recorded.
        self.known_step = state.step if first_does(self._scores_file(state.step).exists, accelerator) else -1

    def due(self, state: TrainState) -> dict[str, float]:
        """Write and evaluate what is due before the next step; the scores of an evaluation, if any.

        Args:  state: its seconds are alike on all processes, so that they agree on what is due.
        """
        settings, evaluation = self.job.settings, self.job.evaluation
        if state.step == 0:
            return {}
        minutes = (state.seconds - self.saved_at) / 60
        if state.step % settings.checkpoint_every == 0 or 0 < settings.checkpoint_minutes <= minutes:
            self.save(state)
        minutes = (state.seconds - state.evaluated_at) / 60
        by_step = evaluation.every > 0 and state.step % evaluation.every == 0
        by_time = 0 < evaluation.every_minutes <= minutes
        return self.evaluate(state) if by_step or by_time or state.step == self.known_step else {}

    def save(self, state: TrainState) -> None:
        """Write checkpoints/step-N, unless it is there, and remove those not to be kept."""
        if self.saved_step == state.step:
            return
        manifest = make_manifest("checkpoint", recipe=self.job.recipe, dataset=self.job.dataset)
        path = self.job.out / CHECKPOINTS / checkpoint_name(state.step)
        save_state(state, path, self.job.puzzles, manifest, self.accelerator)
        self.saved_step, self.saved_at = state.step, state.seconds
        first_does(self._tidy, self.accelerator)

    def evaluate(self, state: TrainState) -> dict[str, float]:
        """Evaluate the averaged weights on the test inputs; the scores, alike on every process.

        Each evaluation has its own candidates, of this step alone, in evaluations/step-N. If no score was
        better, its checkpoint is the best so far. Where a run is resumed from a step that was evaluated, the
        scores are read.
        """
        evaluator, accelerator, step = self.job.evaluator, self.accelerator, state.step
        if evaluator is None or self.evaluated_step == step:
            return {}
        self.save(state)
        if step == self.known_step:
            scores = first_does(lambda: _read_scores(self._scores_file(step)), accelerator)
        else:
            self.interrupted = self._answer(evaluator, state)
            if self.interrupted:
                # Answered in part only, it would be scored as if the rest were wrong.
                return {}
            scores = first_does(lambda: self._score(evaluator, step), accelerator)
            logger.info("step %d: %s", step, ", ".join(f"{name} {scores[name]:.4f}" for name in scores))
        self.evaluated_step, state.evaluated_at = step, state.seconds
        return {f"eval/{name}": value for name, value in scores.items()}

    def _answer(self, evaluator: Evaluator, state: TrainState) -> bool:
        """Write the candidates of all processes to evaluations/step-N, anew; whether a signal ended that."""
        folder = self._scores_file(state.step).parent
        first_does(lambda: _make_predictions(folder, state.step), self.accelerator)
        manifest = make_manifest("checkpoint", recipe=self.job.recipe)
        checkpoint = checkpoint_of(state, self.job.out, self.job.puzzles, manifest)
        rank, num_ranks = self.accelerator.process_index, self.accelerator.num_processes
        return all_work(
            lambda stop: evaluator.answer(checkpoint, folder, rank, num_ranks, stop),
            self.stopping,
            self.accelerator,
        )

    def _score(self, evaluator: Evaluator, step: int) -> dict[str, float]:
        """The scores of the candidates in evaluations/step-N, written there when all else is; if they are
        the best, the step is remembered."""
        file, metric = self._scores_file(step), self.job.metric
        scores = evaluator.score(file.parent)
        best = read_best(self.job.out)
        if best is None or best["metric"] != metric or scores[metric] >= best["value"]:
            write_json(self.job.out / BEST_FILE, {"step": step, "metric": metric, "value": scores[metric]})
        write_json(file, scores)
        self._tidy()
        return scores

    def _scores_file(self, step: int) -> Path:
        return self.job.out / EVALUATIONS / checkpoint_name(step) / "scores.json"

    def _tidy(self) -> None:
        """Remove all whole checkpoints but the newest and the best, and the evaluations of those removed."""
        folder, evaluations = self.job.out / CHECKPOINTS, self.job.out / EVALUATIONS
        whole, best = whole_checkpoints(self.job.out), read_best(self.job.out)
        kept = {*list(whole)[-self.job.settings.keep_last :], self.saved_step}
        kept |= set() if best is None else {best["step"]}
        for step, path in whole.items():
            if step not in kept:
                # In this order none is left without its checkpoint.
                _remove(evaluations / path.name)
                _remove(path)
        for path in (*folder.glob(".step-*"), *evaluations.glob(".step-*")):
            found = _UNFINISHED.fullmatch(path.name)
            if found and not _is_at_work(int(found[1])):
                shutil.rmtree(path, ignore_errors=True)


def _remove(folder: Path) -> None:
    """Remove a folder, under a name first that none takes for whole; leave a link where it is."""
    if folder.is_dir() and not folder.is_symlink():
        unfinished = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        with suppress(OSError):
            folder.rename(unfinished)
        shutil.rmtree(unfinished, ignore_errors=True)


def _is_at_work(process: int) -> bool:
    """Whether another process of this number runs here, which may be writing."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return process != os.getpid()


def _make_predictions(folder: Path, step: int) -> None:
    """An empty folder of predictions, in place of what a killed evaluation has left."""
    shutil.rmtree(folder, ignore_errors=True)
    with new_folder(folder, make_manifest("predictions", step=step)) as made:
        (made / SHARDS).mkdir()


def _read_scores(file: Path) -> dict[str, float]:
    scores: dict[str, float] = orjson.loads(file.read_bytes())
    return scores
