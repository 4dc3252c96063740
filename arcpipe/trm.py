"""The Tiny Recursive Model (arXiv 2510.04871), figure 3 and the official `trm.py`.

Glossary, paper symbol or official name -> here:
    x    input embedding              -> input_BSD
    y    answer, official z_H         -> answer
    z    latent reasoning, z_L        -> latent
    T    H_cycles                     -> outer_cycles
    n    L_cycles                     -> inner_cycles
    N_sup, halt_max_steps             -> max_steps
    q    halting head, q_halt         -> halt_logit
    net                               -> TRM._network
    latent_recursion                  -> TRM._outer_cycle
    deep_recursion                    -> TRM.forward
    the loop over N_sup, ACT          -> Carry, TRM.admit and the trainer, one supervision step at a time

Shape letters: B batch, L grid tokens, P puzzle prefix tokens, S = P + L, D hidden, V vocabulary.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

from arcpipe.buckets import crop
from arcpipe.grid import NUM_COLORS
from arcpipe.layers import Block, Linear, LoopResidual, Rope, rope2d_tables, rope_tables, truncated_normal
from arcpipe.model_config import TRMConfig
from arcpipe.task_embedding import NUM_VIEWS, mix_views

_FLOAT32 = ("embed_tokens", "view_scores.", "residuals.", "embed_noisy", "embed_time.")
"""Weights that stay float32 whatever the dtype of the state."""


@dataclass(frozen=True)
class Carry:
    """The recursion's state between supervision steps, a row per sample.

    answer, latent: (B, S, D) in the compute dtype.
    steps: (B,) int64, supervision steps done.
    halted: (B,) bool, whether the row is finished and takes a new sample.
    inputs, labels: (B, L) int64.
    puzzle_ids: (B,) int64.
    colors: (B, 10) int64, the color permutation of each sample.
    log_sums: (B, S, 2) float32, for a loop residual: the log of the sum of weights in latent and answer.
    seeds: (B,) int64, for a flow: the seed of each sample's noise and times.
    predicted: (B, L, V) float32, for a flow: the probabilities after the previous step.
    """

    answer: Tensor
    latent: Tensor
    steps: Tensor
    halted: Tensor
    inputs: Tensor
    labels: Tensor
    puzzle_ids: Tensor
    colors: Tensor
    log_sums: Tensor | None = None
    seeds: Tensor | None = None
    predicted: Tensor | None = None

    @property
    def state(self) -> tuple[Tensor, ...]:
        """Return the initial state of a supervision step: answer, latent and log_sums, if any."""
        log_sums = () if self.log_sums is None else (self.log_sums,)
        return (self.answer, self.latent, *log_sums)

    def advance(
        self, answer: Tensor, latent: Tensor, halted: Tensor, log_sums: Tensor | None = None
    ) -> "Carry":
        """Return the carry after a supervision step; the recursion's state is detached."""
        return replace(
            self, answer=answer.detach(), latent=latent.detach(), steps=self.steps + 1, halted=halted,
            log_sums=None if log_sums is None else log_sums.detach(),
        )  # fmt: skip


class TRM(nn.Module):
    """One small network, applied recursively to a latent and an answer.

    The caller looks up the puzzle embeddings. Two supervision steps:

        answer, latent, logits, halt_logit = model(inputs, puzzles)
        answer, latent, logits, halt_logit = model(inputs, puzzles, answer, latent)
    """

    def __init__(self, config: TRMConfig, num_tokens: int, vocabulary: int) -> None:
        """Args:  num_tokens: L. vocabulary: V."""
        super().__init__()
        self.config, self.num_tokens, self.vocabulary = config, num_tokens, vocabulary
        # T and n of the next supervision step; training may start with fewer.
        self.cycles = (config.outer_cycles, config.inner_cycles)
        # Recompute the blocks' activations in the backward pass instead of storing them.
        self.recompute = False
        size, total = config.hidden_size, config.prefix + num_tokens
        self.embed_scale = math.sqrt(size)
        self.embed_tokens = nn.Parameter(truncated_normal(vocabulary, size, std=1 / self.embed_scale))
        side = math.isqrt(num_tokens)
        if config.positions == "learned":
            self.embed_positions = nn.Parameter(truncated_normal(total, size, std=1 / self.embed_scale))
        elif config.positions == "rope2d+learned":
            # The sum of a row and a column has the deviation of a token embedding.
            std = math.sqrt(0.5) / self.embed_scale
            self.embed_rows = nn.Parameter(truncated_normal(side, size, std=std))
            self.embed_columns = nn.Parameter(truncated_normal(side, size, std=std))
        self.blocks = nn.ModuleList(
            Block(config, total) for _ in range(config.num_layers * (2 if config.separate_networks else 1))
        )
        if config.loop_residual:
            self.residuals = nn.ModuleList([LoopResidual(size), LoopResidual(size)])
        if config.flow:
            self.embed_noisy = nn.Parameter(truncated_normal(vocabulary, size, std=1 / self.embed_scale))
            self.embed_input = Linear(size, size)
            self.embed_time = nn.Sequential(nn.Linear(1, size), nn.SiLU(), nn.Linear(size, size))
        if config.views:
            self.view_scores = nn.Linear(size, NUM_VIEWS)
            # Large, so that a row learns its choice within few steps; the unchanged grid starts with 3/4.
            nn.init.trunc_normal_(self.view_scores.weight, std=6 / self.embed_scale)
            nn.init.zeros_(self.view_scores.bias)
            nn.init.constant_(self.view_scores.bias[:1], math.log(3 * (NUM_VIEWS - 1)))
        if not config.tied_head:
            self.output_head = Linear(size, vocabulary)
        # Row 0 is the halt logit. Row 1 is the continue logit, which the official code does not train.
        self.halt_head = nn.Linear(size, 2)
        nn.init.zeros_(self.halt_head.weight)
        nn.init.constant_(self.halt_head.bias, -5.0)
        self.init_answer: Tensor = nn.Buffer(truncated_normal(size, std=1.0))
        self.init_latent: Tensor = nn.Buffer(truncated_normal(size, std=1.0))
        # Log of 0: the initial state has no weight in the means of a loop residual.
        self.init_log_sums: Tensor = nn.Buffer(torch.full((2,), -math.inf), persistent=False)
        head_size = size // config.num_heads
        if config.positions.startswith("rope2d"):
            cos, sin = rope2d_tables(side, config.prefix, head_size, config.rope_theta)
        else:
            cos, sin = rope_tables(total, head_size, config.rope_theta)
        self.rope_cos: Tensor = nn.Buffer(cos, persistent=False)
        self.rope_sin: Tensor = nn.Buffer(sin, persistent=False)

    def empty_carry(self, batch_size: int, dtype: torch.dtype = torch.float32) -> Carry:
        """Return a carry with all rows halted, so that each takes a sample at the first `admit`."""
        device = self.init_answer.device
        total = self.config.prefix + self.num_tokens
        state = torch.zeros(batch_size, total, self.config.hidden_size, dtype=dtype, device=device)
        tokens = torch.zeros(batch_size, self.num_tokens, dtype=torch.int64, device=device)
        zeros = torch.zeros(batch_size, dtype=torch.int64, device=device)
        colors = torch.arange(NUM_COLORS, device=device).repeat(batch_size, 1)
        halted = torch.ones_like(zeros, dtype=torch.bool)
        log_sums = self.init_log_sums.repeat(batch_size, total, 1) if self.config.loop_residual else None
        seeds, predicted = None, None
        if self.config.flow:
            seeds, predicted = zeros, torch.zeros(*tokens.shape, self.vocabulary, device=device)
        return Carry(state, state, zeros, halted, tokens, tokens, zeros, colors, log_sums, seeds, predicted)

    def admit(
        self, carry: Carry, inputs: Tensor, labels: Tensor, puzzle_ids: Tensor, colors: Tensor | None = None,
        seeds: Tensor | None = None,
    ) -> Carry:  # fmt: skip
        """Return the carry with each halted row replaced by the same row of the batch, in the initial state.

        Args:  colors: None for a network without colors; the carry keeps its own. seeds: for a flow.
        """
        fresh = {
            "answer": self.init_answer.to(carry.answer.dtype), "steps": torch.zeros_like(carry.steps),
            "latent": self.init_latent.to(carry.latent.dtype), "log_sums": self.init_log_sums,
            "inputs": inputs, "labels": labels, "puzzle_ids": puzzle_ids, "colors": colors, "seeds": seeds,
        }  # fmt: skip
        admitted: dict[str, Any] = {}
        for name, new in fresh.items():
            old = getattr(carry, name)
            if new is not None and old is not None:
                is_new = carry.halted.view(-1, *[1] * (old.dim() - 1))
                admitted[name] = torch.where(is_new, new, old)
        return replace(carry, halted=torch.zeros_like(carry.halted), **admitted)

    def forward(
        self, inputs_BL: Tensor, puzzles: Tensor, answer_BSD: Tensor | None = None,
        latent_BSD: Tensor | None = None, log_sums_BS2: Tensor | None = None,
        noisy_BLV: Tensor | None = None, times_B: Tensor | None = None,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """Take one supervision step: T outer cycles, the gradient through the last one only.

        Computes in the dtype of `answer_BSD`; the float32 weights are cast here, once. On a smaller canvas L
        is smaller, with tokens and state from `crop`.

        Args:    inputs_BL: tokens, int. puzzles: (B, puzzle_size) rows of the embedding table, float32; with
                 embedding task (B, 21 * D) from `puzzle_vectors`.
                 answer_BSD, latent_BSD, and for a loop residual log_sums_BS2: from the previous step; None
                 for the initial state in float32.
                 noisy_BLV, times_B: the noisy answer of a flow and its time, float32.
        Returns: answer and latent (B, S, D), logits (B, L, V), halt_logit (B,) float32; for a loop residual
                 also log_sums (B, S, 2) float32.
        """
        shape = (len(inputs_BL), self.config.prefix + inputs_BL.shape[1], self.config.hidden_size)
        answer_BSD = self.init_answer.expand(shape) if answer_BSD is None else answer_BSD
        latent_BSD = self.init_latent.expand(shape) if latent_BSD is None else latent_BSD
        dtype = answer_BSD.dtype
        if self.halt_head.weight.dtype != dtype:
            weights = {
                name: weight.to(dtype)
                for name, weight in self.named_parameters()
                if not name.startswith(_FLOAT32)
            }
            state = (answer_BSD, latent_BSD, log_sums_BS2, noisy_BLV, times_B)
            outputs: tuple[Tensor, ...] = functional_call(self, weights, (inputs_BL, puzzles, *state))
            return outputs
        input_BSD = self._embed(inputs_BL, puzzles, noisy_BLV)
        if times_B is not None:
            input_BSD = input_BSD + self.embed_time(times_B[:, None])[:, None].to(dtype)
        rope = None
        if self.config.positions.startswith("rope"):
            rope = (self._places(self.rope_cos, shape[1]), self._places(self.rope_sin, shape[1]))
        log_sums: list[Tensor] = []
        if self.config.loop_residual:
            log_sums_BS2 = self.init_log_sums.expand(*shape[:2], 2) if log_sums_BS2 is None else log_sums_BS2
            log_sums = list(log_sums_BS2.unbind(-1))
        with torch.no_grad():
            for _ in range(self.cycles[0] - 1):
                answer_BSD, latent_BSD = self._outer_cycle(input_BSD, answer_BSD, latent_BSD, log_sums, rope)
        answer_BSD, latent_BSD = self._outer_cycle(input_BSD, answer_BSD, latent_BSD, log_sums, rope)
        logits_BLV = self._head(answer_BSD[:, self.config.prefix :], puzzles)
        use_mean = not self.config.prefix and self.config.embedding == "task"
        halt_logit_B = self.halt_head(answer_BSD.mean(dim=1) if use_mean else answer_BSD[:, 0])[:, 0]
        outputs = (answer_BSD, latent_BSD, logits_BLV, halt_logit_B.float())
        return (*outputs, torch.stack(log_sums, dim=-1)) if log_sums else outputs

    def _head(self, answer_BLD: Tensor, puzzles: Tensor) -> Tensor:
        """Return the logits (B, L, V)."""
        tied = self.config.tied_head
        weight_VD = self.embed_tokens.to(answer_BLD.dtype) if tied else self.output_head.weight
        logits_BLV = nn.functional.linear(answer_BLD, weight_VD)
        if self.config.embedding == "task":
            colors_BVD = self._color_vectors(puzzles, 1, answer_BLD.dtype)
            logits_BLV = logits_BLV + answer_BLD @ colors_BVD.mT / self.embed_scale
        return logits_BLV

    def _color_vectors(self, puzzles: Tensor, which: int, dtype: torch.dtype) -> Tensor:
        """Return vectors (B, V, D) of the tokens as inputs (`which` 0) or outputs (1); 0 for PAD and EOS."""
        size = self.config.hidden_size
        colors_BKD = puzzles[:, size:].unflatten(1, (2, NUM_COLORS, size))[:, which].to(dtype)
        return nn.functional.pad(colors_BKD, (0, 0, self.vocabulary - NUM_COLORS, 0))

    def _embed(self, inputs_BL: Tensor, puzzles: Tensor, noisy_BLV: Tensor | None = None) -> Tensor:
        """Return x (B, S, D): the puzzle prefix and the tokens, scaled to unit deviation."""
        dtype, tokens_VD = self.halt_head.weight.dtype, self.embed_tokens
        is_task = self.config.embedding == "task"
        shares_BLV = self._token_shares(inputs_BL, puzzles) if is_task else inputs_BL
        # In float32, because the gradient of a token sums over all its cells, thousands of them for PAD.
        x_BSD = shares_BLV @ tokens_VD if self.config.views else nn.functional.embedding(inputs_BL, tokens_VD)
        x_BSD = x_BSD.to(dtype)
        if noisy_BLV is not None:
            x_BSD = self.embed_input(x_BSD) + (noisy_BLV @ self.embed_noisy).to(dtype)
        if is_task:
            return self._embed_task(shares_BLV.to(dtype), x_BSD, puzzles)
        if self.config.prefix:
            padding = self.config.prefix * self.config.hidden_size - self.config.puzzle_size
            prefix = nn.functional.pad(puzzles.to(x_BSD.dtype), (0, padding))
            x_BSD = torch.cat((prefix.view(-1, self.config.prefix, self.config.hidden_size), x_BSD), dim=1)
        return self.embed_scale * self._add_places(x_BSD)

    def _token_shares(self, inputs_BL: Tensor, puzzles: Tensor) -> Tensor:
        """Return the share of each token in each cell (B, L, V): one-hot, or a mixture of views."""
        if not self.config.views:
            return nn.functional.one_hot(inputs_BL, self.vocabulary).to(puzzles.dtype)
        shares_BN = self.view_scores(puzzles[:, : self.config.hidden_size]).softmax(dim=-1)
        return mix_views(inputs_BL, shares_BN, self.vocabulary)

    def _embed_task(self, shares_BLV: Tensor, tokens_BLD: Tensor, puzzles: Tensor) -> Tensor:
        """Return x (B, S, D): each cell plus the vector of its color and the row of task and dihedral."""
        colors_BLD = shares_BLV @ self._color_vectors(puzzles, 0, tokens_BLD.dtype)
        cells_BLD = math.sqrt(0.5) * (tokens_BLD + colors_BLD / self.embed_scale)
        row_BD = puzzles[:, : self.config.hidden_size].to(tokens_BLD.dtype)
        if self.config.prefix:
            prefix_B1D = row_BD[:, None] / self.embed_scale
            prefix_BPD = nn.functional.pad(prefix_B1D, (0, 0, 0, self.config.prefix - 1))
            cells_BLD = torch.cat((prefix_BPD, cells_BLD), dim=1)
        return self.embed_scale * self._add_places(cells_BLD) + row_BD[:, None]

    def _add_places(self, x_BSD: Tensor) -> Tensor:
        """Return tokens (B, S, D) plus their position embeddings, if any."""
        if self.config.positions == "learned":
            places_SD = self._places(self.embed_positions, x_BSD.shape[1])
        elif self.config.positions == "rope2d+learned":
            side = math.isqrt(x_BSD.shape[1] - self.config.prefix)
            places_LD = (self.embed_rows[:side, None] + self.embed_columns[None, :side]).flatten(0, 1)
            places_SD = nn.functional.pad(places_LD, (0, 0, self.config.prefix, 0))
        else:
            return x_BSD
        return math.sqrt(0.5) * (x_BSD + places_SD)

    def _places(self, table: Tensor, total: int) -> Tensor:
        """Return the rows of a position table that belong to a canvas of S tokens."""
        side, canvas = math.isqrt(total - self.config.prefix), math.isqrt(self.num_tokens)
        return crop(table[None], side, canvas, self.config.prefix)[0]

    def _outer_cycle(
        self, input_BSD: Tensor, answer_BSD: Tensor, latent_BSD: Tensor, log_sums: list[Tensor],
        rope: Rope | None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Update the latent n times from input, answer and latent, then the answer once."""
        injection_BSD = answer_BSD + input_BSD
        for _ in range(self.cycles[1]):
            if self.config.one_step_gradient:
                latent_BSD = latent_BSD.detach()
                log_sums[:1] = [log_sum.detach() for log_sum in log_sums[:1]]
            latent_BSD = self._update(0, latent_BSD, injection_BSD, log_sums, rope)
        return self._update(1, answer_BSD, latent_BSD, log_sums, rope), latent_BSD

    def _update(
        self, which: int, state_BSD: Tensor, injection_BSD: Tensor, log_sums: list[Tensor], rope: Rope | None
    ) -> Tensor:
        """Return the updated latent (`which` 0) or answer (1); with a loop residual also update log_sums."""
        first = which * (len(self.blocks) - self.config.num_layers)
        proposal_BSD = self._network(first, state_BSD, injection_BSD, rope)
        if not log_sums:
            return proposal_BSD
        state_BSD, log_sums[which] = self.residuals[which](state_BSD, proposal_BSD, log_sums[which])
        return state_BSD

    def _network(self, first: int, state_BSD: Tensor, injection_BSD: Tensor, rope: Rope | None) -> Tensor:
        """Apply net to the sum of its two inputs: a stack of blocks, beginning with block `first`."""
        x_BSD = state_BSD + injection_BSD
        for number in range(first, first + self.config.num_layers):
            block = self.blocks[number]
            if self.recompute and torch.is_grad_enabled():
                # With the current weights, because in the backward pass they are no longer cast.
                weights = dict(block.named_parameters())
                recomputed = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
                x_BSD = recomputed(functional_call, block, weights, (x_BSD, rope))
            else:
                x_BSD = block(x_BSD, rope)
        return x_BSD
