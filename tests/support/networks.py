"""Small networks of ARC's tokens and what tests of the model ask of them."""

import torch
from torch import Tensor

from arcpipe.losses import step_loss
from arcpipe.model_config import TRMConfig
from arcpipe.trm import TRM, Carry

VOCABULARY = 12


def network(config: TRMConfig, num_tokens: int) -> TRM:
    """The network of a configuration, with the same random weights each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TRM(config, num_tokens, VOCABULARY)


def first_carry(model: TRM, inputs: Tensor, dtype: torch.dtype = torch.float32) -> Carry:
    """The carry of samples before their first step; their labels are their inputs."""
    empty = model.empty_carry(len(inputs), dtype)
    return model.admit(empty, inputs, inputs, torch.zeros(len(inputs)).long())


def gradients(model: TRM, logits: Tensor, halt_logit: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """The gradients of a step's loss by the names of the weights that have one."""
    model.zero_grad()
    step_loss(logits, halt_logit, labels).total.backward()
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
