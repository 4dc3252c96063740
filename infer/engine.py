"""The engine: continuous batching, in which the next item replaces each row that finishes.

A row finishes at the last step, or earlier by the halting rule. Its state stays on the device; each step
reads back which rows have finished, and their answers.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from arcpipe.augmentation import random_bits
from arcpipe.buckets import bucket_sides, crop, pad_back
from arcpipe.checkpoint import Checkpoint
from arcpipe.codec import PAD, encode_grids
from arcpipe.devices import compute_dtype, ready_blocks
from arcpipe.errors import CheckpointError
from arcpipe.flow import FlowSampler
from arcpipe.infer.config import InferSettings
from arcpipe.infer.items import Answers, Items, Schedule, WorkQueue
from arcpipe.losses import probabilities
from arcpipe.puzzleset import PuzzleSet
from arcpipe.task_embedding import puzzle_vectors

STABLE_STEPS = 3
"""Consecutive steps with the same answer after which `stable` halts."""
NONE = np.zeros(0, np.int64)
"""No position of a schedule."""
_FIRST_ANSWERS = 64
_NO_TOKEN = 255
_IDLE = -1


class Engine:
    """A batch of rows in which a checkpoint answers items of a schedule; free rows are dropped at the end.

    notes: lines for the log, the first on the dtype and the device.

    Args:    done: (M,) positions of the schedule to leave out, sorted.
             rank, num_ranks: which of the other positions to answer.
             needed: `needed_sides` of the whole dataset, if `puzzles` lacks some test inputs of a task.
    Raises:  CheckpointError if the checkpoint does not know the puzzles.
    """

    def __init__(
        self, checkpoint: Checkpoint, puzzles: PuzzleSet, settings: InferSettings, device: torch.device, *,
        done: NDArray[np.int64] = NONE, rank: int = 0, num_ranks: int = 1,
        needed: NDArray[np.intp] | None = None,
    ) -> None:  # fmt: skip
        precision = checkpoint.precision if settings.precision == "trained" else settings.precision
        dtype, reason = compute_dtype(precision, device)
        self.puzzles, self.schedule, self.device = puzzles, Schedule(puzzles, settings), device
        self.work = WorkQueue(len(self.schedule), done, rank, num_ranks)
        self.plan, batch_size = settings.plan(checkpoint.config), settings.batch_size
        # Rows and color vectors (T, 2, 10, D) stay on the checkpoint's device.
        self.rows_of, self.colors = checkpoint.rows_by_id(puzzles), checkpoint.colors_of(puzzles)
        self.sides = bucket_sides(puzzles, checkpoint.config.buckets, needed)
        self.model, self.loss = checkpoint.model(puzzles.canvas).to(device), checkpoint.loss
        self.sampler = None
        if checkpoint.config.flow:
            self.sampler = FlowSampler(
                batch_size, puzzles.num_tokens, checkpoint.vocabulary, device, steps=self.plan.steps,
                gamma=self.plan.gamma, seed=self.plan.seed, loss=self.loss, blank=puzzles.family.blank_token,
            )  # fmt: skip
        self.generator = torch.Generator(device)
        carry = self.model.empty_carry(batch_size, dtype)
        # Answer, latent and, with a loop residual, log_sums.
        self.state, self.inputs = [tensor.clone() for tensor in carry.state], carry.inputs.clone()
        width = checkpoint.config.puzzle_size + self.colors[:1].numel()
        self.vectors = torch.zeros(batch_size, width, device=device)
        self.previous = torch.full(self.inputs.shape, _NO_TOKEN, dtype=torch.uint8, device=device)
        self.same = torch.zeros(batch_size, dtype=torch.int64, device=device)
        # Rows that `learned` would have ended, and how many steps it would have saved.
        self.over, self.spared = torch.zeros_like(carry.halted), torch.zeros_like(self.same[0])
        self.items = self.schedule.items(np.zeros(batch_size, np.int64))
        self.items.positions[:] = _IDLE
        self.steps = np.zeros(batch_size, np.int64)
        self.pending: list[Answers] = []
        # Answers so far, those of them that are not finite, and the number of first ones.
        self.answers, self.broken, self.enough = 0, 0, min(_FIRST_ANSWERS, self.work.left)
        # dynamic=None: the number of rows varies, at the end and with several canvases.
        notes = ready_blocks(
            self.model.blocks, hidden_size=checkpoint.config.hidden_size, dtype=dtype, device=device,
            threads=checkpoint.cpu_threads, compiled=settings.compile, dynamic=None,
        )  # fmt: skip
        self.notes = [f"{str(dtype).removeprefix('torch.')} on {device} ({reason})", *notes]

    @property
    def busy(self) -> NDArray[np.bool_]:
        """Which rows (B,) have an item."""
        busy: NDArray[np.bool_] = self.items.positions != _IDLE
        return busy

    @torch.inference_mode()
    def refill(self) -> bool:
        """Give each free row the next item and drop rows left without one; return whether any row remains."""
        free = np.flatnonzero(~self.busy)
        positions = self.work.take(len(free))
        if len(positions):
            self._admit(free[: len(positions)], self.schedule.items(positions))
        rows = np.flatnonzero(self.busy)
        if 0 < len(rows) < len(self.steps):
            where = torch.from_numpy(rows).to(self.device)
            for name in ("inputs", "vectors", "previous", "same", "over"):
                setattr(self, name, getattr(self, name)[where])
            self.state = [tensor[where] for tensor in self.state]
            if self.sampler:
                self.sampler.keep(where)
            self.steps, self.items = self.steps[rows], self.items[rows]
        return len(rows) > 0

    def _admit(self, slots: NDArray[np.intp], items: Items) -> None:
        """Put items into rows, at the initial state."""
        puzzles, model, table = self.puzzles, self.model, self.puzzles.tables_with_eos[2]
        transform = puzzles.transform(table, items.tests, items.puzzle_ids, items.variants)
        tokens = encode_grids(table, items.tests, transform)
        where = torch.from_numpy(slots).to(self.device)
        self.inputs[where] = torch.from_numpy(tokens.astype(np.int64)).to(self.device)
        vectors = self.rows_of(items.puzzle_ids)
        if len(self.colors):
            permutations = torch.from_numpy(puzzles.colors(items.puzzle_ids, items.variants).astype(np.int64))
            colors = self.colors[torch.from_numpy(puzzles.test_tasks[items.tests])]
            vectors = puzzle_vectors(vectors, colors, permutations.to(colors.device))
        self.vectors[where] = vectors.to(self.device)
        initial_state = (model.init_answer, model.init_latent, model.init_log_sums)
        for tensor, initial in zip(self.state, initial_state, strict=False):
            tensor[where] = initial.to(tensor.dtype)
        if self.sampler:
            self.sampler.admit(where, items.positions, self.inputs)
        self.previous[where] = _NO_TOKEN
        self.same[where], self.over[where] = 0, False
        self.steps[slots] = 0
        self.items[slots] = items

    @torch.inference_mode()
    def step(self) -> list[Answers]:
        """Compute one supervision step of all rows; return the answers of the rows that finished.

        Raises:  CheckpointError if none of the first answers is finite.
        """
        if self.plan.noise:
            noisy = np.flatnonzero(self.busy & (self.items.rollouts > 0))
            counters = (self.items.positions[noisy].astype(np.uint64), self.steps[noisy].astype(np.uint64))
            latent = self.state[1]
            noise = torch.empty(len(noisy), *latent.shape[1:], device=self.device)
            for row, bits in zip(noise, random_bits(self.plan.seed, *counters).tolist(), strict=True):
                row.normal_(0.0, self.plan.noise, generator=self.generator.manual_seed(bits))
            latent[torch.from_numpy(noisy).to(self.device)] += noise.to(latent.dtype)
        times = self.sampler.stir(self.steps, self.inputs) if self.sampler else None
        logits, halt_logit = self._recurse(times)
        if self.sampler:
            self.sampler.move(logits, self.inputs)
        self.steps += 1
        done = self.busy & ((self.steps >= self.plan.steps) | self._halted(logits, halt_logit))
        marked = self.busy & np.isin(self.steps, self.plan.marks)
        rows = np.flatnonzero(done | marked)
        if not len(rows):
            return []
        self.pending.append(self._read(rows, logits, halt_logit, done[rows]))
        # An item leaves with all its answers, those at its marks too.
        finished = self.items.positions[done]
        ready = [np.isin(answers.positions, finished) for answers in self.pending]
        parts = list(zip(self.pending, ready, strict=True))
        self.pending = [answers[~is_ready] for answers, is_ready in parts if not is_ready.all()]
        self.items.positions[done] = _IDLE
        return [answers[is_ready] for answers, is_ready in parts if is_ready.any()]

    def _recurse(self, times: Tensor | None) -> tuple[Tensor, Tensor]:
        """Take a supervision step of each row on its canvas; return logits (B, L, V), halt_logit (B,).

        Outside a smaller canvas all logits are 0, of which argmax takes the first: PAD.

        Args:  times: (B,) of the noisy answers, for a flow.
        """
        canvas, prefix = self.puzzles.canvas, self.model.config.prefix
        if (self.sides == canvas).all():
            answer, latent, logits, halt_logit, *log_sums = self.model(
                self.inputs, self.vectors, *self.state, **self._noisy(slice(None), canvas, times)
            )
            self.state = [answer, latent, *log_sums]
            return logits, halt_logit
        size, vocabulary = len(self.steps), self.model.vocabulary
        logits = self.state[0].new_zeros(size, canvas * canvas, vocabulary)
        halt_logit = torch.zeros(size, device=self.device)
        sides = np.where(self.busy, self.sides[self.puzzles.test_tasks[self.items.tests]], 0)
        for side in np.unique(sides[self.busy]).tolist():
            rows = torch.from_numpy(np.flatnonzero(sides == side)).to(self.device)
            before = (crop(tensor[rows], side, canvas, prefix) for tensor in self.state)
            inputs = crop(self.inputs[rows], side, canvas)
            answer, latent, corner, halt_logit[rows], *log_sums = self.model(
                inputs, self.vectors[rows], *before, **self._noisy(rows, side, times)
            )
            for tensor, after in zip(self.state, (answer, latent, *log_sums), strict=True):
                tensor[rows] = pad_back(after, side, canvas, prefix)
            logits[rows] = pad_back(corner, side, canvas)
        return logits, halt_logit

    def _noisy(self, rows: Tensor | slice, side: int, times: Tensor | None) -> dict[str, Tensor]:
        """Return the network's arguments for the noisy answers of a flow; none without a flow."""
        if self.sampler is None or times is None:
            return {}
        return {
            "noisy_BLV": crop(self.sampler.noisy[rows], side, self.puzzles.canvas),
            "times_B": times[rows],
        }

    def _halted(self, logits: Tensor, halt_logit: Tensor) -> NDArray[np.bool_]:
        """Return which rows (B,) the halting rule ends."""
        if self.plan.halt == "never" and (self.sampler or self.plan.steps <= 2):
            return np.zeros(len(self.steps), bool)
        tokens = logits.argmax(-1).to(torch.uint8)
        same = (tokens == self.previous).all(dim=1)
        self.previous, self.same = tokens, torch.where(same, self.same + 1, 0)
        halted = self.same >= STABLE_STEPS - 1 if self.plan.halt == "stable" else same & (halt_logit > 0)
        if self.plan.halt == "never":
            # Counted on the device; reading it back would make the host wait.
            self.spared += self.over.sum()
            self.over |= halted
            return np.zeros(len(self.steps), bool)
        on_cpu: NDArray[np.bool_] = halted.cpu().numpy()
        return on_cpu

    def _read(
        self, rows: NDArray[np.intp], logits: Tensor, halt_logit: Tensor, final: NDArray[np.bool_]
    ) -> Answers:
        """Return the answers of rows (M,); `final` (M,) says which are final, not at a mark.

        An answer that is not finite becomes one without a grid. If none of the first ones is finite, the
        checkpoint is broken.
        """
        where = torch.from_numpy(rows).to(self.device)
        logits, halt_logit = logits[where], halt_logit[where]
        # Check the logits: an infinite one can give finite probabilities.
        broken = ~(logits.isfinite().all(dim=(1, 2)) & halt_logit.isfinite())
        # Of equal logits, the best token is PAD: no grid. Its log probability and the one to halt are 0.
        logits = logits.masked_fill(broken[:, None, None], 0.0)
        halt_logit = halt_logit.masked_fill(broken, -torch.inf)
        tokens, log_probability = best_tokens(logits, self.loss)
        halt, log_mean, is_broken = torch.stack([halt_logit.sigmoid(), log_probability, broken]).cpu().numpy()
        self.answers += len(rows)
        self.broken += int(is_broken.sum())
        if self.broken == self.answers >= self.enough:
            raise CheckpointError(
                "its answers are not finite; choose an earlier one, train again, or compute in float32"
            )
        items, steps = self.items[rows], self.steps[rows]
        marks = np.searchsorted(self.plan.marks, steps)
        number = np.where(final, len(self.plan.marks), marks)
        orders = items.positions * self.plan.answers_each + number
        return Answers(
            **vars(items), orders=orders, tokens=tokens.cpu().numpy(), halt=halt, log_probability=log_mean,
            steps=steps,
        )  # fmt: skip


def best_tokens(logits: Tensor, loss: str) -> tuple[Tensor, Tensor]:
    """Return the best tokens (N, L), uint8, of logits (N, L, V), and the mean log of their probability.

    The mean (N,), float32, is over the tokens that are not PAD; it is 0 if all are PAD.

    Args:  loss: of the model's training.
    """
    tokens = logits.argmax(dim=-1)
    log_probability = probabilities(logits, loss).amax(dim=-1).log()
    cells = tokens != PAD
    mean = (log_probability * cells).sum(dim=1) / cells.sum(dim=1).clamp(min=1)
    return tokens.to(torch.uint8), mean
