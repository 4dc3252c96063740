"""Operations, counted by hand from the configuration, against torch's own count of a real step."""

import pytest
from accelerate import Accelerator
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from arcpipe.devices import train_step_flops
from arcpipe.model_config import TRMConfig
from arcpipe.recipe import load_recipe
from arcpipe.train.config import TrainSettings
from arcpipe.train.step import train_step
from steps import NUM_TOKENS, VOCABULARY, fresh_state, random_batch

CONFIGS = {
    "attention": TRMConfig(
        hidden_size=16, num_heads=2, outer_cycles=3, inner_cycles=2, puzzle_size=20, puzzle_tokens=2
    ),
    "mlp": TRMConfig(
        mixer="mlp", positions="none", hidden_size=16, num_heads=2, num_layers=1, expansion=2.0,
        outer_cycles=2, inner_cycles=3, puzzle_size=0,
    ),
}  # fmt: skip
BATCH = 4


@pytest.mark.parametrize("config", CONFIGS.values(), ids=list(CONFIGS))
def test_a_training_step_takes_as_many_as_torch_counts(config: TRMConfig) -> None:
    state = fresh_state(BATCH, config=config)
    settings = TrainSettings(batch_size=BATCH, optimizer="adamw")
    # Only for this kernel torch counts the exact number of products.
    with FlopCounterMode(display=False) as counted, sdpa_kernel(SDPBackend.MATH):
        train_step(state, random_batch(BATCH), settings, 1.0, Accelerator(cpu=True))
    # Of both heads, which `train_step_flops` leaves out.
    heads = 2 * config.hidden_size * (NUM_TOKENS * VOCABULARY + 2)
    expected = train_step_flops(config, NUM_TOKENS) + 3 * heads
    assert counted.get_total_flops() == BATCH * expected


def test_a_step_of_the_papers_models_at_their_batch() -> None:
    tera = {
        recipe: 768 * train_step_flops(load_recipe(recipe).settings("model", TRMConfig), num_tokens) / 1e12
        for recipe, num_tokens in (("arc-agi-1", 900), ("sudoku-extreme", 81))
    }
    assert tera == {
        "arc-agi-1": pytest.approx(305.7, abs=0.1), "sudoku-extreme": pytest.approx(32.8, abs=0.1),
    }  # fmt: skip
