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
from arcpipe.train.distributed import all_work, first_does
from arcpipe.train.job import EVALUATIONS, Evaluator, TrainJob
from arcpipe.train.state import TrainState, checkpoint_of, save_state

# What `new_folder` leaves of a checkpoint or an evaluation where its process is killed.
_UNFINISHED = re.compile(r"\.step-[0-9]{8,}\.([0-9]{1,7})\.tmp")


class Saver:
    """Writes the checkpoints of a run, evaluates them, and keeps the newest and the best.

    Every process has one and calls it alike; the first one writes. interrupted: there was a signal during
    an evaluation, which then has the scores of what was answered until it came.
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
        known = first_does(lambda: _read_scores(self._scores_file(state.step)), accelerator)
        self.known_step = state.step if known else -1

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

        Each evaluation has its own candidates, of this step alone, in evaluations/step-N. With the scores
        comes how much was answered; where nothing was, there are none. Where a run is resumed from a step
        that was evaluated to the end, all this is read.
        """
        evaluator, accelerator, step = self.job.evaluator, self.accelerator, state.step
        if evaluator is None or self.evaluated_step == step:
            return {}
        self.save(state)
        if step == self.known_step:
            scores = first_does(lambda: _read_scores(self._scores_file(step)), accelerator)
        else:
            self.interrupted = self._answer(evaluator, state)
            scores = first_does(lambda: self._score(evaluator, step), accelerator)
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
        """The scores of the candidates in evaluations/step-N and how much these cover, written there when all
        else is."""
        file = self._scores_file(step)
        scores, coverage = evaluator.score(file.parent)
        cut = self.interrupted and not coverage.whole
        words = [", ".join(f"{name} {value:.4f}" for name, value in scores.items())] if scores else []
        words += [coverage.text, f"{coverage.votes} of {coverage.votes_asked} votes"]
        words += ["ended by a signal, to be done again with --resume"] if cut else []
        logger.info("step %d: %s", step, "; ".join(words))
        if scores and not cut:
            self._compare(step, scores[self.job.metric], coverage.facts)
        found = scores | coverage.facts
        write_json(file, found | ({"interrupted": True} if cut else {}))
        self._tidy()
        return found

    def _compare(self, step: int, value: float, coverage: dict[str, float]) -> None:
        """Remember the step as the best if no evaluation answered more, and none that answered the same has
        a better score."""
        best, metric = read_best(self.job.out), self.job.metric
        if best is not None and best["metric"] == metric:
            # Older files do not tell: the scores alone can be compared.
            known = best.get("coverage", coverage)
            if coverage == known:
                if value < best["value"]:
                    return
            elif _amount(coverage) > _amount(known):
                logger.info(
                    "step %d: answers more than step %d, whose place it takes as the best", step, best["step"]
                )
            else:
                logger.info(
                    "step %d: answers less than the best, step %d, so it is not compared", step, best["step"]
                )
                return
        found = {"step": step, "metric": metric, "value": value, "coverage": coverage}
        write_json(self.job.out / BEST_FILE, found)

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


def _amount(coverage: dict[str, float]) -> tuple[float, float]:
    """By what one evaluation answers more than another: test inputs first, then votes."""
    return coverage["answered"], coverage["votes"]


def _read_scores(file: Path) -> dict[str, float]:
    """The scores of a step; none if it was not evaluated, or not to the end."""
    scores: dict[str, float] = orjson.loads(file.read_bytes()) if file.exists() else {}
    return {} if scores.get("interrupted") else scores
