"""What all tests share."""

from pathlib import Path

import pytest
from hypothesis import settings

# The same examples in every run and no deadline: a busy machine must not turn a test red.
settings.register_profile("arcpipe", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("arcpipe")


@pytest.fixture(scope="session")
def fixtures_dir() -> Path:
    """The folder of recorded numbers; its README.md explains them."""
    return Path(__file__).parent / "fixtures"
