"""When a training saves and evaluates, which checkpoints it keeps, and how it resumes from one."""

import os
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from arcpipe import runs
from arcpipe.checkpoint import load_checkpoint, load_trainer_state
from arcpipe.errors import CheckpointError
from arcpipe.infer.evaluate import COVERAGE, Evaluator
from arcpipe.log import logger
from arcpipe.predictions import SHARDS
from arcpipe.train.distributed import reduce_max, run_on_main, run_stoppable
from arcpipe.train.run import TrainRun
from arcpipe.train.state import TrainState, checkpoint_of, load_state, save_state

EVALUATIONS = "evaluations"
# eval.every = auto: the interval of evaluations as a share of the run, and their share of the time.
_SHARE = 0.1
# Seconds that the last evaluation may take, even if its share of a short training is less.
_LAST_S = 60.0
# The temporary folder that `new_folder` leaves if its process is killed.
_UNFINISHED = re.compile(r"\.step-[0-9]{8,}\.([0-9]{1,7})\.tmp")


class Checkpointer:
    """Writes the checkpoints of a run, evaluates them, and keeps the newest and the best.

    Every process has one and makes the same calls; the main process writes.

    interrupted: a signal ended the last evaluation, so its scores cover only the answers until then.
    """

    def __init__(
        self, run: TrainRun, state: TrainState, accelerator: Accelerator, stopping: Callable[[], bool],
        *, resumed: bool,
    ) -> None:  # fmt: skip
        """Args:  stopping: returns whether a signal asks to stop.
        resumed: the state is that of a checkpoint, which need not be written again.
        """
        self.run, self.accelerator, self.stopping = run, accelerator, stopping
        self.interrupted = False
        # Durations of the last save and the last evaluation, from which `end_s` is estimated.
        self.save_s, self.evaluation_s = 0.0, 0.0
        if run.evaluator and run.clock.minutes is not None:
            self.evaluation_s = 60 * min(run.evaluation.max_minutes, _SHARE * run.clock.minutes)
        self.saved_step = state.step if resumed else -1
        self.saved_at = state.seconds
        # The tenth of the run at the last call of `due`. The first call evaluates only at the first step of a
        # tenth, whose evaluation may be missing; that goes by steps, because a time limit moves the progress.
        before, now = (int(step / run.settings.steps / _SHARE) for step in (state.step - 1, state.step))
        self.tenth = before if before < now else 10
        self.evaluated_step = -1
        # A run killed after an evaluation and before its record in metrics.jsonl reads the scores again; an
        # evaluation that did not end is done again.
        file = self._scores_file(state.step)
        scores, is_begun = run_on_main(lambda: (_read_scores(file), file.parent.exists()), accelerator)
        self.scored_step = state.step if scores else -1
        self.begun_step = state.step if is_begun else -1

    @property
    def end_s(self) -> float:
        """The estimated seconds of saving and evaluating after the last step."""
        return self.save_s + self.evaluation_s

    def due(self, state: TrainState, progress: float) -> dict[str, float]:
        """Save and evaluate if that is due before the next step; return the scores of an evaluation, if any.

        Args:  state: its seconds are equal on all processes, which decide alike.
               progress: how far the training is, 0..1, equal on all processes.
        """
        tenth, previous_tenth = int(progress / _SHARE), self.tenth
        self.tenth = tenth
        settings, evaluation = self.run.settings, self.run.evaluation
        if state.step == 0:
            return {}
        minutes = (state.seconds - self.saved_at) / 60
        if state.step % settings.checkpoint_every == 0 or 0 < settings.checkpoint_minutes <= minutes:
            self.save(state)
        minutes = (state.seconds - state.evaluated_at) / 60
        if evaluation.every == "auto":
            by_step = tenth > previous_tenth
        else:
            by_step = evaluation.every > 0 and state.step % evaluation.every == 0
        by_time = 0 < evaluation.every_minutes <= minutes
        return self.evaluate(state) if by_step or by_time or state.step == self.begun_step else {}

    def save(self, state: TrainState) -> Path:
        """Write checkpoints/step-N, unless this step is saved, and remove old ones; return its path."""
        path, start = self.run.out / runs.CHECKPOINTS / runs.checkpoint_name(state.step), time.monotonic()
        if self.saved_step != state.step:
            save_state(state, self.run, path, self.accelerator)
            self.save_s = time.monotonic() - start
            self.saved_step, self.saved_at = state.step, state.seconds
            run_on_main(self._remove_old, self.accelerator)
        return path

    def evaluate(self, state: TrainState) -> dict[str, float]:
        """Evaluate the averaged weights on the test inputs; return the scores, the same on every process.

        The candidates are in evaluations/step-N. The scores include the coverage, and nothing else if no test
        input was answered. A step with a complete evaluation is read, not evaluated again.
        """
        evaluator, accelerator, step = self.run.evaluator, self.accelerator, state.step
        if evaluator is None or self.evaluated_step == step:
            return {}
        self.save(state)
        if step == self.scored_step:
            scores = run_on_main(lambda: _read_scores(self._scores_file(step)), accelerator)
        else:
            budget_s = 60 * self.run.evaluation.max_minutes
            if self.run.evaluation.every == "auto":
                least_s = _LAST_S if step >= self.run.last_step else 0.0
                budget_s = min(budget_s, max(least_s, _SHARE * (state.seconds - state.evaluated_at)))
            limit_s = -reduce_max([-min(budget_s, self.run.clock.left_s)], accelerator)[0]
            if limit_s < 0:
                logger.info("step %d: not evaluated, the time is up", step)
                return {}
            start = time.monotonic()
            self.interrupted = self._answer(evaluator, state, limit_s)
            scores = run_on_main(lambda: self._score(evaluator, step, limit_s < budget_s), accelerator)
            self.evaluation_s = time.monotonic() - start
        self.evaluated_step, state.evaluated_at = step, state.seconds
        return {f"eval/{name}": value for name, value in scores.items()}

    def _answer(self, evaluator: Evaluator, state: TrainState, limit_s: float) -> bool:
        """Write the candidates of all processes to evaluations/step-N, for at most `limit_s` seconds; return
        whether a signal ended it."""
        folder = self._scores_file(state.step).parent

        def make_folder() -> None:
            # A killed or interrupted evaluation may have left one.
            shutil.rmtree(folder, ignore_errors=True)
            with runs.new_folder(folder, runs.make_manifest("predictions", step=state.step)) as empty:
                (empty / SHARDS).mkdir()

        run_on_main(make_folder, self.accelerator)
        checkpoint = checkpoint_of(state, self.run, self.run.out)
        rank, num_ranks = self.accelerator.process_index, self.accelerator.num_processes
        return run_stoppable(
            lambda stop: evaluator.answer(checkpoint, folder, rank, num_ranks, stop, limit_s),
            self.stopping,
            self.accelerator,
        )

    def _score(self, evaluator: Evaluator, step: int, limited: bool) -> dict[str, float]:
        """Score the candidates in evaluations/step-N; update best.json and write scores.json, which marks the
        evaluation as complete.

        Args:  limited: --max-minutes left less time than the recipe allows.
        """
        file = self._scores_file(step)
        scores, coverage = evaluator.score(file.parent)
        interrupted = self.interrupted and not coverage.whole
        words = [coverage.text, f"{coverage.votes} of {coverage.votes_asked} votes"]
        if scores:
            words.insert(0, ", ".join(f"{name} {value:.4f}" for name, value in scores.items()))
        if interrupted:
            words.append("ended by a signal, to be done again with --resume")
        elif limited and not coverage.whole:
            words.append("ended by --max-minutes")
        logger.info("step %d: %s", step, "; ".join(words))
        facts = scores | coverage.facts
        if interrupted:
            runs.write_json(file, facts | {"interrupted": True})
        else:
            best = runs.read_best(self.run.out)
            if scores and (new := _better(self.run, step, facts, best)) is not best:
                runs.write_json(self.run.out / runs.BEST_FILE, new)
            runs.write_json(file, facts)
        self._remove_old()
        return facts

    def _scores_file(self, step: int) -> Path:
        return self.run.out / EVALUATIONS / runs.checkpoint_name(step) / "scores.json"

    def _remove_old(self) -> None:
        """Remove all whole checkpoints but the newest and the best, with their evaluations, and the remains
        of killed processes."""
        folder, evaluations = self.run.out / runs.CHECKPOINTS, self.run.out / EVALUATIONS
        whole, best = runs.whole_checkpoints(self.run.out), runs.read_best(self.run.out)
        to_keep = {*list(whole)[-self.run.settings.keep_last :], self.saved_step, best and best["step"]}
        for step in sorted(whole.keys() - to_keep):
            # The evaluation first, so that none outlives its checkpoint; links are left alone.
            for path in (evaluations / whole[step].name, whole[step]):
                if path.is_dir() and not path.is_symlink():
                    # A process killed in the middle must not leave a partial folder under a valid name.
                    unfinished = runs.temporary_path(path)
                    with suppress(OSError):
                        path.rename(unfinished)
                    shutil.rmtree(unfinished, ignore_errors=True)
        for path in (*folder.glob(".step-*"), *evaluations.glob(".step-*")):
            match = _UNFINISHED.fullmatch(path.name)
            if match and not _is_other_process(int(match[1])):
                shutil.rmtree(path, ignore_errors=True)


def _is_other_process(pid: int) -> bool:
    """Return whether another process with this id runs on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return pid != os.getpid()


def _read_scores(file: Path) -> dict[str, float]:
    """Return the scores in scores.json; empty if the evaluation is missing, incomplete or damaged."""
    scores = runs.known_json(file)
    return {} if scores.get("interrupted") else scores


def _better(
    run: TrainRun, step: int, scores: dict[str, float], best: dict[str, Any] | None
) -> dict[str, Any]:
    """Return the better of a new evaluation and the best one so far, in the form of best.json.

    Larger coverage wins; with equal coverage the new one wins if its score is no worse. Without coverage,
    which old files lack, the scores alone decide.
    """
    new: dict[str, Any] = {"step": step, "metric": run.metric, "value": float(scores[run.metric])}
    if coverage := {name: scores[name] for name in COVERAGE if name in scores}:
        new["coverage"] = coverage
    if best is None or best["metric"] != new["metric"]:
        return new
    best_coverage = best.get("coverage")
    if coverage == best_coverage or not coverage or not best_coverage:
        return new if new["value"] >= best["value"] else best
    if (coverage["answered"], coverage["votes"]) > (best_coverage["answered"], best_coverage["votes"]):
        logger.info(
            "step %d: answers more than step %d, whose place it takes as the best", step, best["step"]
        )
        return new
    logger.info("step %d: answers less than the best, step %d, so it is not compared", step, best["step"])
    return best


def resumed_state(run: TrainRun, fresh: TrainState, accelerator: Accelerator) -> TrainState:
    """Return the state of the checkpoint to resume from; a fresh state gives its structure.

    Later checkpoints are renamed, with a warning, never removed.

    Raises:  CheckpointError, naming the other checkpoints to resume from, if this one is damaged.
    """
    whole = run_on_main(lambda: runs.whole_checkpoints(run.out), accelerator)
    step = max(whole) if run.from_step is None else run.from_step
    try:
        checkpoint, tensors = load_checkpoint(whole[step]), load_trainer_state(whole[step])
    except CheckpointError as error:
        others = ", ".join(str(other) for other in whole if other != step)
        remedy = f"to do so: --resume --from-step N, with N one of {others}"
        raise CheckpointError(f"{error}; {remedy if others else 'it is the only one'}") from None
    state = load_state(fresh, checkpoint, tensors)
    run_on_main(lambda: _set_later_aside(run, step), accelerator)
    return state


def _set_later_aside(run: TrainRun, step: int) -> None:
    """Rename later checkpoints and their evaluations; replace a best.json that names one of them."""
    whole = runs.whole_checkpoints(run.out)
    for later, path in runs.named_checkpoints(run.out).items():
        if later <= step:
            continue
        if later in whole:
            word, why = "aside", "comes after the step to go on from"
        else:
            word, why = "damaged", "is no whole checkpoint: its manifest.json is missing or of something else"
        # The evaluation first: if this is interrupted, the next evaluation would replace it.
        evaluation = run.out / EVALUATIONS / path.name
        if evaluation.exists():
            _set_aside(evaluation, word)
        logger.warning("%s: %s; it is kept as %s", path, why, _set_aside(path, word).name)
    if (run.out / runs.BEST_FILE).exists() and runs.read_best(run.out) is None:
        _set_aside(run.out / runs.BEST_FILE, "aside")
        best: dict[str, Any] | None = None
        for number, path in runs.whole_checkpoints(run.out).items():
            with suppress(OSError, ValueError, KeyError, TypeError):
                scores = _read_scores(run.out / EVALUATIONS / path.name / "scores.json")
                best = _better(run, number, scores, best)
        if best is not None:
            runs.write_json(run.out / runs.BEST_FILE, best)


def _set_aside(path: Path, word: str) -> Path:
    """Rename a file or folder to a free name that ends in `word`; return the new path."""
    number, target = 1, path.with_name(f"{path.name}.{word}")
    while target.exists() or target.is_symlink():
        number += 1
        target = path.with_name(f"{path.name}.{word}-{number}")
    with runs.writing(path):
        path.rename(target)
    return target
