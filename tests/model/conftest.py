"""What the tests of the model share."""

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Threads cost more than they bring on models this small."""
    torch.set_num_threads(1)
