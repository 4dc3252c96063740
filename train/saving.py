"""When a training writes checkpoints and evaluates, and which checkpoints it keeps."""

import shutil
from collections.abc import Callable
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from arcpipe.checkpoint import BEST_FILE, CHECKPOINTS, checkpoint_name, read_best
from arcpipe.errors import ArcpipeError
from arcpipe.log import logger
from arcpipe.runs import make_manifest, new_folder, write_json
from arcpipe.train.job import EVALUATIONS, TrainJob
from arcpipe.train.state import TrainState, checkpoint_of, save_state


class Saver:
    """Writes the checkpoints of a run, evaluates them, and keeps the newest and the best.

    Every process has one and calls it alike; the first one writes.
    """

    def __init__(
        self, job: TrainJob, state: TrainState, accelerator: Accelerator, stopping: Callable[[], bool],
        *, resumed: bool,
    ) -> None:  # fmt: skip
        """Args:  resumed: the state is that of a checkpoint, which need not be written again.
        stopping: asked during an evaluation, whether to end it.
        """
        self.job, self.accelerator, self.stopping = job, accelerator, stopping
        self.saved_step = state.step if resumed else -1
        self.evaluated_step = state.step if self._scores_file(state.step).exists() else -1
        self.saved_at = self.evaluated_at = state.seconds

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
        minutes = (state.seconds - self.evaluated_at) / 60
        by_step = evaluation.every > 0 and state.step % evaluation.every == 0
        if by_step or 0 < evaluation.every_minutes <= minutes:
            return self.evaluate(state)
        return {}

    def save(self, state: TrainState) -> None:
        """Write checkpoints/step-N, unless it is there, and remove those not to be kept."""
        if self.saved_step == state.step:
            return
        manifest = make_manifest("checkpoint", recipe=self.job.recipe, dataset=self.job.dataset)
        path = self.job.out / CHECKPOINTS / checkpoint_name(state.step)
        save_state(state, path, self.job.puzzles, manifest, self.accelerator)
        self.saved_step, self.saved_at = state.step, state.seconds
        self._tidy()

    def evaluate(self, state: TrainState) -> dict[str, float]:
        """Evaluate the averaged weights on the test inputs; the scores, alike on every process.

        Each evaluation has its own candidates, of this step alone, in evaluations/step-N. If its score is
        the best so far, so is its checkpoint.
        """
        evaluator, accelerator = self.job.evaluator, self.accelerator
        if evaluator is None or self.evaluated_step == state.step:
            return {}
        self.save(state)
        folder = self._scores_file(state.step).parent
        if accelerator.is_main_process:
            shutil.rmtree(folder, ignore_errors=True)
            with new_folder(folder, make_manifest("predictions", step=state.step)) as made:
                (made / "shards").mkdir()
        accelerator.wait_for_everyone()
        checkpoint = checkpoint_of(
            state, self.job.out, self.job.puzzles, make_manifest("checkpoint", recipe=self.job.recipe)
        )
        evaluator.answer(
            checkpoint, folder, accelerator.process_index, accelerator.num_processes, self.stopping
        )
        accelerator.wait_for_everyone()
        scores: list[dict[str, float]] = [evaluator.score(folder) if accelerator.is_main_process else {}]
        if accelerator.num_processes > 1:
            broadcast_object_list(scores)
        self.evaluated_step, self.evaluated_at = state.step, state.seconds
        self._note(state.step, scores[0])
        return {f"eval/{name}": value for name, value in scores[0].items()}

    def _note(self, step: int, scores: dict[str, float]) -> None:
        """Log the scores, and remember the step if they are the best."""
        metric = self.job.metric
        if metric not in scores:
            raise ArcpipeError(f"eval.metric {metric!r} is none of: {', '.join(scores)}")
        logger.info("step %d: %s", step, ", ".join(f"{name} {value:.4f}" for name, value in scores.items()))
        if not self.accelerator.is_main_process:
            return
        write_json(self._scores_file(step), scores)
        best = read_best(self.job.out)
        if best is None or best["metric"] != metric or scores[metric] > best["value"]:
            found = {"step": step, "metric": metric, "value": scores[metric]}
            write_json(self.job.out / BEST_FILE, found)
        self._tidy()

    def _scores_file(self, step: int) -> Path:
        return self.job.out / EVALUATIONS / checkpoint_name(step) / "scores.json"

    def _tidy(self) -> None:
        """Remove all checkpoints but the newest and the best, and the evaluations of those removed."""
        if not self.accelerator.is_main_process:
            return
        folder = self.job.out / CHECKPOINTS
        best = read_best(self.job.out)
        kept = {path.name for path in sorted(folder.glob("step-*"))[-self.job.settings.keep_last :]}
        kept |= set() if best is None else {checkpoint_name(best["step"])}
        evaluations = self.job.out / EVALUATIONS
        old = [
            path for path in (*folder.glob("step-*"), *evaluations.glob("step-*")) if path.name not in kept
        ]
        # A temporary folder is what a killed write has left.
        for path in [*old, *folder.glob(".step-*"), *evaluations.glob(".step-*")]:
            shutil.rmtree(path, ignore_errors=True)
