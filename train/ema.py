"""The exponential moving average of a network's weights."""

import torch
from torch import Tensor, nn


class EMA:
    """Float32 averages of a module's parameters: average += (1 - decay) * (weight - average).

    They are float32 whatever the compute dtype: in bfloat16, 1 - 0.999 would vanish.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.names = [name for name, _ in module.named_parameters()]
        self._weights: list[Tensor] = list(module.parameters())
        self.averages = [weight.detach().float().clone() for weight in self._weights]

    @torch.no_grad()
    def update(self) -> None:
        """Move the averages toward the module's weights."""
        weights = [weight.float() for weight in self._weights]
        torch._foreach_lerp_(self.averages, weights, 1 - self.decay)

    def state_dict(self) -> dict[str, Tensor]:
        """The averages by parameter name."""
        return dict(zip(self.names, self.averages, strict=True))

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take averages over from `state_dict`."""
        for name, average in self.state_dict().items():
            average.copy_(state[name])
